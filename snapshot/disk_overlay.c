/* SPDX-License-Identifier: Apache-2.0
 *
 * What a file is that lies where an overlay of ours would: whether it is one, whether the guest wrote to it, and whether what is
 * below it was written to since.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <sys/stat.h>

static int is_over(const char *path, const struct qcow2 *q, const char *base, bool *over, struct error *e)
{
	AUTO_FREE char *below = image_backing_path(path, q->backing_name, e);

	if (!below)
		return -1;
	*over = disk_same_file(below, base);
	return 0;
}

/* Of its own, a word that something reads as zeros is a write, too. */
static int has_clusters(struct chain *c, bool *has, struct error *e)
{
	struct walk *w;
	struct extent x = {.kind = EXTENT_ABSENT};
	int failed = walk_new(&w, c, 1, 0, e);

	if (failed)
		return -1;
	for (uint64_t at = 0; !failed && at < c->size && x.kind == EXTENT_ABSENT; at += x.len)
		failed = walk_extent(w, at, c->size, &x, e);
	walk_free(w);
	*has = x.kind != EXTENT_ABSENT || c->layers[0].q->snapshot_count;
	return failed ? -1 : 0;
}

int disk_overlay_holds(const char *path, const char *base, enum disk_overlay *out, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;
	bool over = false, has = false;
	struct stat st;

	*out = OVERLAY_OTHER;
	if (stat(path, &st)) {
		*out = OVERLAY_GONE;
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
	}
	if (S_ISREG(st.st_mode) && !st.st_size) { /* a hypervisor makes the file first */
		*out = OVERLAY_EMPTY;
		return 0;
	}
	if (disk_look(path, DRIVER_QCOW2, &c, e))
		return e->code == ERR_CORRUPT || e->code == ERR_UNSUPPORTED ? 0 : -1;
	const struct qcow2 *q = c->layers[0].q;

	if (has_clusters(c, &has, e) || (q->backing_name && is_over(path, q, base, &over, e)))
		return -1;
	if (over)
		*out = has ? OVERLAY_HOLDS : OVERLAY_EMPTY;
	else if (!q->backing_name && !has) /* the name of the base comes last */
		*out = OVERLAY_EMPTY;
	return 0;
}

int disk_is_newer(const char *path, const char *than, struct error *e)
{
	struct stat a, b;

	if (stat(path, &a))
		return err_sys(e, errno, "%s", path);
	if (stat(than, &b))
		return err_sys(e, errno, "%s", than);
	if (!S_ISREG(a.st_mode) || !S_ISREG(b.st_mode))
		return err_set(e, ERR_UNSUPPORTED, "%s: a device does not tell when it was written to", path);
	return a.st_mtim.tv_sec != b.st_mtim.tv_sec ? a.st_mtim.tv_sec > b.st_mtim.tv_sec
						    : a.st_mtim.tv_nsec > b.st_mtim.tv_nsec;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade's changes: bytes, zeros, discards, internal snapshots. A qcow2 image has an editor on its top layer, a raw one is its
 * file.
 */
#include "lib/internal.h"

#include <time.h>

int lib_begin_changes(struct qsnap_image *i, struct error *e)
{
	const struct layer *top = &i->chain->layers[0];
	i->writable = true;
	if (top->q)
		return edited_open(&i->top, i->chain, 0, NULL, e);
	if (top->probed)
		return err_set(e, ERR_USAGE, "%s looks raw, but a guest may have made it look so: say its format",
			top->path);
	return 0;
}

int lib_settle(struct qsnap_image *i, struct error *e)
{
	if (i->top.ed && edit_flush(i->top.ed, e) < 0)
		return -1;
	walk_free(STEAL(i->walk));
	i->stale = false;
	return 0;
}

int lib_threads(int asked, unsigned *out, struct error *e)
{
	if (asked < -1 || asked > 256)
		return err_set(e, ERR_USAGE, "%d threads: 256 are the most", asked);
	*out = asked > 0 ? (unsigned)asked : asked < 0 ? 0 : pool_cpu_count();
	return 0;
}

static int check_range(const struct qsnap_image *i, uint64_t guest, uint64_t length, struct error *e)
{
	uint64_t end;
	if (!i->writable)
		return err_set(e, ERR_USAGE, "the image is not open for writing");
	if (i->top_only)
		return err_set(e, ERR_USAGE, "the image was opened without its backing file");
	if (add_overflows(guest, length, &end) || end > i->chain->size)
		return err_set(e, ERR_USAGE, "the range is not on the disk");
	return 0;
}

static int done(struct qsnap_image *i, int rc, const struct error *e, struct qsnap_error *error)
{
	i->stale = true;
	return rc < 0 ? lib_failed(error, e) : 0;
}

int qsnap_write(qsnap_image *image, const void *buffer, size_t length, uint64_t guest, struct qsnap_error *error)
{
	struct error e;
	int rc = check_range(image, guest, length, &e);
	if (rc == 0 && length)
		rc = image->top.ed ? edit_write(image->top.ed, buffer, length, guest, &e)
				   : io_write(image->chain->layers[0].file, buffer, length, guest, &e);
	return done(image, rc, &e, error);
}

int qsnap_zero(qsnap_image *image, uint64_t guest, uint64_t length, unsigned flags, struct qsnap_error *error)
{
	struct error e;
	const bool unmap = flags & QSNAP_ZERO_UNMAP;
	int rc = check_range(image, guest, length, &e);
	if (rc == 0 && (flags & ~(unsigned)QSNAP_ZERO_UNMAP))
		rc = err_set(&e, ERR_UNSUPPORTED, "a flag is newer than libqsnap %s", QSNAP_VERSION);
	if (rc == 0 && length)
		rc = image->top.ed
			     ? edit_zero(image->top.ed, guest, length, unmap ? EDIT_MAY_UNMAP : 0, &e)
			     : io_zero(image->chain->layers[0].file, guest, length, unmap ? IO_ZERO_UNMAP : 0, &e);
	return done(image, rc, &e, error);
}

int qsnap_discard(qsnap_image *image, uint64_t guest, uint64_t length, struct qsnap_error *error)
{
	struct error e;
	int rc = check_range(image, guest, length, &e);
	if (rc == 0 && length)
		rc = image->top.ed ? edit_discard(image->top.ed, guest, length, &e)
				   : io_zero(image->chain->layers[0].file, guest, length, IO_ZERO_UNMAP, &e);
	return done(image, rc, &e, error);
}

int qsnap_flush(qsnap_image *image, struct qsnap_error *error)
{
	struct error e;
	if (!image->writable)
		return lib_misused(error, "the image is not open for writing");
	if ((image->top.ed ? edit_flush(image->top.ed, &e) : io_flush(image->chain->layers[0].file, &e)) < 0)
		return lib_failed(error, &e);
	return 0;
}

int qsnap_finish(qsnap_image *image, struct qsnap_error *error)
{
	struct error e;
	if (!image->writable)
		return 0;
	if (qsnap_flush(image, error) < 0)
		return -1;
	image->writable = false;
	int rc = edited_close(&image->top, &e);
	walk_free(STEAL(image->walk));
	image->stale = false;
	return rc < 0 ? lib_failed(error, &e) : 0;
}

/* ---- snapshots ---- */

static int begin_snapshots(struct qsnap_image *i, const struct qsnap_snapshot_options *o, unsigned *threads,
	struct error *e)
{
	if (!i->writable)
		return err_set(e, ERR_USAGE, "the image is not open for writing");
	if (!i->top.ed)
		return err_set(e, ERR_UNSUPPORTED, "a raw image has no snapshots");
	if (o->flags & ~(unsigned)QSNAP_SNAPSHOT_WIDEN)
		return err_set(e, ERR_UNSUPPORTED, "a snapshot flag is newer than libqsnap %s", QSNAP_VERSION);
	return lib_threads(o->threads, threads, e);
}

int lib_find_snapshot(const struct qcow2 *q, const char *name, struct error *e)
{
	return qcow2_snapshot_find(q, &(struct snapshot_query){.any = name, .refuse_ambiguous = true}, e);
}

static int create(struct edit *ed, const char *name, bool widen, unsigned threads, struct error *e)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	const struct snapshot_new n = {.name = name,
		.date_sec = (uint32_t)now.tv_sec,
		.date_nsec = (uint32_t)now.tv_nsec,
		.icount = UINT64_MAX,
		.widen = widen,
		.threads = threads};
	return edit_snapshot_create(ed, &n, e);
}

enum act { CREATE, APPLY, DELETE };

static int act(struct qsnap_image *i, enum act what, const char *name, const struct qsnap_snapshot_options *o,
	struct error *e)
{
	struct layer *top = &i->chain->layers[0];
	struct edit *ed = i->top.ed;
	const bool widen = o->flags & QSNAP_SNAPSHOT_WIDEN;
	unsigned threads;
	int index = 0, rc;
	if (begin_snapshots(i, o, &threads, e) < 0)
		return -1;
	if (what != CREATE)
		index = lib_find_snapshot(top->q, name, e);
	if (index < 0)
		return -1;
	if (what == CREATE)
		rc = create(ed, name, widen, threads, e);
	else if (what == APPLY)
		rc = edit_snapshot_apply(ed, (uint32_t)index, widen, threads, e);
	else
		rc = edit_snapshot_delete(ed, (uint32_t)index, threads, e);
	i->chain->size = top->size;
	return rc < 0 ? -1 : edit_flush(ed, e);
}

static int change_snapshots(struct qsnap_image *i, enum act what, const char *name,
	const struct qsnap_snapshot_options *options, struct qsnap_error *error)
{
	struct qsnap_snapshot_options o;
	struct error e;
	if (lib_take_options(&o, sizeof o, options, error) < 0)
		return -1;
	const int rc = act(i, what, name, &o, &e);
	if (rc < 0)
		err_prefix(&e, "%s", i->chain->layers[0].path);
	return done(i, rc, &e, error);
}

int qsnap_snapshot_create(qsnap_image *image, const char *name, const struct qsnap_snapshot_options *options,
	struct qsnap_error *error)
{
	return change_snapshots(image, CREATE, name, options, error);
}

int qsnap_snapshot_apply(qsnap_image *image, const char *name, const struct qsnap_snapshot_options *options,
	struct qsnap_error *error)
{
	return change_snapshots(image, APPLY, name, options, error);
}

int qsnap_snapshot_delete(qsnap_image *image, const char *name, const struct qsnap_snapshot_options *options,
	struct qsnap_error *error)
{
	return change_snapshots(image, DELETE, name, options, error);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Our own engine on a disk's file. Formats are what the definition says: a disk that a guest writes to is never probed, and
 * no name inside it opens a file that the domain does not have.
 */
#include "qcow2/edit.h"
#include "snapshot/internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

int disk_identity(const char *path, uint64_t *dev, uint64_t *ino, struct error *e)
{
	struct stat st;

	if (stat(path, &st))
		return err_sys(e, errno, "%s", path);
	*dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	*ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	return 0;
}

bool disk_same_file(const char *a, const char *b)
{
	uint64_t dev[2], ino[2];
	struct error e;

	if (strcmp(a, b) == 0)
		return true;
	return !disk_identity(a, &dev[0], &ino[0], &e) && !disk_identity(b, &dev[1], &ino[1], &e) && dev[0] == dev[1] &&
	       ino[0] == ino[1];
}

/* Where the definition does not tell the chain, the hypervisor itself follows the header's names, but guesses no format. */
static int allow(void *ctx, const char *path, enum image_format *format, struct error *e)
{
	const struct part *p = ctx;

	for (unsigned i = 0; i < p->below_count; i++) {
		if (!p->below[i].path || !disk_same_file(p->below[i].path, path))
			continue;
		if (p->below[i].format == DRIVER_FORMAT_OTHER)
			return err_set(e, ERR_UNSUPPORTED, "%s: a format that is not known here", path);
		*format = p->below[i].format == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2;
		return 0;
	}
	if (p->whole_chain)
		return err_set(e, ERR_DENIED, "%s: the domain's disk %s does not have this file", path,
			p->disk->target);
	return *format != IMAGE_AUTO
		       ? 0
		       : err_set(e, ERR_DENIED, "%s: neither the definition nor the image above says its format", path);
}

void disk_chain_opts(const struct part *p, struct chain_opts *opts)
{
	*opts = (struct chain_opts){.format = p->format == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2,
		.lock = p->snapshot ? IO_LOCK_SHARED : IO_LOCK_READ,
		.allow = allow,
		.allow_ctx = (void *)p};
}

int disk_open_to_change(const char *path, enum io_lock_mode lock, struct chain **out, struct error *e)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .write = true, .lock = lock};

	return chain_open(out, path, &opts, e);
}

static struct snapshot_new describe(const char *name, const char *id, int64_t created, uint32_t nsec)
{
	return (struct snapshot_new){.name = name,
		.id = id,
		.date_sec = (uint32_t)created,
		.date_nsec = nsec,
		.icount = UINT64_MAX,
		.widen = true,
		.threads = pool_cpu_count()};
}

int disk_snapshot_create(struct layer *l, const char *name, int64_t created, uint32_t nsec, struct error *e)
{
	const struct snapshot_new n = describe(name, NULL, created, nsec);
	struct edit *ed;
	struct error later;

	if (edit_open(&ed, l, &(struct edit_opts){0}, e))
		return -1;
	int failed = edit_snapshot_create(ed, &n, e);

	return edit_close(ed, failed ? &later : e) || failed ? -1 : 0;
}

/* `deed` with the number of the only snapshot `name` (`id` NULL: of any number) in the file. */
static int change(const char *path, enum io_lock_mode lock, const char *name, const char *id,
	int (*deed)(struct edit *ed, uint32_t index, const struct snapshot_new *present, struct error *e),
	const struct snapshot_new *present, struct error *e)
{
	const struct snapshot_query q = {.name = name, .id = id, .refuse_ambiguous = true};
	AUTO_CHAIN struct chain *c = NULL;
	struct edit *ed;
	struct error later;

	if (disk_open_to_change(path, lock, &c, e) || edit_open(&ed, &c->layers[0], &(struct edit_opts){0}, e))
		return -1;
	int index = qcow2_snapshot_find(c->layers[0].q, &q, e);
	int failed = index < 0 || deed(ed, (uint32_t)index, present, e);

	return edit_close(ed, failed ? &later : e) || failed ? -1 : 0;
}

static int delete_it(struct edit *ed, uint32_t index, const struct snapshot_new *present, struct error *e)
{
	(void)present;
	return edit_snapshot_delete(ed, index, pool_cpu_count(), e);
}

int disk_snapshot_delete(const char *path, enum io_lock_mode lock, const char *name, const char *id, struct error *e)
{
	return change(path, lock, name, id, delete_it, NULL, e);
}

static int apply_it(struct edit *ed, uint32_t index, const struct snapshot_new *present, struct error *e)
{
	return present ? edit_snapshot_switch(ed, index, present, e)
		       : edit_snapshot_apply(ed, index, true, pool_cpu_count(), e);
}

int disk_snapshot_apply(const char *path, enum io_lock_mode lock, const char *name, const char *id, struct error *e)
{
	return change(path, lock, name, id, apply_it, NULL, e);
}

int disk_snapshot_next_id(const char *path, char id[SNAPSHOT_ID_CHARS], struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	if (disk_look(path, DRIVER_QCOW2, &c, e))
		return -1;
	snapshot_next_id(c->layers[0].q, id);
	return 0;
}

int disk_snapshot_switch(const char *path, enum io_lock_mode lock, const char *name, const char *id,
	const char *present, const char *present_id, int64_t created, struct error *e)
{
	const struct snapshot_new n = describe(present, present_id, created, 0);

	return change(path, lock, name, id, apply_it, &n, e);
}

int disk_look(const char *path, enum driver_format format, struct chain **out, struct error *e)
{
	const struct chain_opts opts = {.format = format == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2,
		.no_backing = true,
		.inspect = true,
		.lock = IO_LOCK_SHARED};

	return chain_open(out, path, &opts, e);
}

int disk_snapshot_find(const char *path, const char *name, char **id, int64_t *date, struct error *e)
{
	const struct snapshot_query q = {.name = name};
	AUTO_CHAIN struct chain *c = NULL;

	if (disk_look(path, DRIVER_QCOW2, &c, e))
		return -1;
	int index = qcow2_snapshot_find(c->layers[0].q, &q, e);

	if (index < 0)
		return e->code == ERR_NOT_FOUND ? 0 : -1;
	*date = c->layers[0].q->snapshots[index].entry.date_sec;
	*id = mem_strdup(c->layers[0].q->snapshots[index].id, e);
	return *id ? 1 : -1;
}

int disk_tables(const char *path, uint64_t *tables, uint64_t *table_bytes, struct error *e)
{
	enum { WINDOW = 65536 };
	AUTO_CHAIN struct chain *c = NULL;
	AUTO_FREE uint8_t *l1 = mem_calloc(1, WINDOW, "L1 table", e);

	if (!l1 || disk_look(path, DRIVER_QCOW2, &c, e))
		return -1;
	const struct qcow2 *q = c->layers[0].q;
	uint64_t bytes = (uint64_t)q->l1_entries * 8;

	*tables = 0;
	*table_bytes = 1ull << q->h.cluster_bits;
	for (uint64_t at = 0; at < bytes; at += WINDOW) {
		size_t len = (size_t)min_u64(WINDOW, bytes - at);

		if (io_read_exact(c->layers[0].file, l1, len, q->l1_offset + at, "L1 table", e))
			return -1;
		for (size_t i = 0; i < len; i += 8)
			*tables += get_be64(l1 + i) != 0;
	}
	return 0;
}

int disk_commit(const struct trace *t, struct chain **held, enum driver_format *base_format, struct error *e)
{
	const struct driver_disk disk = {.target = t->target};
	const struct part below = {
		.disk = &disk, .below = t->images, .below_count = t->image_count, .whole_chain = true};
	const struct chain_opts opts = {.format = IMAGE_QCOW2,
		.write = true,
		.write_layer = 1,
		.lock = IO_LOCK_WRITE,
		.allow = allow,
		.allow_ctx = (void *)&below};
	AUTO_CHAIN struct chain *c = NULL;

	if (chain_open(&c, t->path, &opts, e))
		return -1;
	if (c->count < 2 || !disk_same_file(c->layers[1].path, t->name))
		return err_set(e, ERR_CHANGED, "%s: its backing file is not %s any more", t->path, t->name);
	*base_format = c->layers[1].format == IMAGE_RAW ? DRIVER_RAW : DRIVER_QCOW2;
	if (convert_commit(&(struct commit_opts){.image = c, .base = 1, .threads = pool_cpu_count()}, e))
		return -1;
	*held = STEAL(c);
	return 0;
}

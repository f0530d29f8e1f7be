/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade that programs link against: qsnap.h's names in terms of the house's own. Here the two meet, nothing else happens;
 * opening, looking, reading; in lib/change.c changing, in lib/diff.c comparing states, in lib/convert.c converting.
 */
#include "lib/internal.h"

_Static_assert((int)QSNAP_ERROR_CANCELLED == (int)ERR_CANCELLED, "the two lists of errors run in step");
_Static_assert(sizeof(((struct qsnap_error *)0)->message) == sizeof(((struct error *)0)->msg), "messages fit");

const char *qsnap_version(void)
{
	return QSNAP_VERSION;
}

int lib_failed(struct qsnap_error *out, const struct error *e)
{
	if (!out)
		return -1;
	out->code = (int)e->code;
	out->sys_errno = e->sys_errno;
	memcpy(out->message, e->msg, sizeof out->message);
	return -1;
}

int lib_misused(struct qsnap_error *out, const char *what)
{
	struct error e;
	err_set(&e, ERR_USAGE, "%s", what);
	return lib_failed(out, &e);
}

int lib_take_options(void *ours, size_t our_size, const void *theirs, struct qsnap_error *out)
{
	struct error e;
	size_t size;
	memset(ours, 0, our_size);
	if (!theirs)
		return 0;
	memcpy(&size, theirs, sizeof size);
	if (size < sizeof size)
		return lib_misused(out, "an option structure's size field is not set");
	if (size > our_size && !mem_is_zero((const char *)theirs + our_size, size - our_size)) {
		err_set(&e, ERR_UNSUPPORTED, "an option is newer than libqsnap %s", QSNAP_VERSION);
		return lib_failed(out, &e);
	}
	memcpy(ours, theirs, min_u64(size, our_size));
	return 0;
}

int lib_give_info(void *theirs, const void *ours, size_t our_size, struct qsnap_error *out)
{
	size_t size;
	memcpy(&size, theirs, sizeof size);
	if (size < sizeof size)
		return lib_misused(out, "an info structure's size field is not set");
	memset((char *)theirs + sizeof size, 0, size - sizeof size);
	memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size, min_u64(size, our_size) - sizeof size);
	return 0;
}

int lib_chain_options(const struct qsnap_open_options *o, struct chain_opts *c, struct snapshot_query *query,
	struct error *e)
{
	const unsigned known = 2 * QSNAP_OPEN_WRITE - 1;
	const bool write = o->flags & QSNAP_OPEN_WRITE;
	if (o->flags & ~known)
		return err_set(e, ERR_UNSUPPORTED, "an open flag is newer than libqsnap %s", QSNAP_VERSION);
	if (write && (o->snapshot || (o->flags & QSNAP_OPEN_SHARED)))
		return err_set(e, ERR_USAGE, "only the disk as it is can be written to, by one alone");
	*c = (struct chain_opts){
		.no_backing = o->flags & QSNAP_OPEN_TOP_ONLY,
		.inspect = (o->flags & QSNAP_OPEN_TOP_ONLY) && !write,
		.write = write,
		.untrusted = o->flags & QSNAP_OPEN_UNTRUSTED,
		.direct = o->flags & QSNAP_OPEN_DIRECT,
		.lock = o->flags & QSNAP_OPEN_SHARED ? IO_LOCK_SHARED : IO_LOCK_READ,
		.max_virtual_size = o->max_virtual_size,
	};
	if (o->format && image_format_parse(o->format, &c->format, e) < 0)
		return -1;
	if (write)
		c->lock = c->format == IMAGE_RAW ? IO_LOCK_WRITE_RAW : IO_LOCK_WRITE;
	if (o->snapshot) {
		*query = (struct snapshot_query){.any = o->snapshot, .refuse_ambiguous = true};
		c->snapshot = query;
	}
	return 0;
}

int qsnap_open(qsnap_image **image, const char *path, const struct qsnap_open_options *options,
	struct qsnap_error *error)
{
	struct qsnap_open_options o;
	struct chain_opts opts;
	struct snapshot_query query;
	struct error e;

	*image = NULL;
	if (lib_take_options(&o, sizeof o, options, error) < 0)
		return -1;
	struct qsnap_image *i = mem_calloc(1, sizeof *i, "an image", &e);
	if (!i)
		return lib_failed(error, &e);
	i->top_only = o.flags & QSNAP_OPEN_TOP_ONLY;
	if (lib_chain_options(&o, &opts, &query, &e) < 0 || chain_open(&i->chain, path, &opts, &e) < 0 ||
		(opts.write && lib_begin_changes(i, &e) < 0)) {
		qsnap_close(i);
		return lib_failed(error, &e);
	}
	*image = i;
	return 0;
}

void qsnap_close(qsnap_image *image)
{
	struct error unsaid;
	if (!image)
		return;
	(void)edited_close(&image->top, &unsaid);
	walk_free(image->walk);
	io_close(image->io);
	chain_close(image->chain);
	free(image);
}

int qsnap_verify(qsnap_image *image, struct qsnap_error *error)
{
	struct error e;
	const struct layer *top = &image->chain->layers[0];
	if (!top->q || top->q->snapshot < 0 || qcow2_snapshot_verify(top->q, &e) == 0)
		return 0;
	err_prefix(&e, "%s", top->path);
	return lib_failed(error, &e);
}

uint64_t qsnap_size(const qsnap_image *image)
{
	return image->chain->size;
}

unsigned qsnap_layer_count(const qsnap_image *image)
{
	return image->chain->count;
}

static void describe_qcow2(const struct qcow2 *q, struct qsnap_layer *out)
{
	out->backing_name = q->backing_name;
	out->backing_format = q->backing_format;
	out->cluster_size = q->g.cluster_size;
	out->snapshot_count = q->snapshot_count;
	out->bitmap_count = q->bitmap_count;
	out->version = q->h.version;
	if (q->h.incompatible & INCOMPAT_DIRTY)
		out->flags |= QSNAP_LAYER_DIRTY;
	if (q->h.incompatible & INCOMPAT_DATA_FILE)
		out->flags |= QSNAP_LAYER_DATA_FILE;
	if (q->h.incompatible & INCOMPAT_EXTENDED_L2)
		out->flags |= QSNAP_LAYER_EXTENDED_L2;
	if (q->h.compression_type == CODEC_ZSTD)
		out->flags |= QSNAP_LAYER_ZSTD;
}

int qsnap_layer_info(const qsnap_image *image, unsigned layer, struct qsnap_layer *info, struct qsnap_error *error)
{
	if (layer >= image->chain->count)
		return lib_misused(error, "there is no such layer");
	const struct layer *l = &image->chain->layers[layer];
	struct qsnap_layer ours = {
		.path = l->path,
		.format = image_format_name(l->format),
		.virtual_size = l->size,
		.file_size = l->file->size,
		.flags = l->probed ? QSNAP_LAYER_PROBED : 0,
	};
	if (l->q)
		describe_qcow2(l->q, &ours);
	return lib_give_info(info, &ours, sizeof ours, error);
}

int qsnap_snapshot_info(const qsnap_image *image, unsigned index, struct qsnap_snapshot *info,
	struct qsnap_error *error)
{
	const struct qcow2 *q = image->chain->layers[0].q;
	if (!q || index >= q->snapshot_count)
		return lib_misused(error, "there is no such snapshot");
	const struct qcow2_snapshot *s = &q->snapshots[index];
	struct qsnap_snapshot ours = {
		.id = s->id,
		.name = s->name,
		.disk_size = s->disk_size,
		.vm_state_size = s->entry.vm_state_bytes,
		.date_seconds = s->entry.date_sec,
		.date_nanoseconds = s->entry.date_nsec,
	};
	return lib_give_info(info, &ours, sizeof ours, error);
}

static unsigned flags_of(const struct extent *x)
{
	unsigned flags = 0;
	if (x->kind == EXTENT_DATA || x->kind == EXTENT_COMPRESSED)
		flags |= QSNAP_EXTENT_DATA;
	if (x->kind != EXTENT_ABSENT)
		flags |= QSNAP_EXTENT_PRESENT;
	if (x->kind == EXTENT_COMPRESSED)
		flags |= QSNAP_EXTENT_COMPRESSED;
	else if (x->has_host)
		flags |= QSNAP_EXTENT_HOST;
	return flags;
}

int qsnap_extent_at(qsnap_image *image, uint64_t start, uint64_t end, struct qsnap_extent *extent,
	struct qsnap_error *error)
{
	struct error e;
	struct extent x;
	uint64_t size = image->chain->size;

	end = end && end < size ? end : size;
	if (start >= end)
		return lib_misused(error, "the range is not on the disk");
	if (image->top_only && image->chain->layers[0].q && image->chain->layers[0].q->backing_name)
		return lib_misused(error, "the image was opened without its backing file");
	if (image->stale && lib_settle(image, &e) < 0)
		return lib_failed(error, &e);
	if (!image->walk && walk_new(&image->walk, image->chain, image->chain->count, WALK_FILE_HOLES, &e) < 0)
		return lib_failed(error, &e);
	if (walk_extent(image->walk, start, end, &x, &e) < 0)
		return lib_failed(error, &e);
	struct qsnap_extent ours = {.start = x.start, .length = x.len, .flags = flags_of(&x), .layer = x.depth};
	if (ours.flags & QSNAP_EXTENT_HOST) {
		ours.host = x.host;
		ours.file = x.file->name;
	}
	return lib_give_info(extent, &ours, sizeof ours, error);
}

int qsnap_read(qsnap_image *image, void *buffer, size_t length, uint64_t guest, struct qsnap_error *error)
{
	struct error e;
	uint64_t end;

	if (image->top_only)
		return lib_misused(error, "the image was opened for looking only");
	if (add_overflows(guest, length, &end) || end > image->chain->size)
		return lib_misused(error, "the range is not on the disk");
	if (image->top.ed)
		return edit_read(image->top.ed, buffer, length, guest, &e) < 0 ? lib_failed(error, &e) : 0;
	if (!image->io && chain_io(&image->io, image->chain, &e) < 0)
		return lib_failed(error, &e);
	if (length && io_read(image->io, buffer, length, guest, &e) < 0)
		return lib_failed(error, &e);
	return 0;
}

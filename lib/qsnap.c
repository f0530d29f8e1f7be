/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade that programs link against: qsnap.h's names in terms of the house's own. Here the two meet, nothing else happens.
 */
#include "lib/qsnap.h"

#include "convert/convert.h"

struct qsnap_image {
	struct chain *chain;
	struct walk *walk; /* made when the first extent is asked for */
	struct io *io;     /* made when the first byte is read */
	bool top_only;
};

_Static_assert((int)QSNAP_ERROR_CANCELLED == (int)ERR_CANCELLED, "the two lists of errors run in step");
_Static_assert(sizeof(((struct qsnap_error *)0)->message) == sizeof(((struct error *)0)->msg), "messages fit");

const char *qsnap_version(void)
{
	return QSNAP_VERSION;
}

static int failed(struct qsnap_error *out, const struct error *e)
{
	out->code = (int)e->code;
	out->sys_errno = e->sys_errno;
	memcpy(out->message, e->msg, sizeof out->message);
	return -1;
}

static int misused(struct qsnap_error *out, const char *what)
{
	struct error e;
	err_set(&e, ERR_USAGE, "%s", what);
	return failed(out, &e);
}

/* Copies a caller's structure that may be older, hence shorter, than ours; what it lacks is 0. */
static int take_options(void *ours, size_t our_size, const void *theirs, struct qsnap_error *out)
{
	size_t size;
	memset(ours, 0, our_size);
	if (!theirs)
		return 0;
	memcpy(&size, theirs, sizeof size);
	if (size < sizeof size || size > our_size)
		return misused(out, "an option structure's size field is not set, or is of a newer libqsnap");
	memcpy(ours, theirs, size);
	return 0;
}

/* Gives a structure back to a caller whose one may be shorter. */
static int give_info(void *theirs, const void *ours, size_t our_size, struct qsnap_error *out)
{
	size_t size;
	memcpy(&size, theirs, sizeof size);
	if (size < sizeof size || size > our_size)
		return misused(out, "an info structure's size field is not set, or is of a newer libqsnap");
	memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size, size - sizeof size);
	return 0;
}

static int chain_options(const struct qsnap_open_options *o, struct chain_opts *c, struct snapshot_query *query,
	struct error *e)
{
	*c = (struct chain_opts){
		.no_backing = o->flags & QSNAP_OPEN_TOP_ONLY,
		.inspect = o->flags & QSNAP_OPEN_TOP_ONLY,
		.untrusted = o->flags & QSNAP_OPEN_UNTRUSTED,
		.direct = o->flags & QSNAP_OPEN_DIRECT,
		.lock = o->flags & QSNAP_OPEN_SHARED ? IO_LOCK_SHARED : IO_LOCK_READ,
		.max_virtual_size = o->max_virtual_size,
	};
	if (o->format && image_format_parse(o->format, &c->format, e) < 0)
		return -1;
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

	if (take_options(&o, sizeof o, options, error) < 0)
		return -1;
	struct qsnap_image *i = mem_calloc(1, sizeof *i, "an image", &e);
	if (!i)
		return failed(error, &e);
	i->top_only = o.flags & QSNAP_OPEN_TOP_ONLY;
	if (chain_options(&o, &opts, &query, &e) < 0 || chain_open(&i->chain, path, &opts, &e) < 0) {
		free(i);
		return failed(error, &e);
	}
	*image = i;
	return 0;
}

void qsnap_close(qsnap_image *image)
{
	if (!image)
		return;
	walk_free(image->walk);
	io_close(image->io);
	chain_close(image->chain);
	free(image);
}

uint64_t qsnap_size(const qsnap_image *image)
{
	return image->chain->size;
}

unsigned qsnap_layer_count(const qsnap_image *image)
{
	return image->chain->count;
}

int qsnap_layer_info(const qsnap_image *image, unsigned layer, struct qsnap_layer *info, struct qsnap_error *error)
{
	if (layer >= image->chain->count)
		return misused(error, "there is no such layer");
	const struct layer *l = &image->chain->layers[layer];
	struct qsnap_layer ours = {
		.path = l->path,
		.format = image_format_name(l->format),
		.virtual_size = l->size,
		.file_size = l->file->size,
	};
	if (l->q) {
		ours.backing_name = l->q->backing_name;
		ours.backing_format = l->q->backing_format;
		ours.cluster_size = l->q->g.cluster_size;
		ours.snapshot_count = l->q->snapshot_count;
		ours.bitmap_count = l->q->bitmap_count;
	}
	return give_info(info, &ours, sizeof ours, error);
}

int qsnap_snapshot_info(const qsnap_image *image, unsigned index, struct qsnap_snapshot *info,
	struct qsnap_error *error)
{
	const struct qcow2 *q = image->chain->layers[0].q;
	if (!q || index >= q->snapshot_count)
		return misused(error, "there is no such snapshot");
	const struct qcow2_snapshot *s = &q->snapshots[index];
	struct qsnap_snapshot ours = {
		.id = s->id,
		.name = s->name,
		.disk_size = s->disk_size,
		.vm_state_size = s->entry.vm_state_bytes,
		.date_seconds = s->entry.date_sec,
		.date_nanoseconds = s->entry.date_nsec,
	};
	return give_info(info, &ours, sizeof ours, error);
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
		return misused(error, "the range is not on the disk");
	if (image->top_only && image->chain->layers[0].q && image->chain->layers[0].q->backing_name)
		return misused(error, "the image was opened without its backing file");
	if (!image->walk && walk_new(&image->walk, image->chain, image->chain->count, WALK_FILE_HOLES, &e) < 0)
		return failed(error, &e);
	if (walk_extent(image->walk, start, end, &x, &e) < 0)
		return failed(error, &e);
	*extent = (struct qsnap_extent){.start = x.start, .length = x.len, .flags = flags_of(&x), .layer = x.depth};
	if (extent->flags & QSNAP_EXTENT_HOST)
		extent->host = x.host;
	return 0;
}

int qsnap_read(qsnap_image *image, void *buffer, size_t length, uint64_t guest, struct qsnap_error *error)
{
	struct error e;
	uint64_t end;

	if (image->top_only)
		return misused(error, "the image was opened for looking only");
	if (add_overflows(guest, length, &end) || end > image->chain->size)
		return misused(error, "the range is not on the disk");
	if (!image->io && chain_io(&image->io, image->chain, &e) < 0)
		return failed(error, &e);
	if (length && io_read(image->io, buffer, length, guest, &e) < 0)
		return failed(error, &e);
	return 0;
}

/* ---- converting ---- */

struct watcher {
	const struct qsnap_convert_options *options;
	atomic_bool cancel;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct watcher *w = ctx;
	if (w->options->progress && w->options->progress(w->options->context, done, total))
		atomic_store(&w->cancel, true);
}

static int convert_options(const struct qsnap_convert_options *o, struct convert_opts *c, struct error *e)
{
	enum image_format format = IMAGE_RAW;
	convert_defaults(c);
	if (o->format && image_format_parse(o->format, &format, e) < 0)
		return -1;
	image_create_defaults(&c->create, format);
	if (o->cluster_size)
		c->create.cluster_size = o->cluster_size;
	if (o->compression && strcmp(o->compression, "zstd") == 0)
		c->create.compression = CODEC_ZSTD;
	else if (o->compression && strcmp(o->compression, "zlib") != 0)
		return err_set(e, ERR_USAGE, "there is no compression '%s'", o->compression);
	c->compress = o->compress;
	c->threads = o->threads > 0 ? (unsigned)o->threads : o->threads < 0 ? 0 : pool_cpu_count();
	c->target_opts.sync_at_end = o->sync;
	return 0;
}

int qsnap_convert(const char *source_path, const struct qsnap_open_options *source, const char *target_path,
	const struct qsnap_convert_options *options, struct qsnap_error *error)
{
	struct qsnap_open_options so;
	struct qsnap_convert_options co;
	struct convert_source from = {.name = source_path};
	struct snapshot_query query;
	struct convert_opts opts;
	struct convert_result result;
	struct error e;

	if (take_options(&so, sizeof so, source, error) < 0 || take_options(&co, sizeof co, options, error) < 0)
		return -1;
	if (so.flags & QSNAP_OPEN_TOP_ONLY)
		return misused(error, "a copy needs the backing files, too");
	if (strcmp(target_path, "-") == 0)
		return misused(error, "the target is a file: write \"./-\" for one of that name");
	if (chain_options(&so, &from.open, &query, &e) < 0 || convert_options(&co, &opts, &e) < 0)
		return failed(error, &e);
	struct watcher watcher = {.options = &co};
	struct progress progress = {.report = on_progress, .ctx = &watcher, .cancel = &watcher.cancel};
	opts.sources = &from;
	opts.source_count = 1;
	opts.target = target_path;
	opts.progress = &progress;
	return convert_run(&opts, &result, &e) < 0 ? failed(error, &e) : 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * An image and the backing files below it (FORMAT.md §10): opened top down, each once, none twice, none locked by
 * a writer. What a name in an untrusted image says is never opened.
 */
#include "qcow2/internal.h"

#include <sys/stat.h>

enum { DEFAULT_DEPTH = 200, MAX_DEPTH = 65535 };

/* One chain while it is being opened. */
struct opening {
	struct chain *c;
	const struct chain_opts *opts;
	struct io_identity *seen; /* of each layer */
	unsigned max_depth;
};

/* The layer that is being opened. */
static bool is_written(const struct opening *o)
{
	unsigned layer = o->c->count - 1;

	return o->opts->write && (!layer || layer == o->opts->write_layer);
}

static unsigned file_flags(const struct opening *o)
{
	unsigned flags = o->opts->direct ? IO_OPEN_DIRECT : 0;

	if (is_written(o))
		flags |= IO_OPEN_WRITE | (o->opts->unsafe ? IO_OPEN_UNSAFE : 0);
	return flags;
}

/* A snapshot's extraction reads backing files for long with no state of the image to tell a commit into them; so
 * these keep real locks even where the top is shared with its writer (FORMAT.md §13). */
static enum io_lock_mode lock_mode(const struct opening *o, bool top)
{
	if (top || o->opts->lock == IO_LOCK_NONE)
		return o->opts->lock;
	if (is_written(o))
		return IO_LOCK_WRITE;
	return o->opts->lock == IO_LOCK_SHARED && !o->opts->snapshot ? IO_LOCK_SHARED : IO_LOCK_READ;
}

static int open_file(const struct opening *o, struct io **out, const char *path, bool top, struct error *e)
{
	if (io_file_open(out, path, file_flags(o), e))
		return -1;
	return io_lock(*out, lock_mode(o, top), e);
}

static int refuse_loop(struct opening *o, struct layer *l, struct error *e)
{
	unsigned depth = o->c->count - 1;

	if (!io_file_identity(l->file, &o->seen[depth]))
		return 0;
	for (unsigned i = 0; i < depth; i++)
		if (o->seen[i].dev == o->seen[depth].dev && o->seen[i].ino == o->seen[depth].ino)
			return err_set(e, ERR_LIMIT, "'%s' is in the backing chain twice: the chain is a loop",
				l->path);
	return 0;
}

static int ask(const struct opening *o, const char *path, enum image_format *format, struct error *e)
{
	return o->opts->allow ? o->opts->allow(o->opts->allow_ctx, path, format, e) : 0;
}

static int choose_format(const struct opening *o, struct layer *l, enum image_format said, struct error *e)
{
	enum image_format found = IMAGE_RAW;

	l->format = said;
	if (said == IMAGE_AUTO) {
		if (o->opts->untrusted)
			return err_set(e, ERR_DENIED, "an untrusted image needs its format to be given");
		l->probed = true;
		return image_probe(l->file, &l->format, e);
	}
	/* A raw disk that looks like something else is read as that by whoever guesses later. */
	if (o->opts->untrusted && said == IMAGE_RAW) {
		if (image_probe(l->file, &found, e))
			return -1;
		if (found != IMAGE_RAW)
			return err_set(e, ERR_DENIED, "it is said to be raw, but its content is %s",
				image_format_name(found));
	}
	return 0;
}

static int open_data_file(const struct opening *o, struct layer *l, const struct image_name *n, bool top,
	struct error *e)
{
	const char *path = n->data_file ? n->data_file : l->q->data_file_name;

	if (!(l->q->h.incompatible & INCOMPAT_DATA_FILE)) {
		if (n->data_file)
			return err_set(e, ERR_USAGE,
				"'data-file' can only be set for images with an external data file");
		return 0;
	}
	if (o->opts->inspect)
		return 0;
	if (!path || !*path)
		return err_set(e, ERR_CORRUPT, "'data-file' is required for this image");
	l->data = NULL;
	if (ask(o, path, &(enum image_format){IMAGE_RAW}, e))
		return -1;
	return open_file(o, &l->data, path, top, e);
}

static int open_qcow2(const struct opening *o, struct layer *l, const struct image_name *n, bool top, struct error *e)
{
	const bool repair = top && o->opts->repair;
	const unsigned flags = (o->opts->inspect ? QCOW2_OPEN_INSPECT : 0) |
			       (o->opts->untrusted ? QCOW2_OPEN_STRICT : 0) | (repair ? QCOW2_OPEN_REPAIR : 0);

	if (qcow2_open(&l->q, l->file, flags, e) || open_data_file(o, l, n, top, e))
		return -1;
	if (top && o->opts->snapshot) {
		int index = qcow2_snapshot_find(l->q, o->opts->snapshot, e);

		if (index < 0 || qcow2_snapshot_select(l->q, (uint32_t)index, e))
			return -1;
	}
	if (top && o->opts->write && !repair && (l->q->h.incompatible & INCOMPAT_CORRUPT))
		return err_set(e, ERR_CORRUPT, "Image is corrupt; cannot be opened read/write");
	l->size = l->q->size;
	return 0;
}

static int open_layer(struct opening *o, const struct image_name *n, enum image_format said, struct error *e)
{
	bool top = o->c->count == 0;
	struct layer *l = &o->c->layers[o->c->count++];

	l->path = mem_strdup(n->path, e);
	if (!l->path || (!top && ask(o, l->path, &said, e)) || open_file(o, &l->file, l->path, top, e))
		return -1;
	l->data = l->file;
	if (refuse_loop(o, l, e) || choose_format(o, l, said, e))
		return -1;
	if (l->format == IMAGE_QCOW2)
		return open_qcow2(o, l, n, top, e);
	if (top && o->opts->snapshot)
		return err_set(e, ERR_UNSUPPORTED, "a raw image has no snapshots");
	l->size = align_up(l->file->size, 512);
	return 0;
}

/* The name of the layer below and the format it is said to have: 1 = there is one, 0 = none. */
static int backing_name(const struct layer *l, const struct image_name *n, struct image_name *out, struct error *e)
{
	AUTO_FREE char *path = NULL;
	int failed;

	if (!l->q || n->no_backing || (!n->backing && !l->q->backing_name))
		return 0;
	path = n->backing ? mem_strdup(n->backing, e) : image_backing_path(l->path, l->q->backing_name, e);
	failed = !path || image_name_parse(out, path, e);
	if (!failed && out->format == IMAGE_AUTO && !n->backing && l->q->backing_format && *l->q->backing_format)
		failed = image_driver_parse(l->q->backing_format, &out->format, e);
	if (!failed)
		return 1;
	image_name_clear(out);
	return -1;
}

static int open_backing(struct opening *o, struct image_name *n, struct error *e)
{
	for (;;) {
		const struct layer *above = &o->c->layers[o->c->count - 1];
		struct image_name below = {0};
		int failed = 0, more = backing_name(above, n, &below, e);

		if (!more)
			return 0;
		if (more > 0 && o->c->count >= o->max_depth)
			failed = err_set(e, ERR_LIMIT, "the backing chain is deeper than %u", o->max_depth);
		else if (more > 0)
			failed = open_layer(o, &below, below.format, e);
		image_name_clear(n);
		*n = below;
		if (more < 0 || failed)
			return above == o->c->layers
				       ? err_prefix(e, "Could not open backing file")
				       : err_prefix(e, "Could not open backing file of '%s'", above->path);
	}
}

static int open_top(struct opening *o, const struct image_name *n, struct error *e)
{
	enum image_format said = o->opts->format ? o->opts->format : n->format;
	const struct layer *top = &o->c->layers[0];

	if (o->opts->format && n->format && o->opts->format != n->format)
		return err_set(e, ERR_USAGE, "the format is said to be %s and, by the name, %s",
			image_format_name(o->opts->format), image_format_name(n->format));
	if (o->opts->untrusted && (n->backing || n->data_file))
		return err_set(e, ERR_DENIED, "an untrusted image has no backing file and no data file");
	if (open_layer(o, n, said, e))
		return -1;
	if (o->opts->max_virtual_size && top->size > o->opts->max_virtual_size)
		return err_set(e, ERR_LIMIT, "its virtual size of %llu bytes is more than the limit of %llu",
			(unsigned long long)top->size, (unsigned long long)o->opts->max_virtual_size);
	o->c->size = top->size;
	return 0;
}

static int open_all(struct opening *o, const char *name, struct error *e)
{
	struct image_name n;
	int failed = image_name_parse(&n, name, e) || open_top(o, &n, e);

	if (!failed && !o->opts->no_backing)
		failed = open_backing(o, &n, e);
	image_name_clear(&n);
	return failed ? err_prefix(e, "Could not open '%s'", name) : 0;
}

int chain_open(struct chain **out, const char *name, const struct chain_opts *opts, struct error *e)
{
	struct opening o = {.opts = opts, .max_depth = opts->max_depth ? opts->max_depth : DEFAULT_DEPTH};
	AUTO_CHAIN struct chain *c = mem_calloc(1, sizeof *c, "backing chain", e);
	int failed;

	if (!c)
		return -1;
	o.max_depth = (unsigned)min_u64(o.max_depth, MAX_DEPTH);
	o.c = c;
	c->layers = mem_calloc(o.max_depth, sizeof *c->layers, "backing chain", e);
	o.seen = c->layers ? mem_calloc(o.max_depth, sizeof *o.seen, "backing chain", e) : NULL;
	if (!o.seen)
		return -1;
	failed = open_all(&o, name, e);
	free(o.seen);
	if (!failed)
		*out = STEAL(c);
	return failed;
}

void chain_close(struct chain *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->count; i++) {
		struct layer *l = &c->layers[i];

		qcow2_close(l->q);
		if (l->data != l->file)
			io_close(l->data);
		io_close(l->file);
		free(l->path);
	}
	free(c->layers);
	free(c);
}

void cleanup_chain(struct chain **c)
{
	chain_close(*c);
}

int chain_find_file(const struct chain *c, const char *path)
{
	struct stat st;
	struct io_identity its;

	if (stat(path, &st) < 0)
		return -1;
	uint64_t dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev, ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	for (unsigned i = 0; i < c->count; i++) {
		const struct layer *l = &c->layers[i];
		if ((io_file_identity(l->file, &its) && its.dev == dev && its.ino == ino) ||
			(l->data && io_file_identity(l->data, &its) && its.dev == dev && its.ino == ino))
			return (int)i;
	}
	return -1;
}

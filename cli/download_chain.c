/* SPDX-License-Identifier: Apache-2.0
 *
 * `download --chain`: an increment and all that it was made over, down to a full image, out of the image service; as one image, or as
 * a chain of files. Which image lies below an increment is told by its record alone, since none of them has a name inside: the chain
 * is found, and each link judged, before the first byte is fetched. All of it is a stranger's word: the images are opened as
 * strangers' are, and the names that they get are made here.
 */
#include "cli/download.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 40 };

/* ---- records ---- */

static bool is_delta(const struct store_image *i)
{
	const char *value = store_image_property(i, CLI_DELTA);

	return value && strcmp(value, "yes") == 0;
}

/* What the one above says of it must be so. */
static int check_same(const struct store_image *above, const char *key, const struct store_image *below,
	const char *its_key, struct error *e)
{
	const char *a = store_image_property(above, key), *b = store_image_property(below, its_key);

	if (a && b && strcmp(a, b) == 0)
		return 0;
	return err_set(e, ERR_CORRUPT, "its record's %s is %s, and %s of image %s below it is %s", key,
		a ? a : "not there", its_key, below->id, b ? b : "not there");
}

static int base_size(const struct store_image *i, uint64_t *size, struct error *e)
{
	const char *text = store_image_property(i, CLI_DELTA_BASE_SIZE);

	if (!text || !*text || strspn(text, "0123456789") != strlen(text) || size_parse(text, size, e) < 0)
		return err_set(e, ERR_CORRUPT, "its record's %s is no number of bytes", CLI_DELTA_BASE_SIZE);
	return 0;
}

static int check_image(const struct store_image *i, struct error *e)
{
	if (strcmp(i->status, "active") != 0)
		return err_set(e, ERR_USAGE, "it is %s: it has no data", i->status);
	if (!i->format || strcmp(i->format, "qcow2") != 0)
		return err_set(e, ERR_UNSUPPORTED, "its format is %s: chains are of qcow2 images",
			i->format ? i->format : "not told");
	return 0;
}

static int check_link(const struct download_chain *c, const struct store_image *above, const struct store_image *below,
	struct error *e)
{
	uint64_t size;

	for (const struct store_image *i = c->images; i <= above; i++)
		if (strcmp(i->id, below->id) == 0)
			return err_set(e, ERR_CORRUPT, "by the records it lies below itself");
	if (check_same(above, CLI_RECORD_DOMAIN, below, CLI_RECORD_DOMAIN, e) ||
		check_same(above, CLI_RECORD_DISK, below, CLI_RECORD_DISK, e) ||
		check_same(above, CLI_DELTA_SINCE, below, CLI_RECORD_SNAPSHOT, e) || base_size(above, &size, e))
		return -1;
	return !below->has_virtual_size || below->virtual_size == size
		       ? 0
		       : err_set(e, ERR_CORRUPT, "it was made over a disk of %llu bytes, and image %s has %llu",
				 (unsigned long long)size, below->id, (unsigned long long)below->virtual_size);
}

static int find_below(struct download_args *a, struct download_chain *c, struct error *e)
{
	const struct store_image *above = &c->images[c->count - 1];
	const char *id = store_image_property(above, CLI_DELTA_BASE);
	struct store_image *below = &c->images[c->count];

	if (c->count == DOWNLOAD_CHAIN_MAX)
		return err_set(e, ERR_LIMIT, "more than %d images are below it", DOWNLOAD_CHAIN_MAX - 1);
	if (!id)
		return err_set(e, ERR_CORRUPT, "its record does not tell what it was made over");
	if (store_get(a->store.store, id, below, e) < 0)
		return err_prefix(e, "what it was made over");
	c->count++;
	return check_link(c, above, below, e);
}

static int find_chain(struct download_args *a, struct download_chain *c, struct error *e)
{
	if (store_find(a->store.store, a->image, &c->images[0], e) < 0)
		return -1;
	c->count = 1;
	for (;;) {
		const struct store_image *last = &c->images[c->count - 1];
		int r = check_image(last, e);

		if (r == 0 && !is_delta(last))
			return 0;
		if (r < 0 || find_below(a, c, e) < 0)
			return err_prefix(e, "image %s", last->id);
	}
}

/* ---- files ---- */

/* Where an image is before it has its name. */
struct file {
	struct target *target; /* in a folder; NULL: a spool */
	struct io *io;
	char path[PATH_BYTES];
};
struct files {
	struct file at[DOWNLOAD_CHAIN_MAX]; /* as the chain's images */
	unsigned count; /* open ones, from the chain's end on: at[chain->count - count] is the topmost */
	const struct download_chain *chain;
};

char *download_chain_name(const struct download_args *a, const struct download_chain *c, unsigned image,
	struct error *e)
{
	const size_t len = strlen(a->file);
	const bool slash = len && a->file[len - 1] == '/';

	return mem_printf(e, "%s%s%u.qcow2", a->file, slash ? "" : "/", c->count - 1 - image);
}

static int open_file(struct download_args *a, const struct download_chain *c, unsigned i, struct file *f,
	struct error *e)
{
	if (!c->folder && io_spool_new(&f->io, a->spool_dir, e) < 0)
		return -1;
	if (c->folder) {
		const struct target_opts opts = {.sync_at_end = true, .fresh = true};
		AUTO_FREE char *name = download_chain_name(a, c, i, e);

		if (!name || target_open(&f->target, name, &opts, e) < 0)
			return -1;
		f->io = target_io(f->target);
	}
	snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", io_file_fd(f->io));
	return 0;
}

static void close_files(struct files *f)
{
	for (unsigned i = f->chain->count - f->count; i < f->chain->count; i++) {
		if (f->at[i].target)
			target_close(f->at[i].target);
		else
			io_close(f->at[i].io);
	}
}

/* The image says what its record does, and gets a name for what lies below it, which was fetched before. */
static int name_below(const struct files *f, unsigned i, struct error *e)
{
	const struct chain_opts opts = {
		.format = IMAGE_QCOW2, .untrusted = true, .no_backing = true, .write = true, .lock = IO_LOCK_NONE};
	const struct store_image *image = &f->chain->images[i];
	AUTO_CHAIN struct chain *top = NULL;
	char name[PATH_BYTES];
	uint64_t size;

	if (chain_open(&top, f->at[i].path, &opts, e) < 0)
		return -1;
	size = image->has_virtual_size ? image->virtual_size : top->size;
	if (i && top->size == size && base_size(&image[-1], &size, e) < 0)
		return -1;
	if (top->size != size)
		return err_set(e, ERR_CORRUPT, "a disk of %llu bytes, not of %llu as the records say",
			(unsigned long long)top->size, (unsigned long long)size);
	if (i + 1 == f->chain->count)
		return 0;
	if (f->chain->folder)
		snprintf(name, sizeof name, "%u.qcow2", f->chain->count - 2 - i);
	else
		snprintf(name, sizeof name, "%s", f->at[i + 1].path);
	const struct rebase_opts rebase = {
		.image = top, .backing_name = name, .backing_format = "qcow2", .unsafe = true};

	return convert_rebase(&rebase, e);
}

/* The base first. */
static int fetch_all(struct download_args *a, struct files *f, struct error *e)
{
	for (unsigned i = f->chain->count; i-- > 0;) {
		const struct store_image *image = &f->chain->images[i];

		if (open_file(a, f->chain, i, &f->at[i], e) < 0)
			return -1;
		f->count++;
		if (download_fetch(a, image, f->at[i].io, e) < 0)
			return -1;
		if (name_below(f, i, e) < 0)
			return err_prefix(e, "image %s", image->id);
	}
	return 0;
}

/* ---- what it becomes ---- */

/* No other file is opened for a name in one of these. */
static int allow(void *ctx, const char *path, enum image_format *format, struct error *e)
{
	const struct files *f = ctx;

	for (unsigned i = 0; i < f->chain->count; i++)
		if (*format == IMAGE_QCOW2 && strcmp(path, f->at[i].path) == 0)
			return 0;
	return err_set(e, ERR_DENIED, "%s: it is none of the images that were fetched", path);
}

static int flatten(struct download_args *a, struct files *f, struct error *e)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .lock = IO_LOCK_NONE, .allow = allow, .allow_ctx = f};
	enum image_format to;

	if (strcmp(a->file, "-") == 0 && cli_take_stdout(&a->stream_fd, e) < 0)
		return -1;
	if (image_format_parse(a->format ? a->format : "qcow2", &to, e) < 0)
		return -1;
	return download_convert(a, f->at[0].path, &opts, to, e);
}

/* order: the base first, so that whatever has its name has all that lies below. A failure takes them back, the top first. */
static int name_files(struct download_args *a, struct files *f, struct error *e)
{
	const struct download_chain *c = f->chain;

	if (progress_cancelled(&a->store.progress.base))
		return err_set(e, ERR_CANCELLED, "cancelled");
	for (unsigned i = c->count; i-- > 0;) {
		if (target_commit(f->at[i].target, e) == 0)
			continue;
		for (i++; i < c->count; i++) {
			struct error ignored;
			AUTO_FREE char *name = download_chain_name(a, c, i, &ignored);

			if (name)
				unlink(name);
		}
		return -1;
	}
	return 0;
}

static int get_files(struct download_args *a, struct download_chain *c, struct error *e)
{
	struct files *f = mem_calloc(1, sizeof *f, "files", e);

	if (!f)
		return -1;
	f->chain = c;
	int r = fetch_all(a, f, e);

	if (r == 0)
		r = c->folder ? name_files(a, f, e) : flatten(a, f, e);
	close_files(f);
	free(f);
	return r;
}

int download_chain(struct download_args *a, struct download_chain *c, struct error *e)
{
	c->folder = io_means_folder(a->file);
	if (c->folder && a->format)
		return err_set(e, ERR_USAGE, "--format is for one image, and %s is a folder for all of them", a->file);
	if (find_chain(a, c, e) < 0)
		return -1;
	const bool made = c->folder && mkdir(a->file, 0777) == 0;

	if (c->folder && !made && errno != EEXIST)
		return err_sys(e, errno, "%s", a->file);
	if (get_files(a, c, e) == 0)
		return 0;
	if (made)
		(void)rmdir(a->file); /* it stays where something is in it */
	return -1;
}

void download_chain_free(struct download_chain *c)
{
	for (unsigned i = 0; i < c->count; i++)
		store_image_free(&c->images[i]);
	c->count = 0;
}

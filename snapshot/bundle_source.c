/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a bundle comes from: a folder, or a tar stream whose files are put into a folder of ours. The manifest comes first, so that
 * whatever follows is known by its name and size before a byte of it is kept. Nothing of what a bundle says becomes the name of
 * something else than one of its own files.
 */
#include "snapshot/bundle.h"
#include "snapshot/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct bundle_file *find(const struct bundle *b, const char *name)
{
	for (unsigned i = 0; i < b->file_count; i++)
		if (strcmp(b->files[i].name, name) == 0)
			return &b->files[i];
	return NULL;
}

char *bundle_path(const struct bundle_source *s, const struct bundle *b, unsigned file, struct error *e)
{
	return mem_printf(e, "%s/%s", s->folder, b->files[file].name);
}

/* ---- the manifest ---- */

static int parse(const char *text, uint64_t len, struct bundle *b, struct error *e)
{
	return bundle_parse(text, (size_t)len, b, e) ? err_prefix(e, "%s", BUNDLE_MANIFEST) : 0;
}

static int refuse_long(uint64_t len, struct error *e)
{
	return len <= BUNDLE_MAX_MANIFEST ? 0
					  : err_set(e, ERR_LIMIT, "%s has %llu bytes, more than %d", BUNDLE_MANIFEST,
						    (unsigned long long)len, BUNDLE_MAX_MANIFEST);
}

static int open_folder(struct bundle_source *s, const char *from, struct bundle *b, struct error *e)
{
	AUTO_FREE char *path = mem_printf(e, "%s/%s", from, BUNDLE_MANIFEST), *text = NULL;
	AUTO_IO struct io *file = NULL;

	s->folder = vm_absolute(from, e);
	if (!path || !s->folder || io_file_open(&file, path, IO_OPEN_REGULAR | IO_OPEN_NOFOLLOW, e) ||
		refuse_long(file->size, e))
		return -1;
	text = mem_calloc(1, (size_t)file->size + 1, "manifest", e);
	return !text || io_read(file, text, (size_t)file->size, 0, e) ? -1 : parse(text, file->size, b, e);
}

static int open_tar(struct bundle_source *s, const struct vm *vm, int fd, struct bundle *b, struct error *e)
{
	const struct progress *p = vm->opts.voice.progress;
	const struct tar_ops *tar = tar_ops(e);
	AUTO_FREE char *text = NULL;
	const char *name;
	uint64_t len;

	if (!tar || tar->open(&s->tar, fd, p ? p->cancel : NULL, e))
		return -1;
	int rc = tar->next(s->tar, &name, &len, e);

	if (rc < 0)
		return -1;
	if (!rc || strcmp(name, BUNDLE_MANIFEST) != 0)
		return err_set(e, ERR_CORRUPT, "not a bundle: %s does not come first", BUNDLE_MANIFEST);
	if (refuse_long(len, e))
		return -1;
	text = mem_calloc(1, (size_t)len + 1, "manifest", e);
	return !text || tar->read(s->tar, text, (size_t)len, e) ? -1 : parse(text, len, b, e);
}

int bundle_open(struct bundle_source *s, const struct vm *vm, const char *from, int fd, struct bundle *b,
	struct error *e)
{
	struct stat st;

	*s = (struct bundle_source){.fd = -1};
	if (strcmp(from, "-") == 0)
		return open_tar(s, vm, fd, b, e);
	if (stat(from, &st))
		return err_sys(e, errno, "%s", from);
	if (S_ISDIR(st.st_mode))
		return open_folder(s, from, b, e) ? err_prefix(e, "%s", from) : 0;
	s->fd = open(from, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		return err_sys(e, errno, "%s", from);
	return open_tar(s, vm, s->fd, b, e) ? err_prefix(e, "%s", from) : 0;
}

void bundle_close(struct bundle_source *s)
{
	struct error e;

	if (s->tar)
		tar_ops(&e)->close(s->tar);
	if (s->fd >= 0)
		close(s->fd);
	free(s->folder);
	*s = (struct bundle_source){.fd = -1};
}

/* ---- its files ---- */

static int compare_digest(const struct bundle_file *f, const char *digest, struct error *e)
{
	return strcmp(f->digest, digest) == 0
		       ? 0
		       : err_set(e, ERR_CHANGED, "%s has not the digest that the manifest tells", f->name);
}

static int check_file(const struct vm *vm, const char *path, const struct bundle_file *f, struct error *e)
{
	AUTO_IO struct io *file = NULL;
	char digest[129];

	vm_step(vm, "check", NULL);
	if (io_file_open(&file, path, IO_OPEN_REGULAR | IO_OPEN_NOFOLLOW, e))
		return -1;
	if (file->size != f->bytes)
		return err_set(e, ERR_CHANGED, "%s has %llu bytes, and %llu by the manifest", f->name,
			(unsigned long long)file->size, (unsigned long long)f->bytes);
	return hash_io(file, file->size, "sha256", vm->opts.voice.progress, digest, e) ? -1
										       : compare_digest(f, digest, e);
}

static int refuse_strange(const char *folder, const struct bundle *b, struct error *e)
{
	DIR *dir = opendir(folder);
	const struct dirent *d;
	int failed = 0;

	if (!dir)
		return err_sys(e, errno, "%s", folder);
	while (!failed && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
			strcmp(d->d_name, BUNDLE_MANIFEST) != 0 && !find(b, d->d_name))
			failed = err_set(e, ERR_CORRUPT, "%s: '%s' is not in the manifest", folder, d->d_name);
	closedir(dir);
	return failed;
}

static int check_folder(const struct bundle_source *s, const struct vm *vm, const struct bundle *b, struct error *e)
{
	if (refuse_strange(s->folder, b, e))
		return -1;
	for (unsigned i = 0; i < b->file_count; i++) {
		AUTO_FREE char *path = bundle_path(s, b, i, e);

		if (!path || check_file(vm, path, &b->files[i], e))
			return err_prefix(e, "%s", s->folder);
	}
	return 0;
}

static int unpack_bytes(struct bundle_source *s, const struct vm *vm, struct io *to, const struct bundle_file *f,
	struct hash *h, struct error *e)
{
	enum { PIECE = 1 << 20 };
	AUTO_FREE uint8_t *buf = mem_alloc_pages(PIECE, "a file", e);

	for (uint64_t at = 0; buf && at < f->bytes;) {
		size_t len = (size_t)min_u64(PIECE, f->bytes - at);

		if (vm_go_on(vm, e))
			return -1;
		if (tar_ops(e)->read(s->tar, buf, len, e) || hash_update(h, buf, len, e) ||
			io_write(to, buf, len, at, e))
			return -1;
		at += len;
		progress_report(vm->opts.voice.progress, at, f->bytes);
	}
	return buf ? 0 : -1;
}

static int unpack_file(struct bundle_source *s, const struct vm *vm, const char *folder, const struct bundle_file *f,
	struct error *e)
{
	AUTO_FREE char *path = mem_printf(e, "%s/%s", folder, f->name);
	AUTO_IO struct io *file = NULL;
	struct hash *h = NULL;
	char digest[129];

	vm_step(vm, "unpack", NULL);
	if (!path || io_file_create(&file, path, e) || hash_new(&h, "sha256", e))
		return -1;
	int failed = unpack_bytes(s, vm, file, f, h, e) || hash_finish(h, digest, e) || compare_digest(f, digest, e);

	hash_free(h);
	return failed ? -1 : 0;
}

static int unpack(struct bundle_source *s, const struct vm *vm, const struct bundle *b, const char *folder,
	struct error *e)
{
	AUTO_FREE bool *there = mem_calloc(b->file_count + 1, sizeof *there, "files", e);
	const char *name;
	uint64_t bytes;
	int rc = there ? 1 : -1;

	while (rc > 0 && (rc = tar_ops(e)->next(s->tar, &name, &bytes, e)) > 0) {
		const struct bundle_file *f = find(b, name);

		if (!f)
			return err_set(e, ERR_CORRUPT, "tar: something in it is not in the manifest");
		if (there[f - b->files])
			return err_set(e, ERR_CORRUPT, "tar: %s is there twice", f->name);
		if (bytes != f->bytes)
			return err_set(e, ERR_CHANGED, "tar: %s has %llu bytes, and %llu by the manifest", f->name,
				(unsigned long long)bytes, (unsigned long long)f->bytes);
		there[f - b->files] = true;
		if (unpack_file(s, vm, folder, f, e))
			return -1;
	}
	for (unsigned i = 0; !rc && i < b->file_count; i++)
		if (!there[i])
			rc = err_set(e, ERR_CORRUPT, "tar: %s is not there", b->files[i].name);
	return rc;
}

int bundle_take_files(struct bundle_source *s, const struct vm *vm, const struct bundle *b, const char *folder,
	struct error *e)
{
	if (!s->tar)
		return check_folder(s, vm, b, e);
	s->folder = mem_strdup(folder, e);
	return s->folder ? unpack(s, vm, b, folder, e) : -1;
}

/* ---- what they are ---- */

/* Nothing in it names a file, and it has no states but its own. */
static int check_image(const char *path, uint64_t size, struct error *e)
{
	const struct chain_opts opts = {
		.format = IMAGE_QCOW2, .no_backing = true, .untrusted = true, .lock = IO_LOCK_READ};
	AUTO_CHAIN struct chain *c = NULL;

	if (chain_open(&c, path, &opts, e))
		return -1;
	if (c->size != size)
		return err_set(e, ERR_CORRUPT, "%s: a disk of %llu bytes, and %llu by the manifest", path,
			(unsigned long long)c->size, (unsigned long long)size);
	return c->layers[0].q->snapshot_count ? err_set(e, ERR_CORRUPT, "%s: it has snapshots of its own", path) : 0;
}

static int read_definition(const char *path, const struct bundle_file *f, char **text, struct error *e)
{
	enum { MAX_DEFINITION = 16 << 20 };
	AUTO_IO struct io *file = NULL;

	if (f->bytes > MAX_DEFINITION)
		return err_set(e, ERR_LIMIT, "%s: a definition of %llu bytes", f->name, (unsigned long long)f->bytes);
	*text = mem_calloc(1, (size_t)f->bytes + 1, "definition", e);
	if (!*text || io_file_open(&file, path, IO_OPEN_REGULAR | IO_OPEN_NOFOLLOW, e) ||
		io_read(file, *text, (size_t)f->bytes, 0, e))
		return -1;
	return strlen(*text) == f->bytes ? 0 : err_set(e, ERR_CORRUPT, "%s: a NUL in a definition", f->name);
}

int bundle_check_files(const struct bundle_source *s, struct bundle *b, struct error *e)
{
	for (unsigned i = 0; i < b->catalog.count; i++) {
		struct vm_point *p = &b->catalog.points[i];
		const struct bundle_point *of = &b->points[i];
		AUTO_FREE char *definition = bundle_path(s, b, of->definition, e);

		if (!definition || read_definition(definition, &b->files[of->definition], &p->xml, e))
			return -1;
		for (unsigned k = 0; k < p->disk_count; k++) {
			AUTO_FREE char *path = bundle_path(s, b, of->images[k].file, e);

			if (!path || check_image(path, p->disks[k].size, e))
				return -1;
		}
	}
	return 0;
}

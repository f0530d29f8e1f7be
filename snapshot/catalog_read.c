/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog from the disk. It is checked once, here: all that a point needs is there, no text or list is longer than it can be,
 * names are there once, parents are there and nobody is its own ancestor. Keys that are not known are left alone.
 */
#include "snapshot/member.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CATALOG_VERSION = 1,
	MAX_BYTES = 64 << 20,
	MAX_POINTS = 10000,
	MAX_DISKS = 1000,
};

/* ---- points ---- */

static int read_disk(struct vm_point_disk *d, const json_t *v, struct error *e)
{
	if (point_disk_read(d, v, e) || get_word(&d->path, v, "path", MAX_PATH, true, e) ||
		get_word(&d->id, v, "id", MAX_WORD, true, e))
		return -1;
	return d->path[0] == '/' ? 0 : err_set(e, ERR_CORRUPT, "'path' is not absolute");
}

static int read_disks(struct vm_point *p, const json_t *point, struct error *e)
{
	const json_t *list;
	size_t count;

	if (get_list(&list, &count, point, "disks", MAX_DISKS, e))
		return -1;
	if (!count)
		return err_set(e, ERR_CORRUPT, "no disks");
	p->disks = mem_calloc(count, sizeof *p->disks, "disks", e);
	if (!p->disks)
		return -1;
	while (p->disk_count < count) {
		struct vm_point_disk *d = &p->disks[p->disk_count++];

		if (read_disk(d, json_array_get(list, p->disk_count - 1), e))
			return err_prefix(e, "disk %u", p->disk_count);
		for (const struct vm_point_disk *o = p->disks; o < d; o++)
			if (strcmp(o->target, d->target) == 0)
				return err_set(e, ERR_CORRUPT, "disk %s is there twice", d->target);
	}
	return 0;
}

/* "" where there is none. */
static int get_digest(char digest[129], const json_t *of, const char *key, struct error *e)
{
	const json_t *v = json_object_get(of, key);
	const char *text = v ? json_string_value(v) : "";

	if (!text || strlen(text) > 128 || strspn(text, "0123456789abcdef") != strlen(text))
		return err_set(e, ERR_CORRUPT, "'%s' is no digest", key);
	snprintf(digest, 129, "%s", text);
	return 0;
}

static int get_file(char **path, char digest[129], const json_t *of, const char *key, const char *digest_key,
	struct error *e)
{
	if (get_word(path, of, key, MAX_PATH, false, e) || get_digest(digest, of, digest_key, e))
		return -1;
	if (!*path)
		return 0;
	if (**path != '/')
		return err_set(e, ERR_CORRUPT, "'%s' is not absolute", key);
	return *digest ? 0 : err_set(e, ERR_CORRUPT, "'%s' is no digest", digest_key);
}

static int read_memory(struct vm_point *p, const json_t *v, struct error *e)
{
	int64_t bytes = 0;

	if (get_file(&p->memory, p->memory_digest, v, "memory", "memory-sha256", e) ||
		get_file(&p->nvram, p->nvram_digest, v, "nvram", "nvram-sha256", e) ||
		(p->memory && get_number(&bytes, v, "memory-bytes", 0, INT64_MAX, e)))
		return -1;
	p->memory_bytes = (uint64_t)bytes;
	return 0;
}

static int read_export(struct vm_point_export *x, const json_t *v, struct error *e)
{
	int64_t bytes;

	if (get_number(&x->when, v, "when", 0, INT64_MAX, e) || get_word(&x->target, v, "target", MAX_WORD, false, e) ||
		get_word(&x->to, v, "to", MAX_PATH, true, e) || get_word(&x->since, v, "since", MAX_WORD, false, e) ||
		get_number(&bytes, v, "bytes", 0, INT64_MAX, e))
		return -1;
	x->bytes = (uint64_t)bytes;
	return get_digest(x->digest, v, "sha256", e);
}

static int read_exports(struct vm_point *p, const json_t *point, struct error *e)
{
	const json_t *list;
	size_t count;

	if (get_list(&list, &count, point, "exports", CATALOG_MAX_EXPORTS, e))
		return -1;
	p->exports = count ? mem_calloc(count, sizeof *p->exports, "images", e) : NULL;
	if (count && !p->exports)
		return -1;
	while (p->export_count < count) {
		struct vm_point_export *x = &p->exports[p->export_count++];

		if (read_export(x, json_array_get(list, p->export_count - 1), e))
			return err_prefix(e, "export %u", p->export_count);
	}
	return 0;
}

static int read_point(struct vm_point *p, const json_t *v, struct error *e)
{
	if (point_head_read(p, v, e) || get_text(&p->xml, v, "xml", MAX_XML, false, e) || read_memory(p, v, e))
		return -1;
	return read_disks(p, v, e) || read_exports(p, v, e) ? -1 : 0;
}

static int read_points(struct vm_catalog *c, const json_t *root, struct error *e)
{
	const json_t *list;
	size_t count;

	if (get_list(&list, &count, root, "points", MAX_POINTS, e))
		return -1;
	c->points = mem_calloc(count + 1, sizeof *c->points, "snapshots", e);
	if (!c->points)
		return -1;
	while (c->count < count) {
		struct vm_point *p = &c->points[c->count++];

		if (read_point(p, json_array_get(list, c->count - 1), e))
			return err_prefix(e, "snapshot %u", c->count);
	}
	return 0;
}

/* ---- who is whose parent ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct vm_point *const *)a)->name, (*(const struct vm_point *const *)b)->name);
}

static const struct vm_point *named(const struct vm_point **sorted, unsigned count, char *name)
{
	const struct vm_point key = {.name = name}, *p = &key;
	const struct vm_point **found = bsearch(&p, sorted, count, sizeof *sorted, by_name);

	return found ? *found : NULL;
}

/* Each walk towards the root ends at a root or at what an earlier walk has seen; at what it has seen itself: a circle. */
static int check_no_circle(const struct vm_catalog *c, const unsigned *parents, unsigned *seen, struct error *e)
{
	for (unsigned i = 0; i < c->count; i++) {
		unsigned k = i;

		for (; k < c->count && !seen[k]; k = parents[k])
			seen[k] = i + 1;
		if (k < c->count && seen[k] == i + 1)
			return err_set(e, ERR_CORRUPT, "snapshot '%s' is its own ancestor", c->points[k].name);
	}
	return 0;
}

static int check_family(const struct vm_catalog *c, const struct vm_point **sorted, unsigned *numbers, struct error *e)
{
	for (unsigned i = 0; i < c->count; i++)
		sorted[i] = &c->points[i];
	qsort(sorted, c->count, sizeof *sorted, by_name);
	for (unsigned i = 1; i < c->count; i++)
		if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
			return err_set(e, ERR_CORRUPT, "snapshot '%s' is there twice", sorted[i]->name);
	if (c->current && !named(sorted, c->count, c->current))
		return err_set(e, ERR_CORRUPT, "the current snapshot '%s' is not there", c->current);
	for (unsigned i = 0; i < c->count; i++) {
		char *parent = c->points[i].parent;
		const struct vm_point *p = parent ? named(sorted, c->count, parent) : NULL;

		if (parent && !p)
			return err_set(e, ERR_CORRUPT, "'%s', the parent of snapshot '%s', is not there", parent,
				c->points[i].name);
		numbers[i] = p ? (unsigned)(p - c->points) : c->count;
	}
	return check_no_circle(c, numbers, numbers + c->count, e);
}

int catalog_check_family(const struct vm_catalog *c, struct error *e)
{
	AUTO_FREE const struct vm_point **sorted = mem_calloc(c->count + 1, sizeof *sorted, "snapshots", e);
	AUTO_FREE unsigned *numbers = mem_calloc(2 * (size_t)c->count + 1, sizeof *numbers, "snapshots", e);

	return sorted && numbers ? check_family(c, sorted, numbers, e) : -1;
}

/* ---- the file ---- */

static int read_head(const json_t *root, const char *uuid, struct error *e)
{
	const char *of = json_string_value(json_object_get(root, "uuid"));
	int64_t version;

	if (!json_is_object(root))
		return err_set(e, ERR_CORRUPT, "not a JSON object");
	if (get_number(&version, root, "version", 1, INT64_MAX, e))
		return -1;
	if (version > CATALOG_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "version %lld; this qsnap knows version %d", (long long)version,
			CATALOG_VERSION);
	return of && strcmp(of, uuid) == 0 ? 0 : err_set(e, ERR_CORRUPT, "it is not of domain %s", uuid);
}

int catalog_parse(const char *text, size_t len, const char *uuid, struct vm_catalog *out, struct error *e)
{
	json_error_t where;

	*out = (struct vm_catalog){0};
	if (len > MAX_BYTES)
		return err_set(e, ERR_LIMIT, "%zu bytes, more than %d", len, MAX_BYTES);
	AUTO_JSON json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);

	if (!root)
		return err_set(e, ERR_CORRUPT, "line %d: %s", where.line, where.text);
	if (!read_head(root, uuid, e) && !get_word(&out->current, root, "current", MAX_WORD, false, e) &&
		!read_points(out, root, e) && !catalog_check_family(out, e))
		return 0;
	vm_catalog_free(out);
	return -1;
}

static int read_file(const char *path, char **text, size_t *len, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), failed = 0;
	struct stat st;

	*text = NULL;
	*len = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
	if (fstat(fd, &st))
		failed = err_sys(e, errno, "%s", path);
	else if (!S_ISREG(st.st_mode) || st.st_size > MAX_BYTES)
		failed = err_set(e, ERR_LIMIT, "%s: no file of at most %d bytes", path, MAX_BYTES);
	else if (!(*text = mem_calloc(1, (size_t)st.st_size + 1, "catalog", e)))
		failed = -1;
	while (!failed && *len < (size_t)st.st_size) {
		ssize_t n = pread(fd, *text + *len, (size_t)st.st_size - *len, (off_t)*len);

		if (n < 0)
			failed = err_sys(e, errno, "%s", path);
		if (n <= 0)
			break;
		*len += (size_t)n;
	}
	close(fd);
	return failed;
}

int catalog_read(const struct vm *vm, struct vm_catalog *out, struct error *e)
{
	AUTO_FREE char *path = catalog_path(vm, e), *text = NULL;
	size_t len;

	*out = (struct vm_catalog){0};
	if (!path || read_file(path, &text, &len, e))
		return -1;
	if (text && catalog_parse(text, len, vm->domain.uuid, out, e))
		return err_prefix(e, "%s", path);
	return 0;
}

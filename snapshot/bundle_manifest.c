/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle's manifest, written and read. Whoever wrote what is read may mean ill: names become parts of file names only when they are
 * made of letters that mean nothing there, all lists are bounded, and what refers to something refers to what is there.
 */
#include "snapshot/bundle.h"
#include "snapshot/member.h"

#include <ctype.h>

enum { BUNDLE_VERSION = 1, MAX_POINTS = 10000, MAX_DISKS = 1000, MAX_FILES = 20000, MAX_FILE_NAME = 100, DIGEST = 64 };
#define KIND "qsnap"

/* ---- writing ---- */

static void put_file(struct json *j, const struct bundle *b, const char *key, unsigned file)
{
	if (file != BUNDLE_NONE)
		json_string(j, key, b->files[file].name);
}

static void put_point(struct json *j, const struct bundle *b, unsigned i)
{
	const struct vm_point *p = &b->catalog.points[i];
	const struct bundle_point *of = &b->points[i];

	json_object_begin(j, NULL);
	point_head_put(j, p);
	put_file(j, b, "definition", of->definition);
	put_file(j, b, "memory", of->memory);
	put_file(j, b, "nvram", of->nvram);
	json_array_begin(j, "disks");
	for (unsigned k = 0; k < p->disk_count; k++) {
		const struct bundle_image *image = &of->images[k];

		json_object_begin(j, NULL);
		point_disk_put(j, &p->disks[k]);
		put_file(j, b, "file", image->file);
		if (image->since != BUNDLE_NONE)
			json_string(j, "since", b->catalog.points[image->since].name);
		json_object_end(j);
	}
	json_array_end(j);
	json_object_end(j);
}

static void put_bundle(const struct bundle *b, FILE *f)
{
	struct json j;

	json_init(&j, f, false);
	json_object_begin(&j, NULL);
	json_string(&j, "bundle", KIND);
	json_int(&j, "version", BUNDLE_VERSION);
	json_string(&j, "domain", b->domain);
	json_string(&j, "uuid", b->uuid);
	json_string(&j, "snapshot", b->catalog.current);
	json_array_begin(&j, "points");
	for (unsigned i = 0; i < b->catalog.count; i++)
		put_point(&j, b, i);
	json_array_end(&j);
	json_array_begin(&j, "files");
	for (unsigned i = 0; i < b->file_count; i++) {
		json_object_begin(&j, NULL);
		json_string(&j, "name", b->files[i].name);
		json_uint(&j, "bytes", b->files[i].bytes);
		json_string(&j, "sha256", b->files[i].digest);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_object_end(&j);
	fputc('\n', f);
}

/* What is not to be read again must not be written. */
int bundle_text(const struct bundle *b, char **text, size_t *len, struct error *e)
{
	FILE *f = open_memstream(text, len);
	struct bundle again;

	if (!f)
		return err_set(e, ERR_NO_MEMORY, "no memory for a manifest");
	put_bundle(b, f);
	if (fclose(f))
		return err_set(e, ERR_NO_MEMORY, "no memory for a manifest");
	if (bundle_parse(*text, *len, &again, e)) {
		free(STEAL(*text));
		return -1;
	}
	bundle_free(&again);
	return 0;
}

/* ---- reading: files ---- */

static bool is_of(const char *text, const char *letters, size_t most)
{
	size_t len = strlen(text);

	return len && len <= most && strspn(text, letters) == len;
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int read_file(struct bundle_file *f, const json_t *v, struct error *e)
{
	const char *digest = json_string_value(json_object_get(v, "sha256"));
	int64_t bytes;

	if (get_word(&f->name, v, "name", MAX_FILE_NAME, true, e) || get_number(&bytes, v, "bytes", 0, INT64_MAX, e))
		return -1;
	if (!is_of(f->name, LOWER UPPER DIGITS "._-", MAX_FILE_NAME) || !isalnum((unsigned char)f->name[0]) ||
		strcmp(f->name, BUNDLE_MANIFEST) == 0)
		return err_set(e, ERR_CORRUPT, "'%s' is no name for a file of a bundle", f->name);
	if (!digest || strlen(digest) != DIGEST || !is_of(digest, DIGITS "abcdef", DIGEST))
		return err_set(e, ERR_CORRUPT, "'sha256' is no digest");
	f->bytes = (uint64_t)bytes;
	memcpy(f->digest, digest, DIGEST + 1);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct bundle_file *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Sorted by name. */
static int read_files(struct bundle *b, const json_t *root, struct error *e)
{
	const json_t *list;
	size_t count;

	if (get_list(&list, &count, root, "files", MAX_FILES, e))
		return -1;
	b->files = mem_calloc(count + 1, sizeof *b->files, "files", e);
	if (!b->files)
		return -1;
	while (b->file_count < count) {
		struct bundle_file *f = &b->files[b->file_count++];

		if (read_file(f, json_array_get(list, b->file_count - 1), e))
			return err_prefix(e, "file %u", b->file_count);
	}
	qsort(b->files, count, sizeof *b->files, by_name);
	for (size_t i = 1; i < count; i++)
		if (strcmp(b->files[i - 1].name, b->files[i].name) == 0)
			return err_set(e, ERR_CORRUPT, "file %s is there twice", b->files[i].name);
	return 0;
}

/* ---- reading: points ---- */

/* The file that a member names, which nothing else may be in. */
static int take_file(unsigned *out, const struct bundle *b, bool *taken, const json_t *v, const char *key, bool must,
	struct error *e)
{
	AUTO_FREE char *name = NULL;

	*out = BUNDLE_NONE;
	if (get_word(&name, v, key, MAX_FILE_NAME, must, e))
		return -1;
	if (!name)
		return 0;
	const struct bundle_file wanted = {.name = name},
				 *f = bsearch(&wanted, b->files, b->file_count, sizeof wanted, by_name);

	if (!f)
		return err_set(e, ERR_CORRUPT, "'%s': no file %s is listed", key, name);
	if (taken[f - b->files])
		return err_set(e, ERR_CORRUPT, "'%s': file %s is something else already", key, name);
	*out = (unsigned)(f - b->files);
	taken[*out] = true;
	return 0;
}

static int read_disk(struct bundle *b, unsigned point, unsigned disk, bool *taken, const json_t *v, struct error *e)
{
	struct vm_point *p = &b->catalog.points[point];
	struct vm_point_disk *d = &p->disks[disk];

	if (point_disk_read(d, v, e))
		return -1;
	if (!is_of(d->target, LOWER UPPER DIGITS "_-", MAX_FILE_NAME / 2))
		return err_set(e, ERR_CORRUPT, "'%s' is no target of a disk", d->target);
	for (unsigned i = 0; i < disk; i++)
		if (strcmp(p->disks[i].target, d->target) == 0)
			return err_set(e, ERR_CORRUPT, "disk %s is there twice", d->target);
	return take_file(&b->points[point].images[disk].file, b, taken, v, "file", true, e);
}

static int read_point(struct bundle *b, unsigned i, bool *taken, const json_t *v, struct error *e)
{
	struct vm_point *p = &b->catalog.points[i];
	struct bundle_point *of = &b->points[i];
	AUTO_FREE char *name = NULL;
	const json_t *list;
	size_t count;

	if (point_head_read(p, v, e) || !(name = take_name(p->name, e)) ||
		take_file(&of->definition, b, taken, v, "definition", true, e) ||
		take_file(&of->memory, b, taken, v, "memory", false, e) ||
		take_file(&of->nvram, b, taken, v, "nvram", false, e) ||
		get_list(&list, &count, v, "disks", MAX_DISKS, e))
		return -1;
	if (!count)
		return err_set(e, ERR_CORRUPT, "no disks");
	p->disks = mem_calloc(count, sizeof *p->disks, "disks", e);
	of->images = p->disks ? mem_calloc(count, sizeof *of->images, "images", e) : NULL;
	if (!of->images)
		return -1;
	while (p->disk_count < count) {
		p->disk_count++;
		if (read_disk(b, i, p->disk_count - 1, taken, json_array_get(list, p->disk_count - 1), e))
			return err_prefix(e, "disk %u", p->disk_count);
	}
	return 0;
}

/* An image without something is made whole by what was made before it. */
static int read_since(struct bundle *b, const json_t *list, struct error *e)
{
	for (unsigned i = 0; i < b->catalog.count; i++) {
		const struct vm_point *p = &b->catalog.points[i];
		const json_t *disks = json_object_get(json_array_get(list, i), "disks");

		for (unsigned k = 0; k < p->disk_count; k++) {
			struct bundle_image *image = &b->points[i].images[k];
			AUTO_FREE char *since = NULL;

			image->since = BUNDLE_NONE;
			if (get_word(&since, json_array_get(disks, k), "since", MAX_WORD, false, e))
				return -1;
			if (!since)
				continue;
			image->since = bundle_ancestor(b, i, p->disks[k].target);
			if (image->since == BUNDLE_NONE || strcmp(since, b->catalog.points[image->since].name) != 0)
				return err_set(e, ERR_CORRUPT,
					"snapshot %u: disk %s: '%s' is not the one before it that has this disk", i + 1,
					p->disks[k].target, since);
		}
	}
	return 0;
}

static int read_points(struct bundle *b, const json_t *root, bool *taken, struct error *e)
{
	struct vm_catalog *c = &b->catalog;
	const json_t *list;
	size_t count;

	if (get_list(&list, &count, root, "points", MAX_POINTS, e))
		return -1;
	if (!count)
		return err_set(e, ERR_CORRUPT, "no snapshots");
	c->points = mem_calloc(count, sizeof *c->points, "snapshots", e);
	b->points = c->points ? mem_calloc(count, sizeof *b->points, "snapshots", e) : NULL;
	if (!b->points)
		return -1;
	while (c->count < count) {
		c->count++;
		if (read_point(b, c->count - 1, taken, json_array_get(list, c->count - 1), e))
			return err_prefix(e, "snapshot %u", c->count);
	}
	if (catalog_check_family(c, e))
		return -1;
	bundle_link(b);
	return read_since(b, list, e);
}

/* ---- reading: all ---- */

static bool is_uuid(const char *text)
{
	static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(text) != sizeof shape - 1)
		return false;
	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == 'x' ? !strchr(DIGITS "abcdef", text[i]) : text[i] != '-')
			return false;
	return true;
}

static int read_head(struct bundle *b, const json_t *root, struct error *e)
{
	const char *kind = json_string_value(json_object_get(root, "bundle"));
	int64_t version;

	if (!kind || strcmp(kind, KIND) != 0)
		return err_set(e, ERR_CORRUPT, "not the manifest of a bundle");
	if (get_number(&version, root, "version", 1, INT64_MAX, e))
		return -1;
	if (version > BUNDLE_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "version %lld; this qsnap knows version %d", (long long)version,
			BUNDLE_VERSION);
	if (get_word(&b->domain, root, "domain", BUNDLE_MAX_NAME, true, e) ||
		get_word(&b->uuid, root, "uuid", MAX_WORD, true, e) ||
		get_word(&b->catalog.current, root, "snapshot", MAX_WORD, true, e))
		return -1;
	if (!is_uuid(b->uuid))
		return err_set(e, ERR_CORRUPT, "'uuid' is none");
	return bundle_domain_fits(b->domain) ? 0 : err_set(e, ERR_CORRUPT, "'domain' is no name for a domain");
}

static int read_all(struct bundle *b, const json_t *root, struct error *e)
{
	if (read_head(b, root, e) || read_files(b, root, e))
		return -1;
	AUTO_FREE bool *taken = mem_calloc(b->file_count + 1, sizeof *taken, "files", e);

	if (!taken || read_points(b, root, taken, e))
		return -1;
	for (unsigned i = 0; i < b->file_count; i++)
		if (!taken[i])
			return err_set(e, ERR_CORRUPT, "file %s belongs to nothing", b->files[i].name);
	return 0;
}

int bundle_parse(const char *text, size_t len, struct bundle *out, struct error *e)
{
	json_error_t where;

	*out = (struct bundle){0};
	if (len > BUNDLE_MAX_MANIFEST)
		return err_set(e, ERR_LIMIT, "%zu bytes, more than %d", len, BUNDLE_MAX_MANIFEST);
	AUTO_JSON json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);

	if (!root)
		return err_set(e, ERR_CORRUPT, "line %d: %s", where.line, where.text);
	if (!read_all(out, root, e))
		return 0;
	bundle_free(out);
	return -1;
}

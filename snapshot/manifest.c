/* SPDX-License-Identifier: Apache-2.0
 *
 * manifest.json beside the images of a snapshot: what they are of, of which instant, and their digests.
 */
#include "snapshot/internal.h"

#include <time.h>

enum { MANIFEST_VERSION = 1 };

static void put_file(struct json *j, const char *key, const struct take_file *f, const struct take_file *beside,
	uint64_t bytes, const char *digest)
{
	const char *path = beside->path ? beside->path : f->path;

	if (!path)
		return;
	json_object_begin(j, key);
	json_string(j, "file", strrchr(path, '/') + 1);
	json_uint(j, "bytes", bytes);
	json_string(j, "sha256", digest);
	json_object_end(j);
}

static void write_manifest(const struct take *t, FILE *f)
{
	struct json j;
	char when[32];
	struct tm tm;
	const time_t created = (time_t)t->out->created;

	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&created, &tm));
	json_init(&j, f, false);
	json_object_begin(&j, NULL);
	json_uint(&j, "version", MANIFEST_VERSION);
	json_string(&j, "domain", t->domain.name);
	json_string(&j, "uuid", t->domain.uuid);
	json_string(&j, "name", t->out->name);
	json_string(&j, "created", when);
	json_string(&j, "mode", vm_mode_name(t->out->mode));
	json_bool(&j, "quiesced", t->out->quiesced);
	if (t->out->since) {
		json_object_begin(&j, "since");
		json_string(&j, "name", t->out->since);
		json_object_end(&j);
	}
	json_array_begin(&j, "disks");
	for (unsigned i = 0; i < t->part_count; i++) {
		const struct vm_taken_disk *d = &t->out->disks[i];

		json_object_begin(&j, NULL);
		json_string(&j, "target", d->target);
		json_string(&j, "file", strrchr(d->path, '/') + 1);
		json_string(&j, "format", image_format_name(t->opts->create.format));
		json_uint(&j, "virtual-size", d->size);
		json_uint(&j, "bytes", d->bytes);
		json_string(&j, "sha256", d->digest);
		if (t->parts[i].backing)
			json_string(&j, "backing", t->parts[i].backing);
		json_object_end(&j);
	}
	json_array_end(&j);
	put_file(&j, "memory", &t->memory, &t->memory_beside, t->out->memory_bytes, t->out->memory_digest);
	put_file(&j, "nvram", &t->nvram, &t->nvram_beside, t->nvram_len, t->out->nvram_digest);
	json_object_end(&j);
	fputc('\n', f);
}

static int write_whole(const struct take *t, struct io *file, struct error *e)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return err_set(e, ERR_NO_MEMORY, "no memory for a manifest");
	write_manifest(t, f);
	int failed =
		fclose(f) ? err_set(e, ERR_NO_MEMORY, "no memory for a manifest") : io_write(file, text, len, 0, e);

	free(text);
	return failed;
}

/* The folder, too: the manifest is there whenever the journal says that it is the user's. */
int take_manifest(struct take *t, struct error *e)
{
	if (!take_to_folder(t))
		return 0;
	AUTO_FREE char *path = mem_printf(e, "%s%smanifest.json", t->opts->to, take_slash(t));
	struct target *target;
	struct made made;

	if (!path || made_open(&made, t->vm, path, NULL, &target, e))
		return -1;
	t->manifest = made.trace;
	int failed = write_whole(t, target_io(target), e) || target_commit(target, e);

	target_close(target);
	return failed ? -1 : 0;
}

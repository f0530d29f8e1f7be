/* SPDX-License-Identifier: Apache-2.0
 *
 * Images that stand alone, out of the frozen states: one conversion a disk, each of which proves at its end that what it
 * read held still. An image has its final name only when it is whole; all have, or none is left.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <sys/stat.h>

bool take_to_folder(const struct take *t)
{
	return t->opts->to && strcmp(t->opts->to, "-") != 0 && (t->part_count > 1 || io_means_folder(t->opts->to));
}

const char *take_slash(const struct take *t)
{
	size_t len = strlen(t->opts->to);

	return len && t->opts->to[len - 1] == '/' ? "" : "/";
}

/* What `--to` means: NULL in *path for a stream. */
static int image_path(const struct take *t, const struct part *p, char **path, struct error *e)
{
	const char *to = t->opts->to;

	*path = NULL;
	if (strcmp(to, "-") == 0)
		return 0;
	if (take_to_folder(t))
		*path = mem_printf(e, "%s%s%s.%s", to, take_slash(t), p->disk->target,
			image_format_name(t->opts->create.format));
	else
		*path = mem_strdup(to, e);
	return *path ? 0 : -1;
}

/* That of an earlier snapshot tells of images that are still there. */
static int refuse_manifest(const struct take *t, struct error *e)
{
	struct stat st;

	if (!take_to_folder(t))
		return 0;
	AUTO_FREE char *path = mem_printf(e, "%s%smanifest.json", t->opts->to, take_slash(t));
	if (!path)
		return -1;
	return lstat(path, &st) ? 0 : err_set(e, ERR_USAGE, "%s exists already", path);
}

int take_targets(struct take *t, struct error *e)
{
	const char *to = t->opts->to;
	struct stat st;

	if (!to)
		return 0;
	if (t->part_count > 1 && strcmp(to, "-") == 0 && !t->opts->sink)
		return err_set(e, ERR_USAGE, "%u disks cannot go to one stream", t->part_count);
	if (take_to_folder(t) && !stat(to, &st) && !S_ISDIR(st.st_mode))
		return err_set(e, ERR_USAGE, "%s is a file, and %u disk%s must go to a folder", to, t->part_count,
			t->part_count == 1 ? "" : "s");
	if (refuse_manifest(t, e))
		return -1;
	for (unsigned i = 0; i < t->part_count; i++) {
		char **path = &t->out->disks[i].path;

		if (image_path(t, &t->parts[i], path, e))
			return -1;
		if (*path && !lstat(*path, &st))
			return err_set(e, ERR_USAGE, "%s exists already", *path);
	}
	return 0;
}

int take_folder(struct take *t, struct error *e)
{
	if (!take_to_folder(t))
		return 0;
	t->folder_made = !mkdir(t->opts->to, 0777);
	return t->folder_made || errno == EEXIST ? 0 : err_sys(e, errno, "%s", t->opts->to);
}

/* The disk's size is told to whoever gives the stream, before the image is made. */
static int look_at_size(const struct convert_opts *o, uint64_t *size, struct error *e)
{
	AUTO_CHAIN struct chain *chain = NULL;

	if (chain_open(&chain, o->sources[0].name, &o->sources[0].open, e))
		return -1;
	*size = chain->size;
	return 0;
}

static int run(struct take *t, struct convert_opts *o, struct vm_taken_disk *out, struct convert_result *result,
	struct error *e)
{
	const struct vm_sink *s = t->opts->sink;
	const unsigned disk = (unsigned)(out - t->out->disks);

	if (!s)
		return convert_run(o, result, e);
	if (look_at_size(o, &out->size, e))
		return -1;
	do {
		if (!s->begin(s->ctx, &t->domain, t->out, disk, &o->stream, e) && !convert_run(o, result, e) &&
			!s->end(s->ctx, disk, result->virtual_size, &out->path, e))
			return 0;
	} while (s->again(s->ctx, disk, e));
	return -1;
}

/* What is read, and what becomes of it; what the options borrow is the part's and `of`'s. */
struct extraction {
	struct convert_source source;
	struct snapshot_query snapshot, since;
};
static void describe(const struct take *t, const struct part *p, const struct vm_taken_disk *out, struct extraction *of,
	struct convert_opts *o)
{
	*of = (struct extraction){.source = {.name = p->path},
		.snapshot = {.name = p->snapshot, .id = p->snapshot_id},
		.since = {.name = p->since_name, .id = p->since.id}};
	disk_chain_opts(p, &of->source.open);
	of->source.open.snapshot = p->snapshot ? &of->snapshot : NULL;
	of->source.since = p->since_name ? &of->since : NULL;
	convert_defaults(o);
	o->sources = &of->source;
	o->source_count = 1;
	o->create = t->opts->create;
	o->create.backing_name = p->backing;
	o->create.backing_format = p->backing ? image_format_name(IMAGE_QCOW2) : NULL;
	o->create.nameless_backing = p->since_name && !p->backing;
	o->compress = t->opts->compress;
	o->threads = t->opts->threads;
	o->target = out->path ? out->path : "-";
	o->hash = out->path || t->opts->sink ? NULL : "sha256";
	o->stream_fd = t->opts->stream_fd;
}

static int extract(struct take *t, struct part *p, struct vm_taken_disk *out, struct error *e)
{
	struct convert_opts o;
	struct extraction of;
	struct convert_result result;
	struct space_watch watch;
	struct made made;

	describe(t, p, out, &of, &o);
	space_watch_begin(&watch, t);
	/* A stream waits for its reader, and must hear of a cancel meanwhile. */
	o.progress = out->path ? &watch.progress : t->vm->opts.voice.progress;
	if (out->path && made_begin(&made, t->vm, out->path, &o.target_opts, e))
		return -1;
	p->output = out->path ? made.trace : 0;
	vm_step(t->vm, "extract", p->disk->target);
	if (vm_go_on(t->vm, e) || take_space_left(t, e))
		return -1;
	if (run(t, &o, out, &result, e)) {
		if (watch.why.code)
			*e = watch.why;
		else if (p->snapshot && e->code == ERR_NOT_FOUND && !e->sys_errno) /* it was there */
			e->code = ERR_CHANGED;
		return err_prefix(e, "disk %s", p->disk->target);
	}
	if (take_was_still(p, e) || take_since_was_there(p, e))
		return err_prefix(e, "disk %s", p->disk->target);
	out->size = result.virtual_size;
	out->bytes = result.target_bytes;
	memcpy(out->digest, result.digest, sizeof out->digest); /* of a stream; files have theirs from take_digests */
	return 0;
}

int take_extract(struct take *t, struct error *e)
{
	if (!t->opts->to)
		return 0;
	int failed = take_hold_still(t, e);

	for (unsigned i = 0; i < t->part_count && !failed; i++)
		failed = extract(t, &t->parts[i], &t->out->disks[i], e);
	take_release_still(t);
	return failed;
}

/* Not while they are made: a digest of a sparse raw image takes as long as its size, and the guest may stand still meanwhile. */
int take_digests(struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->out->disk_count; i++) {
		struct vm_taken_disk *d = &t->out->disks[i];
		struct space_watch watch;

		if (!d->path || t->opts->sink)
			continue;
		vm_step(t->vm, "digest", d->target);
		space_watch_begin(&watch, t);
		if (!convert_digest(d->path, "sha256", &watch.progress, d->digest, e))
			continue;
		if (watch.why.code)
			*e = watch.why;
		return err_prefix(e, "disk %s", d->target);
	}
	return 0;
}

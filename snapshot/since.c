/* SPDX-License-Identifier: Apache-2.0
 *
 * Images of what changed since an earlier snapshot that the disks still have (`vm_take.since`). All that can make it impossible is
 * looked at before the first step: the earlier snapshot is there, whole, of each disk; and each disk has an image of it, which the
 * new one can be an overlay of. The catalog tells where that went. Of a file its length and its header are looked at, and that
 * those below it are there; its digest, which takes as long as it is large, is for who restores.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <sys/stat.h>

static int refuse_options(const struct take *t, struct error *e)
{
	const struct vm_take *o = t->opts;

	if (!o->keep || t->out->mode == VM_LIVE || t->out->via == VM_VIA_OVERLAY)
		return err_set(e, ERR_USAGE,
			"an increment needs a snapshot that is kept in the disks, as the earlier one is");
	if (!o->to || (strcmp(o->to, "-") == 0 && !o->sink))
		return err_set(e, ERR_USAGE,
			"an increment is an overlay of an earlier image: it needs a folder or a file to lie in");
	if (o->create.format != IMAGE_QCOW2)
		return err_set(e, ERR_USAGE, "an increment is a qcow2 image: a raw one has no backing file");
	return 0;
}

static const struct vm_point *find_point(const struct take *t, const struct vm_catalog *c, struct error *e)
{
	const struct vm_point *p = vm_catalog_find(c, t->opts->since);

	if (p && p->state == VM_POINT_WHOLE)
		return p;
	if (!p)
		err_fill(e, ERR_NOT_FOUND, "domain '%s' has no snapshot '%s'", t->domain.name, t->opts->since);
	else
		err_fill(e, ERR_UNSUPPORTED, "snapshot '%s' is %s: %s", p->name, vm_point_state_name(p->state), p->why);
	return NULL;
}

/* ---- the image that the increment is an overlay of ---- */

/* What lies below it is not the guest's, but who can write there is not asked to be trusted, either. */
static int allow(void *ctx, const char *path, enum image_format *format, struct error *e)
{
	struct stat st;

	(void)ctx;
	if (stat(path, &st))
		return err_sys(e, errno, "%s", path);
	if (!S_ISREG(st.st_mode) || *format != IMAGE_QCOW2)
		return err_set(e, ERR_DENIED, "%s: no image that an increment could be of", path);
	return 0;
}

static int look_at_file(const struct vm_point_export *x, const struct vm_point_disk *d, struct error *e)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .inspect = true, .lock = IO_LOCK_SHARED, .allow = allow};
	AUTO_CHAIN struct chain *c = NULL;
	struct stat st;

	if (stat(x->to, &st))
		return err_sys(e, errno, "%s", x->to);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != x->bytes)
		return err_set(e, ERR_CHANGED, "%s is not the image of %llu bytes that was made", x->to,
			(unsigned long long)x->bytes);
	if (chain_open(&c, x->to, &opts, e))
		return -1;
	return c->size == d->size ? 0
				  : err_set(e, ERR_CHANGED, "%s: a disk of %llu bytes, not %llu", x->to,
					    (unsigned long long)c->size, (unsigned long long)d->size);
}

static bool is_of_kind(const struct take *t, const struct vm_point_export *x)
{
	const struct vm_sink *s = t->opts->sink;

	return s ? s->scheme && strncmp(x->to, s->scheme, strlen(s->scheme)) == 0 : x->to[0] == '/';
}

static int look_at_image(const struct take *t, const struct vm_point_export *x, const struct vm_point_disk *d,
	struct error *e)
{
	const struct vm_sink *s = t->opts->sink;

	return s ? s->look(s->ctx, x->to, d->size, x->bytes, e) : look_at_file(x, d, e);
}

/* The latest that is still there; the error is that of the latest. */
static int find_image(const struct take *t, const struct vm_point *p, const struct vm_point_disk *d, char **base,
	struct error *e)
{
	struct error later, *why = e;

	for (unsigned i = p->export_count; i-- > 0;) {
		const struct vm_point_export *x = &p->exports[i];

		if (!x->target || strcmp(x->target, d->target) != 0 || !is_of_kind(t, x))
			continue;
		if (!look_at_image(t, x, d, why)) {
			*base = mem_strdup(x->to, e);
			return *base ? 0 : -1;
		}
		why = &later;
	}
	if (why == e)
		return err_set(e, ERR_NOT_FOUND,
			"no image of it is known %s, which an increment could be an overlay of",
			t->opts->sink ? "at that place" : "in a file");
	return -1;
}

static int find_disk(struct take *t, const struct vm_point *p, unsigned i, struct error *e)
{
	struct part *part = &t->parts[i];
	const struct vm_point_disk *d = point_find_disk(p, part->disk->target);

	if (!d)
		return err_set(e, ERR_UNSUPPORTED, "it is not of this disk");
	part->since = (struct vm_point_disk){.date_sec = d->date_sec, .date_nsec = d->date_nsec};
	part->since.id = mem_strdup(d->id, e);
	part->since_name = t->opts->since;
	t->out->disks[i].base_size = d->size;
	return part->since.id ? find_image(t, p, d, &t->out->disks[i].base, e) : -1;
}

int take_since(struct take *t, struct error *e)
{
	struct vm_catalog c;
	int failed;

	if (!t->opts->since)
		return 0;
	t->out->since = mem_strdup(t->opts->since, e);
	if (!t->out->since || refuse_options(t, e) || vm_points(t->vm, &c, e))
		return -1;
	const struct vm_point *p = find_point(t, &c, e);

	failed = p ? 0 : -1;
	for (unsigned i = 0; !failed && i < t->part_count; i++)
		if (find_disk(t, p, i, e))
			failed = err_prefix(e, "snapshot '%s', disk %s", p->name, t->parts[i].disk->target);
	vm_catalog_free(&c);
	return failed;
}

/* ---- its name, as the new image has it ---- */

/* From one folder to a file, both real names from the root on. What begins with a name might be taken for a protocol. */
static char *name_from(const char *folder, const char *file, struct error *e)
{
	size_t same = 0;
	unsigned up = 0;

	for (size_t i = 0; folder[i] == file[i] || (!folder[i] && file[i] == '/'); i++) {
		if (file[i] == '/')
			same = i;
		if (!folder[i])
			break;
	}
	for (const char *p = folder + same; *p; p++)
		up += p[0] == '/' && p[1];
	char *out = mem_calloc(3 * (size_t)up + strlen(file) + 3, 1, "a name", e), *to = out;

	if (!out)
		return NULL;
	for (unsigned i = 0; i < up; i++)
		to = stpcpy(to, "../");
	if (!up)
		to = stpcpy(to, "./");
	stpcpy(to, file + same + 1);
	return out;
}

static char *real_name(const char *path, struct error *e)
{
	char *out = realpath(path, NULL);

	if (!out)
		err_fill_sys(e, errno, "%s", path);
	return out;
}

/* The folder is there by now. */
static int name_backing(const char *image, const char *base, char **name, struct error *e)
{
	const char *slash = strrchr(image, '/');
	AUTO_FREE char *in = slash ? mem_printf(e, "%.*s", (int)(slash + 1 - image), image) : mem_strdup(".", e);
	AUTO_FREE char *folder = in ? real_name(in, e) : NULL, *file = folder ? real_name(base, e) : NULL;

	if (!file)
		return -1;
	*name = name_from(folder, file, e);
	if (!*name)
		return -1;
	return strlen(*name) <= QCOW2_MAX_BACKING_NAME
		       ? 0
		       : err_set(e, ERR_LIMIT, "%s is too far from %s: a name of %zu bytes", folder, base,
				 strlen(*name));
}

int take_since_names(struct take *t, struct error *e)
{
	if (!t->opts->since || t->opts->sink)
		return 0;
	for (unsigned i = 0; i < t->part_count; i++)
		if (name_backing(t->out->disks[i].path, t->out->disks[i].base, &t->parts[i].backing, e))
			return -1;
	return 0;
}

/* ---- the conversion ---- */

static int find_state(const struct part *p, const struct qcow2 *q, struct error *e)
{
	const struct snapshot_query query = {.name = p->since_name, .id = p->since.id};
	int index = qcow2_snapshot_find(q, &query, e);

	if (index < 0)
		return -1;
	const struct snapshot_entry *s = &q->snapshots[index].entry;

	if (s->date_sec != p->since.date_sec || s->date_nsec != p->since.date_nsec)
		return err_set(e, ERR_CHANGED, "snapshot '%s' is another one by now", p->since_name);
	return index;
}

int take_since_was_there(const struct part *p, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	if (!p->since_name)
		return 0;
	return disk_look(p->path, DRIVER_QCOW2, &c, e) || find_state(p, c->layers[0].q, e) < 0 ? -1 : 0;
}

int take_since_bytes(const struct part *p, struct chain *c, uint64_t *bytes, struct error *e)
{
	const struct qcow2 *q = c->layers[0].q;
	struct qcow2_state since, now;
	struct diff_extent x = {0};
	struct diff *d;
	int index = find_state(p, q, e), more;

	*bytes = 0;
	qcow2_state_active(q, &now);
	if (index < 0 || qcow2_state_of_snapshot(q, (uint32_t)index, &since, e) || diff_new(&d, c, &since, &now, e))
		return -1;
	while ((more = diff_next(d, x.end, UINT64_MAX, &x, e)) > 0)
		if (x.kind == DIFF_DATA || x.kind == DIFF_BACKING)
			*bytes += x.end - x.start;
	diff_free(d);
	return more;
}

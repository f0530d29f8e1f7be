/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk with all its snapshots, out of the images of a bundle. From the root on, depth first: the disk goes back to the snapshot that
 * an image is a difference to, which is what it is anyway where the line goes on; what the image holds is written over it; and
 * the snapshot is made. At the end the disk goes to the one that it is to be at. An image that misses nothing is written over nothing.
 */
#include "qcow2/edit.h"
#include "snapshot/bundle.h"

struct making {
	const struct bundle_source *source;
	struct vm *vm;
	const struct bundle *b;
	const char *target, *path;
	unsigned threads;
	unsigned at; /* the point whose state the disk has; BUNDLE_NONE: there is no disk yet */
};

/* ---- one state ---- */

/* The first: a new file. */
static int copy(const struct making *m, const char *image, struct error *e)
{
	const struct convert_source source = {
		.name = image, .open = {.format = IMAGE_QCOW2, .untrusted = true, .no_backing = true}};
	struct convert_result result;
	struct convert_opts o;

	convert_defaults(&o);
	image_create_defaults(&o.create, IMAGE_QCOW2);
	o.sources = &source;
	o.source_count = 1;
	o.target = m->path;
	o.threads = m->threads;
	o.target_opts = (struct target_opts){.fresh = true};
	o.progress = m->vm->opts.voice.progress;
	return convert_run(&o, &result, e);
}

/* What was there goes, but for what snapshots have. */
static int clear(const struct making *m, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;
	struct edited d;
	struct error later;

	if (disk_open_to_change(m->path, IO_LOCK_WRITE, &c, e) || edited_open(&d, c, 0, NULL, e))
		return -1;
	int failed = edit_empty(d.ed, e);

	return edited_close(&d, failed ? &later : e) || failed ? -1 : 0;
}

static int cut(const struct making *m, uint64_t size, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	if (disk_open_to_change(m->path, IO_LOCK_WRITE, &c, e))
		return -1;
	return c->size > size ? convert_resize(c, size, PREALLOC_OFF, NULL, e) : 0;
}

/* Two images, neither of which names the other, as one disk. Takes both. */
static int join(struct chain *top, struct chain *base, struct chain **out, struct error *e)
{
	struct chain *two = mem_calloc(1, sizeof *two, "images", e);

	if (two)
		two->layers = mem_calloc(2, sizeof *two->layers, "images", e);
	if (!two || !two->layers) {
		free(two);
		chain_close(top);
		chain_close(base);
		return -1;
	}
	two->layers[0] = top->layers[0];
	two->layers[1] = base->layers[0];
	two->count = 2;
	two->size = top->size;
	free(top->layers);
	free(top);
	free(base->layers);
	free(base);
	*out = two;
	return 0;
}

/* What the image holds, zeros among it, becomes the disk's. */
static int write_over(const struct making *m, const char *image, struct error *e)
{
	const struct chain_opts opts = {
		.format = IMAGE_QCOW2, .no_backing = true, .untrusted = true, .lock = IO_LOCK_READ};
	struct chain *top, *base;
	AUTO_CHAIN struct chain *both = NULL;

	if (chain_open(&top, image, &opts, e))
		return -1;
	if (disk_open_to_change(m->path, IO_LOCK_WRITE, &base, e)) {
		chain_close(top);
		return -1;
	}
	if (join(top, base, &both, e))
		return -1;
	return convert_commit(&(struct commit_opts){.image = both,
				      .base = 1,
				      .keep = true,
				      .threads = m->threads,
				      .progress = m->vm->opts.voice.progress},
		e);
}

static int snapshot(const struct making *m, const struct vm_point *p, const struct vm_point_disk *d, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	return disk_open_to_change(m->path, IO_LOCK_WRITE, &c, e) ||
			       disk_snapshot_create(&c->layers[0], p->name, d->date_sec, d->date_nsec, e)
		       ? -1
		       : 0;
}

static int go_to(struct making *m, unsigned point, struct error *e)
{
	if (m->at == point)
		return 0;
	m->at = point;
	return disk_snapshot_apply(m->path, IO_LOCK_WRITE, m->b->catalog.points[point].name, NULL, e);
}

static int add_point(struct making *m, unsigned point, unsigned disk, struct error *e)
{
	const struct vm_point *p = &m->b->catalog.points[point];
	const struct bundle_image *image = &m->b->points[point].images[disk];
	const struct vm_point_disk *d = &p->disks[disk];
	AUTO_FREE char *path = bundle_path(m->source, m->b, image->file, e);

	if (!path || vm_go_on(m->vm, e))
		return -1;
	vm_step(m->vm, "build", m->target);
	if (m->at == BUNDLE_NONE) {
		if (copy(m, path, e))
			return -1;
	} else if ((image->since == BUNDLE_NONE ? clear(m, e) : go_to(m, image->since, e)) || cut(m, d->size, e) ||
		   write_over(m, path, e)) {
		return -1;
	}
	m->at = point;
	return snapshot(m, p, d, e);
}

/* ---- all of them ---- */

int bundle_make_disk(const struct bundle_source *s, struct vm *vm, const struct bundle *b, const char *target,
	const char *path, unsigned threads, struct error *e)
{
	struct making m = {
		.source = s, .vm = vm, .b = b, .target = target, .path = path, .threads = threads, .at = BUNDLE_NONE};
	unsigned current = bundle_point(b, b->catalog.current);
	AUTO_FREE unsigned *points = NULL;

	if (bundle_order(b, &points, e))
		return -1;
	for (unsigned i = 0; i < b->catalog.count; i++) {
		unsigned disk = bundle_disk(b, points[i], target);

		if (disk != BUNDLE_NONE && add_point(&m, points[i], disk, e))
			return err_prefix(e, "snapshot '%s'", b->catalog.points[points[i]].name);
	}
	return bundle_disk(b, current, target) != BUNDLE_NONE ? go_to(&m, current, e) : 0;
}

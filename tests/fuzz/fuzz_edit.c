/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: any image opened for writing and changed at random (FORMAT.md §12.4). No write leaves the file's own room; memory is
 * bounded; an image that was sound before is sound afterwards, whatever was refused in between.
 */
#include "qcow2/check.h"
#include "qcow2/edit.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

enum { MAX_INPUT = 1 << 20, MAX_CLUSTER_BITS = 16, STEPS = 24, MAX_LEN = 200000 };
#define MAX_GROWTH (16ull << 20)

/* A file with a full disk behind it, so that a far offset costs no memory. */
struct small_disk {
	struct io io;
	struct io *inner;
	uint64_t limit;
};

static struct small_disk *disk_of(struct io *io)
{
	return (struct small_disk *)io;
}

static int disk_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	return io_read(disk_of(io)->inner, buf, len, off, e);
}

static int disk_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	struct small_disk *d = disk_of(io);
	FUZZ_CHECK(len <= INT64_MAX && off <= INT64_MAX - len);
	if (off + len > d->limit)
		return err_sys(e, ENOSPC, "image");
	if (io_write(d->inner, buf, len, off, e) < 0)
		return -1;
	io->size = d->inner->size;
	return 0;
}

static int disk_truncate(struct io *io, uint64_t size, struct error *e)
{
	struct small_disk *d = disk_of(io);
	if (size > d->limit)
		return err_sys(e, ENOSPC, "image");
	if (io_truncate(d->inner, size, e) < 0)
		return -1;
	io->size = size;
	return 0;
}

static const struct io_ops disk_ops = {.read = disk_read, .write = disk_write, .truncate = disk_truncate};

/* All that is done follows from the image's bytes. */
static uint64_t state;

static uint64_t random_below(uint64_t n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return n ? (state >> 20) % n : 0;
}

static bool is_sound(struct layer *l)
{
	struct check_result r;
	struct error e;
	const struct check_opts opts = {.threads = 0};
	return qcow2_check(l, &opts, &r, &e) == 0 && r.corruptions == 0 && r.check_errors == 0;
}

static int snapshot_step(struct edit *ed, const struct qcow2 *q, struct error *e)
{
	const struct snapshot_new s = {.name = "fuzz", .icount = UINT64_MAX, .widen = random_below(2)};
	uint32_t index = (uint32_t)random_below(q->snapshot_count);
	if (q->snapshot_count == 0 || random_below(3) == 0)
		return edit_snapshot_create(ed, &s, e);
	if (random_below(3) == 0)
		return edit_snapshot_switch(ed, index, &s, e);
	return random_below(2) ? edit_snapshot_apply(ed, index, random_below(2), 0, e)
			       : edit_snapshot_delete(ed, index, 0, e);
}

static int step(struct edit *ed, const struct qcow2 *q, struct error *e)
{
	static uint8_t buf[MAX_LEN];
	uint64_t guest = random_below(q->size), len = min_u64(1 + random_below(MAX_LEN), q->size - guest);
	uint64_t cluster = guest & ~(uint64_t)(q->g.cluster_size - 1);
	memset(buf, (int)random_below(256), sizeof buf);
	switch (random_below(q->size ? 9 : 2)) {
	case 0:
		return snapshot_step(ed, q, e);
	case 1:
		return edit_resize(ed, (q->size + random_below(8192) * 512) / 512 * 512, PREALLOC_OFF, e);
	case 2:
		return edit_zero(ed, guest, len, random_below(2) ? EDIT_MAY_UNMAP : 0, e);
	case 3:
		return edit_discard(ed, guest, len, e);
	case 4:
		return edit_write_compressed(ed, buf, (size_t)min_u64(q->g.cluster_size, q->size - cluster), cluster,
			e);
	case 5:
		return edit_flush(ed, e);
	case 6:
		return edit_read(ed, buf, (size_t)len, guest, e);
	default:
		return edit_write(ed, buf, (size_t)len, guest, e);
	}
}

static void change(struct layer *l)
{
	struct error e = {.msg = ""};
	struct edit *ed;
	if (edit_open(&ed, l, &(struct edit_opts){.cache_bytes = 1 << 20}, &e) < 0) {
		fuzz_check_error(&e);
		return;
	}
	for (unsigned i = 0; i < STEPS; i++)
		if (step(ed, l->q, &e) < 0)
			fuzz_check_error(&e);
	if (edit_close(ed, &e) < 0)
		fuzz_check_error(&e);
}

static bool open_image(struct layer *l, struct io *file)
{
	static char path[] = "image";
	struct error e = {.msg = ""};
	*l = (struct layer){.path = path, .file = file, .data = file, .format = IMAGE_QCOW2};
	if (qcow2_open(&l->q, file, 0, &e) < 0) {
		fuzz_check_error(&e);
		return false;
	}
	l->size = l->q->size;
	if (!(l->q->h.incompatible & INCOMPAT_DATA_FILE) && l->q->g.cluster_bits <= MAX_CLUSTER_BITS)
		return true;
	qcow2_close(l->q);
	return false;
}

/* Changes it; where it was sound, it must be so again. */
static void change_and_check(struct io *file)
{
	struct layer l;
	bool sound;
	if (!open_image(&l, file))
		return;
	sound = is_sound(&l);
	change(&l);
	qcow2_close(l.q);
	if (!sound)
		return;
	FUZZ_CHECK(open_image(&l, file));
	FUZZ_CHECK(is_sound(&l));
	qcow2_close(l.q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char name[] = "image";
	struct small_disk d = {.limit = len + MAX_GROWTH};
	struct error e;
	if (len > MAX_INPUT || io_memory_new(&d.inner, data, len, "image", &e) < 0)
		return 0;
	d.io = (struct io){.ops = &disk_ops, .size = len, .caps = IO_CAN_WRITE, .align = 1, .name = name};
	state = len;
	for (size_t i = 0; i < len; i++)
		state = (state ^ data[i]) * 1099511628211ull;
	change_and_check(&d.io);
	io_close(d.inner);
	return 0;
}

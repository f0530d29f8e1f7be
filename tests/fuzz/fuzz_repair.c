/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: repair of a whole image (FORMAT.md §12.5). Any bytes are refused, or repaired as far as it goes: where the result
 * says that nothing is left, a check agrees; the file does not grow without bound; what leads to data still does.
 */
#include "qcow2/check.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_INPUT = 1 << 20, MAX_READ = 1 << 20, MAX_CLUSTER_BITS = 16 };
#define MAX_GROWTH (16ull << 20)

struct seen {
	bool entries; /* L2 entries were changed: one table may be guest data as well */
};

static void note(void *ctx, const struct finding *f)
{
	struct seen *s = ctx;
	FUZZ_CHECK(f->text[0] != 0 && memchr(f->text, 0, sizeof f->text) != NULL && !strchr(f->text, '\n'));
	FUZZ_CHECK(f->code < FINDING_CODES);
	s->entries |= f->repaired && (f->code == FOUND_PREALLOCATED_UNALIGNED || f->code == FOUND_COMPRESSED_COPIED ||
					     f->code == FOUND_L1_COPIED || f->code == FOUND_L2_COPIED);
}

static bool open_image(struct layer *l, struct io *file, unsigned flags)
{
	static char path[] = "image";
	struct error e = {.msg = ""};
	*l = (struct layer){.path = path, .file = file, .data = file, .format = IMAGE_QCOW2};
	if (qcow2_open(&l->q, file, flags, &e) == 0) {
		l->size = l->q->size;
		return true;
	}
	fuzz_check_error(&e);
	return false;
}

/* The first bytes of the active state; -1: they cannot be read. */
static int read_start(struct layer *l, uint8_t *buf, size_t *len)
{
	struct error e;
	struct io *image;
	struct chain c = {.layers = l, .count = 1, .size = l->size};
	*len = (size_t)min_u64(l->size, MAX_READ);
	if (l->q->h.incompatible & INCOMPAT_DATA_FILE || *len == 0 || chain_io(&image, &c, &e) < 0)
		return -1;
	int rc = io_read(image, buf, *len, 0, &e);
	io_close(image);
	return rc;
}

static void check_again(struct io *file, const struct check_result *left)
{
	struct layer l;
	struct error e;
	struct check_result r;
	const struct check_opts opts = {.threads = 0};
	if (left->check_errors || left->corruptions)
		return;
	FUZZ_CHECK(open_image(&l, file, QCOW2_OPEN_INSPECT));
	FUZZ_CHECK(qcow2_check(&l, &opts, &r, &e) == 0);
	FUZZ_CHECK(r.corruptions == 0 && r.check_errors == 0 && r.leaks <= left->leaks);
	FUZZ_CHECK(!(l.q->h.incompatible & (INCOMPAT_DIRTY | INCOMPAT_CORRUPT)));
	qcow2_close(l.q);
}

static void repair(struct io *file, enum repair_mode mode)
{
	static uint8_t before[MAX_READ], after[MAX_READ];
	const uint64_t size = file->size;
	struct layer l;
	struct error e = {.msg = ""};
	struct check_result r;
	struct seen seen = {false};
	const struct check_opts opts = {.threads = 0, .found = note, .ctx = &seen};
	size_t len, len_after;
	if (!open_image(&l, file, QCOW2_OPEN_INSPECT | QCOW2_OPEN_REPAIR))
		return;
	if (l.q->g.cluster_bits > MAX_CLUSTER_BITS) { /* no more to find there, but slow */
		qcow2_close(l.q);
		return;
	}
	const bool readable = read_start(&l, before, &len) == 0;
	const int rc = qcow2_repair(&l, mode, &opts, &r, &e);
	if (rc < 0)
		fuzz_check_error(&e);
	FUZZ_CHECK(file->size <= size + MAX_GROWTH);
	if (readable && !seen.entries) {
		FUZZ_CHECK(read_start(&l, after, &len_after) == 0 && len_after == len);
		FUZZ_CHECK(memcmp(before, after, len) == 0);
	}
	qcow2_close(l.q);
	if (rc == 0)
		check_again(file, &r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	for (unsigned mode = REPAIR_LEAKS; mode <= REPAIR_ALL; mode++) {
		struct error e;
		struct io *file;
		if (len > MAX_INPUT || io_memory_new(&file, data, len, "image", &e) < 0)
			return 0;
		repair(file, (enum repair_mode)mode);
		io_close(file);
	}
	return 0;
}

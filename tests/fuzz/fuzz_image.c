/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a whole image is opened, walked, read and checked (FORMAT.md §5.6, §8.4, §12.3), over the input's bytes taken
 * as a raw backing file. The map must be without gaps, reading by extents must give what reading the image gives, and each
 * step is limited: an input of a few KiB may claim a disk of exbibytes.
 */
#include "qcow2/check.h"
#include "qcow2/qcow2.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_EXTENTS = 64, MAX_READ = 128 << 10, MAX_SNAPSHOTS = 3 };

/* Both ways to the same bytes: through the image's io, and extent by extent. */
static void read_extent(struct io *image, struct reader *reader, const struct extent *x)
{
	static uint8_t one[MAX_READ], other[MAX_READ];
	size_t len = (size_t)min_u64(x->len, MAX_READ);
	struct error e = {.msg = ""}, e2 = {.msg = ""};
	int failed = io_read(image, one, len, x->start, &e);
	int failed2 = reader_read(reader, x, 0, other, len, &e2);

	/* Past this extent's end a first call may meet a broken neighbour; this one alone decides. */
	FUZZ_CHECK((failed != 0) == (failed2 != 0));
	if (failed) {
		fuzz_check_error(&e);
		fuzz_check_error(&e2);
		return;
	}
	FUZZ_CHECK(memcmp(one, other, len) == 0);
	if (x->kind == EXTENT_ABSENT || x->kind == EXTENT_ZERO)
		FUZZ_CHECK(mem_is_zero(one, len));
}

static void walk_image(struct chain *c, struct reader *reader, unsigned flags)
{
	struct walk *walk = NULL;
	struct io *image = NULL;
	struct error e = {.msg = ""};
	uint64_t at = 0;

	if (walk_new(&walk, c, c->count, flags, &e) || chain_io(&image, c, &e)) {
		fuzz_check_error(&e);
		walk_free(walk);
		return;
	}
	for (unsigned i = 0; i < MAX_EXTENTS && at < c->size; i++) {
		struct extent x;

		if (walk_extent(walk, at, c->size, &x, &e)) {
			fuzz_check_error(&e);
			break;
		}
		FUZZ_CHECK(x.start == at && x.len > 0 && x.len <= c->size - at);
		FUZZ_CHECK(x.kind <= EXTENT_COMPRESSED && x.depth < c->count);
		read_extent(image, reader, &x);
		at += x.len;
	}
	io_close(image);
	walk_free(walk);
}

static void found(void *ctx, const struct finding *f)
{
	unsigned *count = ctx;

	(*count)++;
	FUZZ_CHECK(f->text[0] != 0 && memchr(f->text, 0, sizeof f->text) != NULL);
}

static void check_image(struct layer *l)
{
	unsigned count = 0;
	struct check_opts opts = {.found = found, .ctx = &count};
	struct check_result result;
	struct error e = {.msg = ""};

	if (qcow2_check(l, &opts, &result, &e))
		fuzz_check_error(&e);
}

static int open_image(struct qcow2 **q, struct io *file)
{
	struct error e = {.msg = ""};

	if (qcow2_open(q, file, 0, &e) == 0)
		return 0;
	fuzz_check_error(&e);
	return -1;
}

/* From the active state, or from nothing but what is below, to what is selected. */
static void diff_states(struct chain *c, bool from_below)
{
	enum { STEP = 1 << 20 };
	struct qcow2_state from, to;
	struct diff *d = NULL;
	struct error e = {.msg = ""};
	uint64_t at = 0, size;

	qcow2_state_active(c->layers[0].q, &from);
	qcow2_state_selected(c->layers[0].q, &to);
	if (from_below)
		from = (struct qcow2_state){.size = to.size, .snapshot = -1};
	size = max_u64(from.size, to.size);
	if (diff_new(&d, c, &from, &to, &e)) {
		fuzz_check_error(&e);
		return;
	}
	for (unsigned i = 0; i < MAX_EXTENTS && at < size; i++) {
		uint64_t limit = min_u64(at + STEP, size);
		struct diff_extent x;
		int more = diff_next(d, at, limit, &x, &e);

		if (more < 0) {
			fuzz_check_error(&e);
			break;
		}
		FUZZ_CHECK(!more || (x.start >= at && x.start < x.end && x.end <= limit));
		FUZZ_CHECK(!more || x.added == (x.start >= from.size));
		FUZZ_CHECK(!more || (x.kind == DIFF_GONE) == (x.start >= to.size));
		at = more ? x.end : limit;
	}
	diff_free(d);
}

static void try_image(struct io *file, int snapshot, struct reader *reader)
{
	struct layer layers[2] = {
		{.path = (char *)"fuzzed", .format = IMAGE_QCOW2, .file = file, .data = file},
		{.path = (char *)"below",
			.format = IMAGE_RAW,
			.file = file,
			.data = file,
			.size = align_up(file->size, 512)},
	};
	struct chain c = {.layers = layers, .count = 2};
	struct error e = {.msg = ""};

	if (open_image(&layers[0].q, file))
		return;
	if (snapshot < 0) {
		check_image(&layers[0]);
	} else if (qcow2_snapshot_select(layers[0].q, (uint32_t)snapshot, &e)) {
		fuzz_check_error(&e);
		qcow2_close(layers[0].q);
		return;
	}
	layers[0].size = layers[0].q->size;
	c.size = layers[0].size;
	walk_image(&c, reader, snapshot < 0 ? 0 : WALK_FILE_HOLES);
	diff_states(&c, snapshot < 0);
	if (snapshot >= 0)
		FUZZ_CHECK(qcow2_snapshot_verify(layers[0].q, &e) == 0);
	qcow2_close(layers[0].q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct io *file = NULL;
	struct reader *reader = NULL;
	struct qcow2 *q = NULL;
	struct error e;
	int snapshots;

	if (io_memory_new(&file, data, len, "fuzzed", &e) || reader_new(&reader, &e))
		abort();
	if (open_image(&q, file) == 0) {
		snapshots = (int)min_u64(q->snapshot_count, MAX_SNAPSHOTS);
		qcow2_close(q);
		for (int i = -1; i < snapshots; i++)
			try_image(file, i, reader);
	}
	reader_free(reader);
	io_close(file);
	return 0;
}

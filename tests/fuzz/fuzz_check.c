/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: check of a whole image (FORMAT.md §12.3). Any bytes give a result or an error, and the same ones for any number
 * of threads: findings in the same order, the same numbers.
 */
#include "qcow2/check.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_INPUT = 1 << 20 };

struct outcome {
	int rc;
	struct check_result r;
	uint64_t hash, count; /* of all findings in order */
	struct error e;
};

static void note(void *ctx, const struct finding *f)
{
	struct outcome *o = ctx;
	FUZZ_CHECK(f->text[0] != 0 && memchr(f->text, 0, sizeof f->text) != NULL && !strchr(f->text, '\n'));
	for (const char *p = f->text; *p; p++)
		o->hash = (o->hash ^ (uint8_t)*p) * 0x100000001b3ull;
	o->count++;
}

static void run(struct layer *l, unsigned threads, struct outcome *o)
{
	struct check_opts opts = {.threads = threads, .found = note, .ctx = o};
	*o = (struct outcome){.hash = 0xcbf29ce484222325ull};
	o->rc = qcow2_check(l, &opts, &o->r, &o->e);
	if (o->rc < 0)
		fuzz_check_error(&o->e);
	else
		FUZZ_CHECK(o->count == o->r.corruptions + o->r.leaks + o->r.check_errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct error e = {.msg = ""};
	struct layer l = {.format = IMAGE_QCOW2};
	struct outcome serial, parallel;

	if (len > MAX_INPUT || io_memory_new(&l.file, data, len, "image", &e) < 0)
		return 0;
	l.data = l.file;
	if (qcow2_open(&l.q, l.file, QCOW2_OPEN_INSPECT, &e) < 0) {
		fuzz_check_error(&e);
		io_close(l.file);
		return 0;
	}
	run(&l, 0, &serial);
	run(&l, 2, &parallel);
	FUZZ_CHECK(serial.rc == parallel.rc && serial.hash == parallel.hash);
	FUZZ_CHECK(serial.rc < 0 || memcmp(&serial.r, &parallel.r, sizeof serial.r) == 0);
	qcow2_close(l.q);
	io_close(l.file);
	return 0;
}

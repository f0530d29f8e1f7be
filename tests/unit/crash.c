/* SPDX-License-Identifier: Apache-2.0
 *
 * The crashes of tests/unit/crash.h.
 */
#include "tests/unit/crash.h"

#include <check.h>

enum { SECTOR = 512 };

struct crash {
	struct io *base; /* all that is surely on disk */
	const struct fault_record *records;
	size_t first, end; /* the stretch: what may be or may not be */
	uint64_t random;
	crash_judge *judge;
	void *ctx;
};

static uint64_t next_random(struct crash *c, uint64_t below)
{
	c->random = c->random * 6364136223846793005ull + 1442695040888963407ull;
	return (c->random >> 33) % below;
}

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

static void replay(const struct fault_record *r, struct io *onto)
{
	struct error e;
	must(io_fault_replay(r, onto, &e), &e);
}

static struct io *copy(const struct io *io)
{
	struct error e;
	struct io *out;
	must(io_memory_new(&out, io_memory_bytes(io), (size_t)io->size, "after a crash", &e), &e);
	return out;
}

/* Some of the sectors of a write. */
static void tear(struct crash *c, const struct fault_record *r, struct io *onto)
{
	for (uint64_t at = 0, n; at < r->len; at += n) {
		n = SECTOR - (r->off + at) % SECTOR;
		n = n < r->len - at ? n : r->len - at;
		if (next_random(c, 2))
			continue;
		const struct fault_record part = {.op = r->op, .off = r->off + at, .len = n, .bytes = r->bytes + at};
		replay(&part, onto);
	}
}

static void judge(struct crash *c, struct io *file, const char *how, size_t which)
{
	char what[100];
	snprintf(what, sizeof what, "%s %zu of steps %zu to %zu", how, which, c->first, c->end);
	c->judge(c->ctx, file, what);
	io_close(file);
}

static void prefixes(struct crash *c)
{
	for (size_t n = c->first; n <= c->end; n++) {
		struct io *whole = copy(c->base);
		for (size_t i = c->first; i < n; i++)
			replay(&c->records[i], whole);
		if (n < c->end && c->records[n].op == FAULT_WRITE && c->records[n].len > SECTOR) {
			struct io *torn = copy(whole);
			tear(c, &c->records[n], torn);
			judge(c, torn, "torn write", n);
		}
		judge(c, whole, "before step", n);
	}
}

static void alone_and_missing(struct crash *c)
{
	for (size_t n = c->first; n < c->end && c->end - c->first > 1; n++) {
		struct io *alone = copy(c->base), *rest = copy(c->base);
		replay(&c->records[n], alone);
		judge(c, alone, "only step", n);
		for (size_t i = c->first; i < c->end; i++)
			if (i != n)
				replay(&c->records[i], rest);
		judge(c, rest, "all but step", n);
	}
}

static void mixture(struct crash *c, unsigned which)
{
	struct io *file = copy(c->base);
	for (size_t i = c->first; i < c->end; i++) {
		const struct fault_record *r = &c->records[i];
		unsigned how = (unsigned)next_random(c, 4);
		if (how == 0)
			continue;
		if (how == 1 && r->op == FAULT_WRITE)
			tear(c, r, file);
		else
			replay(r, file);
	}
	judge(c, file, "mixture", which);
}

void crash_each(const uint8_t *start, size_t len, const struct fault_record *records, size_t count, unsigned random,
	crash_judge *judge_fn, void *ctx)
{
	struct crash c = {.records = records, .random = count * 31 + len, .judge = judge_fn, .ctx = ctx};
	struct error e;
	must(io_memory_new(&c.base, start, len, "before a crash", &e), &e);
	for (c.first = 0; c.first < count; c.first = c.end + 1) {
		c.end = c.first;
		while (c.end < count && records[c.end].op != FAULT_FLUSH)
			c.end++;
		prefixes(&c);
		alone_and_missing(&c);
		for (unsigned i = 0; i < random && c.end - c.first > 1; i++)
			mixture(&c, i);
		for (size_t i = c.first; i < c.end; i++)
			replay(&records[i], c.base);
	}
	io_close(c.base);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The crashes of tests/unit/crash.h.
 */
#include "tests/unit/crash.h"

#include <check.h>

enum { SECTOR = 512 };

struct moment { /* the files as they may be */
	struct io *files[CRASH_FILES];
};
struct crash {
	struct moment base; /* all that is surely on disk */
	unsigned files;
	const struct fault_record *records;
	size_t *pending, count,
		old; /* what may be or may not be: places in `records`; the first `old` were judged before */
	size_t end;  /* of the stretch, in `records` */
	uint64_t random;
	crash_judge_files *judge;
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

static void replay(const struct fault_record *r, const struct moment *onto)
{
	struct error e;
	must(io_fault_replay(r, onto->files[r->file], &e), &e);
}

static const struct fault_record *at(const struct crash *c, size_t n)
{
	return &c->records[c->pending[n]];
}

static struct moment copy(const struct crash *c, const struct moment *from)
{
	struct error e;
	struct moment out = {{NULL}};
	for (unsigned i = 0; i < c->files; i++) {
		const struct io *io = from->files[i];
		must(io_memory_new(&out.files[i], io_memory_bytes(io), (size_t)io->size, "after a crash", &e), &e);
	}
	return out;
}

/* Some of the sectors of a write. */
static void tear(struct crash *c, const struct fault_record *r, const struct moment *onto)
{
	for (uint64_t done = 0, n; done < r->len; done += n) {
		n = SECTOR - (r->off + done) % SECTOR;
		n = n < r->len - done ? n : r->len - done;
		if (next_random(c, 2))
			continue;
		struct fault_record part = *r;
		part.off += done;
		part.len = n;
		part.bytes += done;
		replay(&part, onto);
	}
}

static void judge(struct crash *c, struct moment *m, const char *how, size_t which)
{
	char what[100];
	snprintf(what, sizeof what, "%s %zu of the %zu before %zu", how, which, c->count, c->end);
	c->judge(c->ctx, m->files, what);
	for (unsigned i = 0; i < c->files; i++)
		io_close(m->files[i]);
}

static void prefixes(struct crash *c)
{
	for (size_t n = c->old; n <= c->count; n++) {
		struct moment whole = copy(c, &c->base);
		for (size_t i = 0; i < n; i++)
			replay(at(c, i), &whole);
		if (n < c->count && at(c, n)->op == FAULT_WRITE && at(c, n)->len > SECTOR) {
			struct moment torn = copy(c, &whole);
			tear(c, at(c, n), &torn);
			judge(c, &torn, "torn write", n);
		}
		judge(c, &whole, "before step", n);
	}
}

static void alone_and_missing(struct crash *c)
{
	for (size_t n = 0; n < c->count && c->count > 1; n++) {
		struct moment alone = copy(c, &c->base), rest = copy(c, &c->base);
		replay(at(c, n), &alone);
		judge(c, &alone, "only step", n);
		for (size_t i = 0; i < c->count; i++)
			if (i != n)
				replay(at(c, i), &rest);
		judge(c, &rest, "all but step", n);
	}
}

/* Everything that one file was told, and nothing of the other. */
static void one_file(struct crash *c)
{
	for (unsigned file = 0; file < c->files && c->files > 1; file++) {
		struct moment m = copy(c, &c->base);
		for (size_t i = 0; i < c->count; i++)
			if (at(c, i)->file == file)
				replay(at(c, i), &m);
		judge(c, &m, "only file", file);
	}
}

static void mixture(struct crash *c, unsigned which)
{
	struct moment m = copy(c, &c->base);
	for (size_t i = 0; i < c->count; i++) {
		const struct fault_record *r = at(c, i);
		unsigned how = (unsigned)next_random(c, 4);
		if (how == 0)
			continue;
		if (how == 1 && r->op == FAULT_WRITE)
			tear(c, r, &m);
		else
			replay(r, &m);
	}
	judge(c, &m, "mixture", which);
}

/* A flush: what its file was told so far is there. */
static void settle(struct crash *c, unsigned file)
{
	size_t left = 0;
	for (size_t i = 0; i < c->count; i++) {
		if (at(c, i)->file == file)
			replay(at(c, i), &c->base);
		else
			c->pending[left++] = c->pending[i];
	}
	c->count = c->old = left;
}

void crash_each_of(const struct crash_start *start, unsigned files, const struct fault_record *records, size_t count,
	unsigned random, crash_judge_files *judge_fn, void *ctx)
{
	struct crash c = {.files = files, .records = records, .judge = judge_fn, .ctx = ctx};
	struct error e;
	c.random = count * 31 + start[0].len;
	c.pending = calloc(count + 1, sizeof *c.pending);
	ck_assert_ptr_nonnull(c.pending);
	for (unsigned i = 0; i < files; i++)
		must(io_memory_new(&c.base.files[i], start[i].bytes, start[i].len, "before a crash", &e), &e);
	while (c.end < count) {
		for (; c.end < count && records[c.end].op != FAULT_FLUSH; c.end++)
			c.pending[c.count++] = c.end;
		prefixes(&c);
		alone_and_missing(&c);
		one_file(&c);
		for (unsigned i = 0; i < random && c.count > 1; i++)
			mixture(&c, i);
		if (c.end < count)
			settle(&c, records[c.end++].file);
	}
	for (unsigned i = 0; i < files; i++)
		io_close(c.base.files[i]);
	free(c.pending);
}

struct one {
	crash_judge *judge;
	void *ctx;
};

static void judge_one(void *ctx, struct io *const *files, const char *what)
{
	const struct one *one = ctx;
	one->judge(one->ctx, files[0], what);
}

void crash_each(const uint8_t *start, size_t len, const struct fault_record *records, size_t count, unsigned random,
	crash_judge *judge_fn, void *ctx)
{
	struct one one = {judge_fn, ctx};
	crash_each_of(&(struct crash_start){start, len}, 1, records, count, random, judge_one, &one);
}

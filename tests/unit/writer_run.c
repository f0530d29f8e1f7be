/* SPDX-License-Identifier: Apache-2.0
 *
 * The random use of a writer of tests/unit/writer_run.h.
 */
#include "tests/unit/writer_run.h"

#include <check.h>

static uint64_t random_number(struct run *r, uint64_t below)
{
	r->seed = r->seed * 6364136223846793005ull + 1442695040888963407ull;
	return below ? (r->seed >> 20) % below : 0;
}

void run_pattern(uint8_t *bytes, uint64_t len, uint64_t guest, unsigned salt)
{
	for (uint64_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(1 + ((guest + i) / 61 + (guest + i) * 7 + salt) % 255);
}

static void write_pattern(struct io *io, uint64_t host, uint64_t len, uint64_t guest, unsigned salt)
{
	struct error e = {0};
	uint8_t *bytes = malloc(len);
	run_pattern(bytes, len, guest, salt);
	ck_assert_msg(io_write(io, bytes, len, host, &e) == 0, "%s", e.msg);
	free(bytes);
}

static void choose_options(struct run *r)
{
	static const unsigned bits[] = {9, 9, 9, 10, 12, 14, 14, 16, 16, 18, 21};
	static const char *const backing[] = {NULL, NULL, "base.raw", "a/longer/name/of/a/backing/file.qcow2"};
	struct image_create *c = &r->c;
	image_create_defaults(c, IMAGE_QCOW2);
	c->cluster_size = 1u << bits[random_number(r, sizeof bits / sizeof *bits)];
	c->version = random_number(r, 4) ? 3 : 2;
	c->backing_name = backing[random_number(r, 4)];
	c->backing_format = c->backing_name && random_number(r, 2) ? "raw" : NULL;
	if (c->version == 3) {
		c->refcount_bits = 1u << random_number(r, 7);
		c->extended_l2 = c->cluster_size >= 16384 && random_number(r, 2);
		c->lazy_refcounts = random_number(r, 2);
		c->compression = (enum codec_id)random_number(r, 2);
		if (random_number(r, 5) == 0) {
			c->data_file = "data.raw";
			c->data_file_raw = !c->backing_name && random_number(r, 2);
		}
	}
	if ((!c->backing_name || c->extended_l2) && random_number(r, 3) == 0)
		c->prealloc = (enum prealloc)random_number(r, 4);
	uint64_t clusters = random_number(r, c->cluster_size > 1 << 18 ? 12 : c->cluster_size > 4096 ? 300 : 9000);
	c->size = clusters * c->cluster_size + random_number(r, c->cluster_size / 512) * 512;
	r->ascending = random_number(r, 2);
}

static void call_compressed(struct run *r, struct writer *w, struct call *call)
{
	struct error e = {0};
	call->len = 1 + random_number(r, r->c.cluster_size - 1);
	if (random_number(r, 3) == 0)
		call->len = 1 + random_number(r, 90);
	ck_assert_msg(writer_compressed(w, call->guest, call->len, &call->host, &e) == 0, "%s", e.msg);
	write_pattern(r->file, call->host, call->len, call->guest, 99);
	call->stream = call->len;
	call->len = r->c.cluster_size;
}

static void call_subclusters(struct run *r, struct writer *w, struct call *call)
{
	struct error e = {0};
	call->alloc = (uint32_t)random_number(r, 1ull << 32);
	call->alloc &= (uint32_t)random_number(r, 1ull << 32);
	call->zero = (uint32_t)random_number(r, 1ull << 32) & ~call->alloc;
	if (random_number(r, 4) == 0)
		call->alloc = 0;
	call->len = r->c.cluster_size;
	ck_assert(writer_subclusters(w, call->guest, call->alloc, call->zero, &call->host, &e) == 0);
	if (call->alloc || call->host)
		write_pattern(r->data ? r->data : r->file, call->host, call->len, call->guest, 3);
}

static void call_run(struct run *r, struct writer *w, struct call *call)
{
	struct error e = {0};
	struct io *io = r->data ? r->data : r->file;
	uint64_t most = r->c.cluster_size > 1 << 18 ? 2 : 40;
	call->len = min_u64((1 + random_number(r, most)) * r->c.cluster_size, r->c.size - call->guest);
	if (call->kind == CALL_ZERO) {
		int done = writer_zero(w, call->guest, call->len, &call->host, &e);
		ck_assert_msg(done >= 0, "%s", e.msg);
		call->real_zeros = done;
		if (done == 1)
			ck_assert(io_zero(io, call->host, align_up(call->len, r->c.cluster_size), 0, &e) == 0);
		return;
	}
	ck_assert_msg(writer_data(w, call->guest, call->len, &call->host, &e) == 0, "%s", e.msg);
	write_pattern(io, call->host, call->len, call->guest, 0);
}

void run_calls(struct run *r, struct writer *w)
{
	uint64_t cluster = r->c.cluster_size;
	for (uint64_t guest = 0; guest < r->c.size && r->count < MAX_CALLS;) {
		struct call *call = &r->calls[r->count];
		if (random_number(r, 4) == 0) {
			guest += cluster * random_number(r, r->c.size / cluster / 4 + 2);
			continue;
		}
		*call = (struct call){.kind = (enum call_kind)random_number(r, 4), .guest = guest};
		if (call->kind == CALL_SUBCLUSTERS && !r->c.extended_l2)
			call->kind = CALL_COMPRESSED;
		if (call->kind == CALL_COMPRESSED && r->c.data_file)
			call->kind = CALL_DATA;
		if (call->kind == CALL_COMPRESSED)
			call_compressed(r, w, call);
		else if (call->kind == CALL_SUBCLUSTERS)
			call_subclusters(r, w, call);
		else
			call_run(r, w, call);
		guest = align_up(guest + call->len, cluster);
		r->count++;
	}
}

void run_write(struct run *r)
{
	struct error e = {0};
	struct writer *w;
	ck_assert_msg(writer_new(&w, &r->c, r->file, r->data, &e) == 0, "%s", e.msg);
	if (r->ascending)
		writer_ascending(w);
	run_calls(r, w);
	ck_assert_msg(writer_finish(w, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(writer_file_size(w), r->file->size);
	ck_assert_mem_eq(writer_header(w), io_memory_bytes(r->file), 104);
	writer_free(w);
}

/* Empty, or in place of something longer or shorter that was there. */
static struct io *new_file(struct run *r, const char *name)
{
	struct error e = {0};
	struct io *io;
	size_t len = r->fresh || random_number(r, 4) ? 0 : (size_t)random_number(r, 8 << 20);
	uint8_t *old = malloc(len + 1);
	memset(old, 0xa5, len);
	ck_assert(io_memory_new(&io, old, len, name, &e) == 0);
	free(old);
	return io;
}

struct run *run_new(uint64_t seed, bool fresh)
{
	struct run *r = calloc(1, sizeof *r);
	ck_assert_ptr_nonnull(r);
	r->fresh = fresh;
	r->seed = seed * 7919 + 1;
	choose_options(r);
	r->file = new_file(r, "image");
	r->data = r->c.data_file ? new_file(r, "data") : NULL;
	return r;
}

void run_free(struct run *r)
{
	io_close(r->file);
	io_close(r->data);
	free(r);
}

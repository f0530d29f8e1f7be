/* SPDX-License-Identifier: Apache-2.0
 *
 * The images and damages of tests/unit/damage.h. Damages are to what says how often a cluster is used, never to what leads to data.
 */
#include "tests/unit/damage.h"

#include "qcow2/edit.h"
#include "tests/unit/image_builder.h"

#include <check.h>

const struct damage_kind damage_kinds[] = {
	{512, 16, 3, false, true},
	{512, 2, 3, false, false},
	{512, 8, 3, false, true},
	{512, 64, 3, false, true},
	{4096, 16, 2, false, true},
	{4096, 4, 3, false, true},
	{16384, 32, 3, true, true},
	{65536, 16, 3, false, true},
};
const unsigned damage_kind_count = sizeof damage_kinds / sizeof *damage_kinds;

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

uint64_t damaged_random(struct damaged *d, uint64_t below)
{
	d->random = d->random * 6364136223846793005ull + 1442695040888963407ull;
	return (d->random >> 33) % below;
}

static uint8_t *copy_of(const uint8_t *bytes, size_t len)
{
	uint8_t *out = malloc(len);
	ck_assert_ptr_nonnull(out);
	return memcpy(out, bytes, len);
}

/* ---- sound images ---- */

static void write_some(struct damaged *d, struct edit *ed, uint32_t cluster, unsigned writes)
{
	struct error e;
	uint8_t *disk = d->state[0];
	for (unsigned i = 0; i < writes; i++) {
		const unsigned what = (unsigned)damaged_random(d, 4);
		uint64_t at = damaged_random(d, SUBJECT_DISK), len = 1 + damaged_random(d, SUBJECT_DISK / 16);
		len = min_u64(len, SUBJECT_DISK - at);
		if (what == 0) {
			at = align_down(at, cluster);
			len = min_u64(cluster, SUBJECT_DISK - at);
			memset(disk + at, (int)damaged_random(d, 255) + 1, len);
			must(edit_write_compressed(ed, disk + at, len, at, &e), &e);
		} else if (what == 1) {
			memset(disk + at, 0, len);
			must(edit_zero(ed, at, len, 0, &e), &e);
		} else {
			for (uint64_t k = 0; k < len; k++)
				disk[at + k] = (uint8_t)damaged_random(d, 256);
			must(edit_write(ed, disk + at, len, at, &e), &e);
		}
	}
	must(edit_flush(ed, &e), &e);
}

static void fill(struct damaged *d, const struct damage_kind *kind, struct io *file)
{
	struct io *none = NULL;
	struct error e;
	struct edit *ed;
	struct chain *chain = chain_of(&file, &none, 1);
	must(edit_open(&ed, &chain->layers[0], NULL, &e), &e);
	write_some(d, ed, kind->cluster_size, 12);
	while (kind->snapshots && d->states < SUBJECT_STATES) {
		const struct snapshot_new s = {.name = d->states == 1 ? "one" : "another", .icount = UINT64_MAX};
		must(edit_snapshot_create(ed, &s, &e), &e);
		d->state[d->states++] = copy_of(d->state[0], SUBJECT_DISK);
		write_some(d, ed, kind->cluster_size, 5);
	}
	must(edit_close(ed, &e), &e);
	d->h = chain->layers[0].q->h;
	d->len = (size_t)file->size;
	d->bytes = copy_of(io_memory_bytes(file), d->len);
	chain_close(chain);
}

void damaged_new(struct damaged *d, const struct damage_kind *kind, uint64_t seed)
{
	struct image_create c;
	struct error e;
	struct io *file;
	*d = (struct damaged){.random = seed, .states = 1};
	d->state[0] = calloc(1, SUBJECT_DISK);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = SUBJECT_DISK;
	c.cluster_size = kind->cluster_size;
	c.refcount_bits = kind->refcount_bits;
	c.version = kind->version;
	c.extended_l2 = kind->extended_l2;
	must(io_memory_new(&file, "", 0, "image", &e) || image_create_run(&c, file, NULL, &e), &e);
	fill(d, kind, file);
}

void damaged_copy(struct damaged *to, const struct damaged *d)
{
	*to = *d;
	to->bytes = copy_of(d->bytes, d->len);
	for (unsigned i = 0; i < d->states; i++)
		to->state[i] = copy_of(d->state[i], SUBJECT_DISK);
}

void damaged_free(struct damaged *d)
{
	free(d->bytes);
	for (unsigned i = 0; i < d->states; i++)
		free(d->state[i]);
}

/* ---- damages ---- */

static uint64_t get(const struct damaged *d, uint64_t at)
{
	ck_assert(at + 8 <= d->len);
	return get_be64(d->bytes + at);
}

static bool put(struct damaged *d, uint64_t at, uint64_t v)
{
	ck_assert(at + 8 <= d->len);
	put_be64(d->bytes + at, v);
	return true;
}

static bool put_header(struct damaged *d, const struct header *h)
{
	header_encode(h, d->bytes);
	return true;
}

enum change { RAISE, CLEAR, ANY };

/* Some counts become others. */
static bool change_counts(struct damaged *d, enum change how, unsigned n)
{
	const unsigned order = d->h.refcount_order;
	const uint64_t block = get(d, d->h.reftable_offset), per_block = (8ull << d->h.cluster_bits) >> order;
	const uint64_t clusters = min_u64(div_round_up(d->len, 1ull << d->h.cluster_bits), per_block);
	for (unsigned i = 0; i < n; i++) {
		const uint64_t at = damaged_random(d, clusters), any = damaged_random(d, 256);
		const uint64_t old = refcount_get(d->bytes + block, order, at);
		const uint64_t v = how == CLEAR ? 0 : how == RAISE ? old + 1 + any % 3 : any;
		refcount_put(d->bytes + block, order, at, min_u64(v, refcount_max(order)));
	}
	return true;
}

static bool counts_too_high(struct damaged *d)
{
	return change_counts(d, RAISE, 20);
}

static bool counts_zero(struct damaged *d)
{
	return change_counts(d, CLEAR, 10);
}

static bool counts_random(struct damaged *d)
{
	return change_counts(d, ANY, 100);
}

static bool block_of_garbage(struct damaged *d)
{
	return change_counts(d, ANY, 4000);
}

static bool reftable_empty(struct damaged *d)
{
	memset(d->bytes + d->h.reftable_offset, 0, (size_t)d->h.reftable_clusters << d->h.cluster_bits);
	return true;
}

static bool block_with_reserved_bits(struct damaged *d)
{
	return put(d, d->h.reftable_offset, get(d, d->h.reftable_offset) | 4);
}

static bool block_unaligned(struct damaged *d)
{
	return d->h.cluster_bits > 9 && put(d, d->h.reftable_offset, get(d, d->h.reftable_offset) + 512);
}

static bool block_outside(struct damaged *d)
{
	return put(d, d->h.reftable_offset, 1ull << 40);
}

static bool block_is_l1(struct damaged *d)
{
	return put(d, d->h.reftable_offset, d->h.l1_offset);
}

static bool no_reftable(struct damaged *d)
{
	struct header h = d->h;
	h.reftable_clusters = 0;
	return put_header(d, &h);
}

static bool reftable_unaligned(struct damaged *d)
{
	struct header h = d->h;
	h.reftable_offset += 8;
	return put_header(d, &h);
}

static bool reftable_outside(struct damaged *d)
{
	struct header h = d->h;
	h.reftable_offset = 1ull << 41;
	return put_header(d, &h);
}

static bool reftable_too_large(struct damaged *d)
{
	struct header h = d->h;
	h.reftable_clusters = 1u << 20;
	return put_header(d, &h);
}

static bool reftable_is_header(struct damaged *d)
{
	struct header h = d->h;
	h.reftable_offset = 0;
	return put_header(d, &h);
}

static bool marked(struct damaged *d)
{
	struct header h = d->h;
	h.incompatible |= INCOMPAT_DIRTY | INCOMPAT_CORRUPT;
	return h.version >= 3 && put_header(d, &h) && change_counts(d, CLEAR, 3);
}

static bool copied_wrong(struct damaged *d)
{
	const uint64_t step = d->h.incompatible & INCOMPAT_EXTENDED_L2 ? 16 : 8;
	for (uint32_t i = 0; i < d->h.l1_entries; i++) {
		const uint64_t l1 = get(d, d->h.l1_offset + 8 * i), table = l1 & ENTRY_OFFSET_MASK;
		if (!l1)
			continue;
		if (damaged_random(d, 2))
			put(d, d->h.l1_offset + 8 * i, l1 ^ ENTRY_COPIED);
		for (uint64_t at = table; at < table + (1u << d->h.cluster_bits); at += step)
			if (get(d, at) & ENTRY_OFFSET_MASK && damaged_random(d, 2))
				put(d, at, get(d, at) ^ ENTRY_COPIED);
	}
	return true;
}

/* Entries without extra data, as version 2 has them. */
static bool snapshots_incomplete(struct damaged *d)
{
	uint8_t *from = d->bytes + d->h.snapshots_offset, *to = from;
	if (d->h.version < 3 || d->states == 1)
		return false;
	for (unsigned i = 0; i < d->h.snapshot_count; i++) {
		struct snapshot_entry s;
		struct error e;
		size_t names;
		ck_assert_int_eq(snapshot_entry_decode(from, (size_t)(d->bytes + d->len - from), &s, &e), 0);
		names = (size_t)s.id_len + s.name_len;
		memmove(to, from, QCOW2_SNAPSHOT_ENTRY_BYTES);
		put_be32(to + 36, 0);
		memmove(to + QCOW2_SNAPSHOT_ENTRY_BYTES, s.id, names);
		to += align_up(QCOW2_SNAPSHOT_ENTRY_BYTES + names, 8);
		from += s.bytes;
	}
	return true;
}

const struct damage damages[] = {
	{"nothing", NULL, 0},
	{"refcounts too high", counts_too_high, 1},
	{"refcounts of 0", counts_zero, 1},
	{"random refcounts", counts_random, 1},
	{"a refcount block of garbage", block_of_garbage, 1},
	{"an empty refcount table", reftable_empty, 4},
	{"a refcount table entry with reserved bits", block_with_reserved_bits, 4},
	{"a refcount block that is not aligned", block_unaligned, 4},
	{"a refcount block outside", block_outside, 4},
	{"a refcount block that is the L1 table", block_is_l1, 4},
	{"no refcount table", no_reftable, 4},
	{"a refcount table that is not aligned", reftable_unaligned, 4},
	{"a refcount table outside", reftable_outside, 4},
	{"a refcount table that is too large", reftable_too_large, 4},
	{"a refcount table that is the header", reftable_is_header, 4},
	{"marks", marked, 4},
	{"COPIED", copied_wrong, 2},
	{"snapshots without extra data", snapshots_incomplete, 3},
};
const unsigned damage_count = sizeof damages / sizeof *damages;

/* ---- what states read as ---- */

static void expect_state(const struct damaged *d, struct io *file, unsigned i, const char *what)
{
	struct error e;
	struct io *image;
	uint8_t *bytes = malloc(SUBJECT_DISK);
	char path[] = "memory";
	struct layer l = {.path = path, .file = file, .data = file, .format = IMAGE_QCOW2, .size = SUBJECT_DISK};
	struct chain c = {.layers = &l, .count = 1, .size = SUBJECT_DISK};
	if (qcow2_open(&l.q, file, QCOW2_OPEN_REPAIR, &e) < 0)
		ck_abort_msg("%s: %s", what, e.msg);
	if (l.q->snapshot_count != d->states - 1)
		ck_abort_msg("%s: %u snapshots", what, l.q->snapshot_count);
	must(i > 0 && qcow2_snapshot_select(l.q, i - 1, &e) < 0, &e);
	must(chain_io(&image, &c, &e) < 0 || io_read(image, bytes, SUBJECT_DISK, 0, &e) < 0, &e);
	if (memcmp(bytes, d->state[i], SUBJECT_DISK) != 0)
		ck_abort_msg("%s: state %u reads otherwise than before", what, i);
	io_close(image);
	qcow2_close(l.q);
	free(bytes);
}

void damaged_expect_states(const struct damaged *d, struct io *file, const char *what)
{
	for (unsigned i = 0; i < d->states; i++)
		expect_state(d, file, i, what);
}

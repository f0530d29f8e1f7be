/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots and bitmaps written along with a new image: random states that share clusters, then refcounts, COPIED
 * and every entry of every state compared with what was asked for.
 */
#include "qcow2/writer.h"
#include "tests/unit/image_view.h"

#include <check.h>

enum { STATES = 6, CLUSTERS = 400, VM_CLUSTERS = 5 };

/* What a cluster of a state maps to; stream 0: not compressed. */
struct place {
	uint64_t host;
	size_t stream;
};

struct history {
	struct image_create c;
	struct io *file;
	struct writer *w;
	struct place places[STATES][CLUSTERS + 8192];
	uint64_t sizes[STATES], vm_guest[STATES];
	uint64_t seed;
	bool refused; /* a refcount was at its maximum at least once */
};

static uint64_t random_number(struct history *h, uint64_t below)
{
	h->seed = h->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (h->seed >> 20) % below;
}

static void new_cluster(struct history *h, uint64_t guest, struct place *p)
{
	struct error e = {0};
	static uint8_t bytes[1 << 16];
	memset(bytes, (int)(1 + random_number(h, 255)), h->c.cluster_size);
	p->stream = random_number(h, 2) ? 1 + random_number(h, h->c.cluster_size - 1) : 0;
	if (p->stream)
		ck_assert(writer_compressed(h->w, guest, p->stream, &p->host, &e) == 0);
	else
		ck_assert(writer_data(h->w, guest, h->c.cluster_size, &p->host, &e) == 0);
	ck_assert(io_write(h->file, bytes, p->stream ? p->stream : h->c.cluster_size, p->host, &e) == 0);
}

/* The cluster as an earlier state has it, or a copy where the refcount is full. */
static void old_cluster(struct history *h, uint64_t guest, struct place *p, const struct place *old)
{
	struct error e = {0};
	int r = old->stream ? writer_share_compressed(h->w, guest, old->stream, old->host, &e)
			    : writer_share(h->w, guest, h->c.cluster_size, old->host, &e);
	ck_assert_msg(r >= 0, "%s", e.msg);
	h->refused |= r == 1;
	*p = *old;
	if (r == 1)
		new_cluster(h, guest, p);
}

static void write_state(struct history *h, unsigned state)
{
	for (uint64_t i = 0; i < h->sizes[state] >> 12; i++) {
		struct place *p = &h->places[state][i];
		unsigned other = (unsigned)random_number(h, STATES);
		if (random_number(h, 8) == 0)
			continue;
		if (other < state && h->places[other][i].host)
			old_cluster(h, i << 12, p, &h->places[other][i]);
		else
			new_cluster(h, i << 12, p);
	}
}

static void write_snapshot(struct history *h, unsigned state)
{
	struct error e = {0};
	char id[16], name[24];
	struct snapshot_entry s = {
		.disk_size = h->sizes[state], .has_disk_size = true, .date_sec = 1000 + state, .id = id, .name = name};
	s.id_len = (uint16_t)snprintf(id, sizeof id, "%u", state + 1);
	s.name_len = (uint16_t)snprintf(name, sizeof name, "state %u", state);
	if (state % 2)
		s.vm_state_bytes = VM_CLUSTERS * h->c.cluster_size - 100;
	ck_assert_msg(writer_snapshot_begin(h->w, &s, &e) == 0, "%s", e.msg);
	write_state(h, state);
	h->vm_guest[state] = writer_vm_state_guest(h->w, s.disk_size);
	for (unsigned i = 0; s.vm_state_bytes && i < VM_CLUSTERS; i++)
		new_cluster(h, h->vm_guest[state] + i * h->c.cluster_size,
			&h->places[state][(h->vm_guest[state] >> 12) + i]);
	ck_assert(writer_snapshot_end(h->w, &e) == 0);
}

static void write_bitmap(struct history *h, const char *name, unsigned granularity_bits)
{
	struct error e = {0};
	struct bitmap_entry b = {.name = name,
		.name_len = (uint16_t)strlen(name),
		.granularity_bits = (uint8_t)granularity_bits,
		.flags = BITMAP_AUTO};
	uint8_t bits[4096] = {0};
	ck_assert_msg(writer_bitmap_begin(h->w, &b, &e) == 0, "%s", e.msg);
	ck_assert(writer_bitmap_cluster(h->w, 0, bits, &e) == 0);
	bits[7] = 0x5a;
	if (granularity_bits == 9)
		bits[9] = 1;
	ck_assert(writer_bitmap_cluster(h->w, 0, bits, &e) == 0);
	ck_assert(writer_bitmap_end(h->w, &e) == 0);
}

static void expect_state(const struct history *h, const struct image_view *v, unsigned state, uint64_t l1_offset,
	uint64_t l1_entries)
{
	for (uint64_t i = 0; i < l1_entries * geometry_l2_span(&v->g) >> 12; i++) {
		const struct place *p = &h->places[state][i];
		struct l2_entry entry = image_view_entry(v, l1_offset, l1_entries, i << 12);
		NEED(entry.host == p->host);
		NEED(entry.type == (!p->host ? CLUSTER_UNALLOCATED : p->stream ? CLUSTER_COMPRESSED : CLUSTER_NORMAL));
		NEED(state == STATES - 1 || !entry.copied);
	}
}

static void expect_history(const struct history *h)
{
	struct image_view v;
	image_view_open(&v, io_memory_bytes(h->file), h->file->size);
	ck_assert_uint_eq(v.h.snapshot_count, STATES - 1);
	for (unsigned state = 0; state < STATES - 1; state++) {
		struct snapshot_entry s = image_view_snapshot(&v, state);
		char name[24];
		snprintf(name, sizeof name, "state %u", state);
		ck_assert(s.name_len == strlen(name) && !memcmp(s.name, name, s.name_len));
		ck_assert_uint_eq(s.disk_size, h->sizes[state]);
		ck_assert_uint_eq(s.date_sec, 1000 + state);
		expect_state(h, &v, state, s.l1_offset, s.l1_entries);
	}
	expect_state(h, &v, STATES - 1, v.h.l1_offset, v.h.l1_entries);
	ck_assert_uint_eq(v.bitmaps.count, h->c.version == 3 ? 2 : 0);
	if (v.bitmaps.count) {
		struct bitmap_entry b = image_view_bitmap(&v, 1);
		ck_assert(b.name_len == 4 && !memcmp(b.name, "fine", 4) && b.granularity_bits == 9 &&
			  b.flags == BITMAP_AUTO);
		uint64_t host = get_be64(v.bytes + b.table_offset);
		ck_assert(v.bytes[host + 7] == 0x5a && v.bytes[host + 9] == 1 && v.bytes[host + 8] == 0);
	}
	image_view_close(&v);
}

START_TEST(states_share_clusters)
{
	struct error e = {0};
	struct history *h = calloc(1, sizeof *h);
	ck_assert_ptr_nonnull(h);
	h->seed = (uint64_t)_i + 1;
	image_create_defaults(&h->c, IMAGE_QCOW2);
	h->c.cluster_size = 4096;
	h->c.version = _i == 7 ? 2 : 3;
	h->c.refcount_bits = _i == 7 ? 16 : 1u << _i;
	for (unsigned state = 0; state < STATES; state++)
		h->sizes[state] = (CLUSTERS - random_number(h, 100)) * 4096;
	h->c.size = h->sizes[STATES - 1];
	ck_assert(io_memory_new(&h->file, NULL, 0, "image", &e) == 0);
	ck_assert(writer_new(&h->w, &h->c, h->file, NULL, &e) == 0);
	for (unsigned state = 0; state < STATES - 1; state++)
		write_snapshot(h, state);
	write_state(h, STATES - 1);
	if (h->c.version == 3) {
		write_bitmap(h, "coarse", 16);
		write_bitmap(h, "fine", 9);
	}
	ck_assert_msg(writer_finish(h->w, &e) == 0, "%s", e.msg);
	ck_assert(h->refused == (h->c.refcount_bits < 4));
	expect_history(h);
	writer_free(h->w);
	io_close(h->file);
	free(h);
}
END_TEST

static struct writer *new_writer(struct image_create *c, struct io **file)
{
	struct error e = {0};
	struct writer *w;
	ck_assert(io_memory_new(file, NULL, 0, "image", &e) == 0);
	ck_assert(writer_new(&w, c, *file, NULL, &e) == 0);
	return w;
}

/* A bitmap of many clusters: zeros and ones take no space, the last cluster's ones end with the disk. */
START_TEST(uniform_parts_of_bitmaps_take_no_space)
{
	struct error e = {0};
	struct image_create c;
	struct image_view v;
	struct io *file;
	uint8_t bits[512];
	image_create_defaults(&c, IMAGE_QCOW2);
	c.cluster_size = 512;
	c.size = 10u << 20; /* 20480 bits of 512 bytes: 5 clusters */
	struct writer *w = new_writer(&c, &file);
	struct bitmap_entry b = {.name = "b", .name_len = 1, .granularity_bits = 9};
	ck_assert(writer_bitmap_begin(w, &b, &e) == 0);
	memset(bits, 0xff, sizeof bits);
	ck_assert(writer_bitmap_cluster(w, 1, bits, &e) == 0);
	memset(bits, 0, sizeof bits);
	ck_assert(writer_bitmap_cluster(w, 2, bits, &e) == 0);
	bits[511] = 0x80;
	ck_assert(writer_bitmap_cluster(w, 4, bits, &e) == 0);
	ck_assert(writer_bitmap_end(w, &e) == 0 && writer_finish(w, &e) == 0);
	writer_free(w);
	image_view_open(&v, io_memory_bytes(file), file->size);
	b = image_view_bitmap(&v, 0);
	ck_assert_uint_eq(b.table_entries, 5);
	const uint8_t *table = v.bytes + b.table_offset;
	ck_assert_uint_eq(get_be64(table), 0);
	ck_assert_uint_eq(get_be64(table + 8), 1);
	ck_assert_uint_eq(get_be64(table + 16), 0);
	ck_assert_uint_eq(get_be64(table + 24), 0);
	ck_assert_uint_eq(v.bytes[get_be64(table + 32) + 511], 0x80);
	image_view_close(&v);
	io_close(file);
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
	struct error e = {0};
	struct image_create c;
	struct io *file;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = 1 << 20;
	struct writer *w = new_writer(&c, &file);
	ck_assert(writer_bitmap_begin(w, &(struct bitmap_entry){.name = "b", .name_len = 1, .granularity_bits = 8},
			  &e) < 0);
	ck_assert(writer_bitmap_begin(w, &(struct bitmap_entry){.name = "b", .name_len = 0, .granularity_bits = 9},
			  &e) < 0);
	struct snapshot_entry s = {
		.id = "1", .name = "n", .id_len = 1, .name_len = 1, .has_disk_size = true, .disk_size = 1ull << 60};
	ck_assert(writer_snapshot_begin(w, &s, &e) < 0);
	s.disk_size = 1 << 20;
	s.vm_state_bytes = UINT64_MAX;
	ck_assert(writer_snapshot_begin(w, &s, &e) < 0);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	writer_free(w);
	io_close(file);
	c.version = 2;
	w = new_writer(&c, &file);
	ck_assert(writer_bitmap_begin(w, &(struct bitmap_entry){.name = "b", .name_len = 1, .granularity_bits = 9},
			  &e) < 0);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	writer_free(w);
	io_close(file);
}
END_TEST

Suite *suite_writer_states(void);
Suite *suite_writer_states(void)
{
	Suite *s = suite_create("writer_states");
	TCase *t = tcase_create("writer_states");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, states_share_clusters, 0, 8);
	tcase_add_test(t, uniform_parts_of_bitmaps_take_no_space);
	tcase_add_test(t, what_cannot_be_is_refused);
	suite_add_tcase(s, t);
	return s;
}

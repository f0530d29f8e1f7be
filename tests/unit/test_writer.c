/* SPDX-License-Identifier: Apache-2.0
 *
 * The one-pass writer: random calls with random options, and the image that comes out is looked at by another way of
 * reading (tests/unit/image_view.c) and compared with what was asked for.
 */
#include "tests/unit/image_view.h"
#include "tests/unit/io_fault.h"
#include "tests/unit/writer_run.h"

#include <check.h>

static void expect_pattern(const uint8_t *bytes, uint64_t len, uint64_t guest, unsigned salt)
{
	uint8_t *expected = malloc(len);
	run_pattern(expected, len, guest, salt);
	NEED(memcmp(bytes, expected, len) == 0);
	free(expected);
}

static void expect_zero_call(const struct run *r, const struct call *call, const struct l2_entry *entry)
{
	bool preallocated = r->c.prealloc != PREALLOC_OFF || r->c.data_file_raw;
	bool has_host = entry->host || (r->data && entry->copied);
	if (call->real_zeros)
		NEED(entry->type == (CLUSTER_NORMAL));
	else if (!r->c.backing_name)
		NEED(entry->type == (preallocated ? CLUSTER_NORMAL : CLUSTER_UNALLOCATED));
	else if (!r->c.extended_l2)
		NEED(entry->type == (CLUSTER_ZERO_PLAIN));
	if (!call->real_zeros && r->c.extended_l2)
		NEED(entry->zero == (r->c.backing_name ? UINT32_MAX : 0) && !entry->alloc);
	NEED(has_host == (preallocated || call->real_zeros));
}

/* What the entry of one cluster of a call says, and the bytes it leads to. */
static void expect_cluster(const struct run *r, const struct image_view *v, const struct call *call, uint64_t guest)
{
	struct l2_entry entry = image_view_entry(v, v->h.l1_offset, v->h.l1_entries, guest);
	const uint8_t *bytes = io_memory_bytes(r->data ? r->data : r->file);
	uint64_t host = call->host + (guest - call->guest), len = min_u64(r->c.cluster_size, r->c.size - guest);
	if (call->kind == CALL_ZERO) {
		expect_zero_call(r, call, &entry);
		if (entry.type == CLUSTER_NORMAL)
			NEED(mem_is_zero(bytes + entry.host, len));
		return;
	}
	if (call->kind == CALL_SUBCLUSTERS) {
		NEED(entry.alloc == call->alloc && entry.zero == call->zero);
		NEED(entry.host == (call->host));
		return;
	}
	NEED(entry.host == (host));
	NEED(entry.type == (call->kind == CALL_COMPRESSED ? CLUSTER_COMPRESSED : CLUSTER_NORMAL));
	if (call->kind == CALL_DATA) {
		NEED(!r->c.extended_l2 || entry.alloc == UINT32_MAX);
		expect_pattern(bytes + host, len, guest, 0);
	}
}

static void expect_gap(const struct run *r, const struct image_view *v, uint64_t guest)
{
	struct l2_entry entry = image_view_entry(v, v->h.l1_offset, v->h.l1_entries, guest);
	const uint8_t *bytes = io_memory_bytes(r->data ? r->data : r->file);
	NEED(!r->c.extended_l2 || (!entry.alloc && !entry.zero));
	if (r->c.prealloc == PREALLOC_OFF && !r->c.data_file_raw) {
		NEED(entry.type == CLUSTER_UNALLOCATED);
		return;
	}
	NEED(r->data ? entry.host == guest : entry.host != 0);
	NEED(mem_is_zero(bytes + entry.host, min_u64(r->c.cluster_size, r->c.size - guest)));
}

/* Should the disk grow, nothing shows that was never written. */
static void expect_nothing_behind(const struct run *r, const struct image_view *v)
{
	uint64_t tail = r->c.size % r->c.cluster_size;
	if (!tail || r->data)
		return;
	struct l2_entry entry = image_view_entry(v, v->h.l1_offset, v->h.l1_entries, r->c.size - tail);
	if (entry.type == CLUSTER_NORMAL && (!r->c.extended_l2 || entry.alloc == UINT32_MAX))
		ck_assert(mem_is_zero(v->bytes + entry.host + tail, r->c.cluster_size - tail));
}

static void expect_image(const struct run *r)
{
	struct image_view v;
	uint64_t guest = 0;
	image_view_open(&v, io_memory_bytes(r->file), r->file->size);
	ck_assert_uint_eq(v.h.size, r->c.size);
	ck_assert_uint_eq(v.h.compatible, r->c.lazy_refcounts ? COMPAT_LAZY_REFCOUNTS : 0);
	if (r->c.backing_name)
		ck_assert(v.h.backing_len == strlen(r->c.backing_name) &&
			  !memcmp(v.backing, r->c.backing_name, v.h.backing_len));
	for (unsigned i = 0; i < r->count; i++) {
		const struct call *call = &r->calls[i];
		for (; guest < call->guest; guest += r->c.cluster_size)
			expect_gap(r, &v, guest);
		for (; guest < call->guest + call->len; guest += r->c.cluster_size)
			expect_cluster(r, &v, call, guest);
	}
	for (; guest < r->c.size; guest += r->c.cluster_size)
		expect_gap(r, &v, guest);
	expect_nothing_behind(r, &v);
	/* streams after everything, since what packs them may have written over one */
	for (unsigned i = 0; i < r->count; i++)
		if (r->calls[i].kind == CALL_COMPRESSED)
			expect_pattern(v.bytes + r->calls[i].host, r->calls[i].stream, r->calls[i].guest, 99);
	image_view_close(&v);
}

START_TEST(random_images_are_as_asked)
{
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct run *r = run_new((uint64_t)_i * 60 + seed, false);
		run_write(r);
		expect_image(r);
		run_free(r);
	}
}
END_TEST

/* Compressed streams lie back to back, also over the border of host clusters. */
START_TEST(streams_are_packed)
{
	struct error e = {0};
	struct image_create c;
	struct io *file;
	struct writer *w;
	uint64_t host, expected = 0;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.cluster_size = 4096;
	c.size = 1 << 20;
	ck_assert(io_memory_new(&file, NULL, 0, "image", &e) == 0);
	ck_assert(writer_new(&w, &c, file, NULL, &e) == 0);
	for (unsigned i = 0; i < 200; i++, expected += 1333) {
		ck_assert(writer_compressed(w, i * 4096, 1333, &host, &e) == 0);
		if (!i)
			expected = host;
		ck_assert_uint_eq(host, expected);
	}
	/* what does not fit into the tail goes elsewhere, and the tail is used by the next that does */
	uint64_t tail = expected, data;
	ck_assert(writer_data(w, 200 * 4096, 4096, &data, &e) == 0);
	ck_assert(writer_compressed(w, 201 * 4096, 10, &host, &e) == 0);
	ck_assert_uint_eq(host, tail);
	ck_assert(writer_finish(w, &e) == 0);
	writer_free(w);
	io_close(file);
}
END_TEST

/* A stream takes the very bytes that a file gets, header first, each write behind the one before. */
START_TEST(streams_get_the_same_bytes_in_order)
{
	struct error e = {0};
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct run *dry = run_new(seed + 5000, true), *wet = run_new(seed + 5000, true);
		struct writer *w;
		dry->ascending = wet->ascending = true;
		run_write(dry);
		wet->file = io_fault_new(wet->file);
		ck_assert(writer_new(&w, &wet->c, wet->file, wet->data, &e) == 0);
		writer_ascending(w);
		ck_assert(writer_header_first(w, io_memory_bytes(dry->file), &e) == 0);
		run_calls(wet, w);
		ck_assert_msg(writer_finish(w, &e) == 0, "%s", e.msg);
		writer_free(w);

		size_t count;
		uint64_t end = 0;
		const struct fault_record *rec = io_fault_records(wet->file, &count);
		struct io *again;
		ck_assert(io_memory_new(&again, NULL, 0, "again", &e) == 0);
		for (size_t i = 0; i < count; i++) {
			ck_assert(rec[i].op == FAULT_TRUNCATE || rec[i].off >= end);
			end = rec[i].op == FAULT_TRUNCATE ? end : rec[i].off + rec[i].len;
			ck_assert(io_fault_replay(&rec[i], again, &e) == 0);
		}
		ck_assert_uint_eq(again->size, dry->file->size);
		ck_assert_mem_eq(io_memory_bytes(again), io_memory_bytes(dry->file), again->size);
		io_close(again);
		run_free(dry);
		run_free(wet);
	}
}
END_TEST

START_TEST(another_header_than_the_first_is_told)
{
	struct error e = {0};
	struct run *r = run_new(3, true);
	struct writer *w;
	uint64_t host;
	image_create_defaults(&r->c, IMAGE_QCOW2);
	r->c.size = 10 << 20;
	io_close(r->data);
	r->data = NULL;
	r->ascending = true;
	run_write(r);
	struct io *nowhere;
	ck_assert(io_null_new(&nowhere, &e) == 0);
	ck_assert(writer_new(&w, &r->c, nowhere, NULL, &e) == 0);
	ck_assert(writer_header_first(w, io_memory_bytes(r->file), &e) == 0);
	ck_assert(writer_data(w, 0, 10 << 20, &host, &e) == 0);
	ck_assert(writer_finish(w, &e) < 0);
	ck_assert_int_eq(e.code, ERR_CHANGED);
	writer_free(w);
	io_close(nowhere);
	run_free(r);
}
END_TEST

/* Before the header there is no image: nobody mistakes a half-made one. */
START_TEST(the_header_is_the_last_write)
{
	struct error e = {0};
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct run *r = run_new(seed + 9000, true);
		struct io *memory = r->file;
		struct writer *w;
		size_t count;
		r->file = io_fault_new(memory);
		ck_assert(writer_new(&w, &r->c, r->file, r->data, &e) == 0);
		run_calls(r, w);
		ck_assert(writer_finish(w, &e) == 0);
		writer_free(w);
		const struct fault_record *rec = io_fault_records(r->file, &count);
		for (size_t i = 0; i + 1 < count; i++)
			ck_assert(rec[i].op == FAULT_TRUNCATE || rec[i].off >= r->c.cluster_size);
		ck_assert(rec[count - 1].op == FAULT_WRITE && rec[count - 1].off == 0);
		run_free(r);
	}
}
END_TEST

/* A device that held an image before holds none while the new one is made. */
START_TEST(an_old_header_goes_first)
{
	struct error e = {0};
	struct run *r = run_new(4, true);
	struct io *disk;
	struct writer *w;
	io_close(r->data);
	r->data = NULL;
	image_create_defaults(&r->c, IMAGE_QCOW2);
	r->c.size = 1 << 20;
	run_write(r);
	ck_assert(io_memory_new(&disk, io_memory_bytes(r->file), r->file->size, "disk", &e) == 0);
	ck_assert_uint_eq(get_be32(io_memory_bytes(disk)), QCOW2_MAGIC);
	ck_assert(writer_new(&w, &r->c, disk, NULL, &e) == 0);
	ck_assert(mem_is_zero(io_memory_bytes(disk), 512));
	writer_free(w);
	io_close(disk);
	run_free(r);
}
END_TEST

START_TEST(a_failed_write_is_an_error)
{
	struct error e = {0};
	for (unsigned k = 1; k < 5; k++) {
		struct run *r = run_new(77, true);
		struct writer *w;
		uint64_t host;
		image_create_defaults(&r->c, IMAGE_QCOW2);
		r->c.size = 1 << 20;
		r->file = io_fault_new(r->file);
		io_fault_fail(r->file, FAULT_WRITE, k, 28, false);
		ck_assert(writer_new(&w, &r->c, r->file, NULL, &e) == 0);
		ck_assert(writer_data(w, 0, 1 << 20, &host, &e) == 0);
		ck_assert(writer_finish(w, &e) < 0);
		ck_assert_int_eq(e.sys_errno, 28);
		writer_free(w);
		run_free(r);
	}
}
END_TEST

/* More tables than one batch of each kind: 1 MiB of L2 tables and of refcount blocks with the smallest clusters. */
START_TEST(many_tables)
{
	struct error e = {0};
	struct image_create c;
	struct io *file;
	struct image_view v;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.cluster_size = 512;
	c.refcount_bits = 64;
	c.size = 150 << 20;
	c.prealloc = PREALLOC_METADATA;
	ck_assert(io_memory_new(&file, NULL, 0, "image", &e) == 0);
	ck_assert_msg(image_create_run(&c, file, NULL, &e) == 0, "%s", e.msg);
	image_view_open(&v, io_memory_bytes(file), file->size);
	for (uint64_t guest = 0; guest < c.size; guest += c.cluster_size)
		NEED(image_view_entry(&v, v.h.l1_offset, v.h.l1_entries, guest).type == CLUSTER_NORMAL);
	image_view_close(&v);
	io_close(file);
}
END_TEST

/* The room behind a stream is given up when the refcount block that counts it has been written. */
START_TEST(an_old_tail_is_given_up)
{
	struct error e = {0};
	struct image_create c;
	struct io *file;
	struct writer *w;
	struct image_view v;
	uint64_t tail, host, far = 70 << 20;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.cluster_size = 512;
	c.refcount_bits = 64;
	c.size = far + 4096;
	ck_assert(io_memory_new(&file, NULL, 0, "image", &e) == 0);
	ck_assert(writer_new(&w, &c, file, NULL, &e) == 0);
	ck_assert(writer_compressed(w, 0, 10, &tail, &e) == 0);
	ck_assert(writer_data(w, 512, far - 512, &host, &e) == 0);
	ck_assert(writer_compressed(w, far, 10, &host, &e) == 0);
	ck_assert_uint_gt(host, far);
	ck_assert(writer_finish(w, &e) == 0);
	writer_free(w);
	image_view_open(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
	io_close(file);
}
END_TEST

/* Explicit zeros over a backing file take L2 tables only, however long they are. */
START_TEST(long_zero_runs)
{
	struct error e = {0};
	struct image_create c;
	struct io *file;
	struct writer *w;
	struct image_view v;
	uint64_t host, guest = 7 << 20, len = 300 << 20;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.cluster_size = 512;
	c.size = 400 << 20;
	c.backing_name = "base";
	ck_assert(io_memory_new(&file, NULL, 0, "image", &e) == 0);
	ck_assert(writer_new(&w, &c, file, NULL, &e) == 0);
	ck_assert(writer_zero(w, guest, len, &host, &e) == 0);
	ck_assert(writer_finish(w, &e) == 0);
	writer_free(w);
	image_view_open(&v, io_memory_bytes(file), file->size);
	for (uint64_t g = 0; g < c.size; g += 512)
		NEED(image_view_entry(&v, v.h.l1_offset, v.h.l1_entries, g).type ==
			(g >= guest && g < guest + len ? CLUSTER_ZERO_PLAIN : CLUSTER_UNALLOCATED));
	image_view_close(&v);
	io_close(file);
}
END_TEST

START_TEST(ranges_outside_the_disk_are_refused)
{
	struct error e = {0};
	struct image_create c;
	struct io *file;
	struct writer *w;
	uint64_t host;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = 65536 + 512;
	ck_assert(io_memory_new(&file, NULL, 0, "image", &e) == 0);
	ck_assert(writer_new(&w, &c, file, NULL, &e) == 0);
	ck_assert(writer_data(w, 131072, 512, &host, &e) < 0);
	ck_assert(writer_data(w, 65536, 65537, &host, &e) < 0);
	ck_assert(writer_zero(w, 65536, UINT64_MAX - 100, &host, &e) < 0);
	ck_assert(writer_compressed(w, 131072, 512, &host, &e) < 0);
	ck_assert_int_eq(e.code, ERR_USAGE);
	writer_free(w);
	io_close(file);
}
END_TEST

Suite *suite_writer(void);
Suite *suite_writer(void)
{
	Suite *s = suite_create("writer");
	TCase *t = tcase_create("writer");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, random_images_are_as_asked, 0, 4);
	tcase_add_test(t, streams_are_packed);
	tcase_add_test(t, streams_get_the_same_bytes_in_order);
	tcase_add_test(t, another_header_than_the_first_is_told);
	tcase_add_test(t, the_header_is_the_last_write);
	tcase_add_test(t, an_old_header_goes_first);
	tcase_add_test(t, a_failed_write_is_an_error);
	tcase_add_test(t, many_tables);
	tcase_add_test(t, an_old_tail_is_given_up);
	tcase_add_test(t, long_zero_runs);
	tcase_add_test(t, ranges_outside_the_disk_are_refused);
	suite_add_tcase(s, t);
	return s;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots (FORMAT.md §8, §12.4) where something is special: flags that QEMU left, bitmaps, VM state, entries that do
 * not say their size, damage, ids.
 */
#include "tests/unit/snapshot_model.h"

#include "qcow2/snapshot_edit.h"

static const struct kind usual = {512, 16, 3, false, DISK};

/* Goes on with these bytes as the file. */
static void go_on_with(struct model *s, uint8_t *bytes, uint64_t len)
{
	struct error e;
	struct io *file;
	must(io_memory_new(&file, bytes, len, "changed", &e), &e);
	free(bytes);
	chain_close(s->chain);
	model_reopen(s, io_fault_new(file));
}

/* QEMU sets COPIED again in tables that belong to a snapshot alone. */
START_TEST(copied_bits_in_a_snapshots_tables_are_cleared_before_they_are_active)
{
	struct model s;
	struct error e;
	uint64_t len;
	uint8_t *bytes;
	unsigned set = 0;
	model_open(&s, &usual, 11);
	model_write_some(&s, 20);
	must(model_create(&s, 0, &e), &e);
	must(edit_discard(s.ed, 0, DISK, &e), &e);
	memset(s.disk, 0, DISK);
	model_write_some(&s, 10);
	const struct snapshot_entry x = s.ed->q->snapshots[0].entry;
	bytes = model_take(&s, &len);
	for (uint32_t i = 0; i < x.l1_entries; i++) {
		uint8_t *table = bytes + (get_be64(bytes + x.l1_offset + i * 8) & ENTRY_OFFSET_MASK);
		for (unsigned k = 0; table != bytes && k < 512; k += 8) {
			uint64_t raw = get_be64(table + k);
			if (raw & ENTRY_COMPRESSED || !(raw & ENTRY_OFFSET_MASK))
				continue;
			put_be64(table + k, raw | ENTRY_COPIED);
			set++;
		}
	}
	ck_assert_uint_gt(set, 10);
	go_on_with(&s, bytes, len);
	must(model_apply(&s, 0, 0, &e), &e);
	model_expect(&s);
	model_write_some(&s, 30);
	model_expect(&s);
	model_end(&s);
}
END_TEST

static void judge_bitmaps(void *ctx, struct io *file, const char *what)
{
	struct expectation *x = ctx;
	struct error e;
	struct io *none = NULL;
	struct edit *ed;
	model_judge(ctx, file, what);
	struct chain *c = chain_of(&file, &none, 1);
	const struct qcow2 *q = c->layers[0].q;
	bool usable = q->bitmap_count == 2;
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		usable &= !(q->bitmaps[i].entry.flags & BITMAP_IN_USE);
	/* After going back the bits say that all may have changed, or the bitmap says that it is not to be trusted. */
	const bool is_new = q->size == x->after->kind.size;
	must(edit_open(&ed, &c->layers[0], NULL, &e), &e);
	if (usable && is_new) {
		must(edit_bitmaps_load_all(ed, &e), &e);
		const struct edit_bitmap *b = edit_bitmaps_find(ed, 0);
		for (uint64_t bit = 0; bit < div_round_up(q->size, 512); bit++)
			if (!(b->bits[bit / 8] >> bit % 8 & 1))
				ck_abort_msg("%s: bit %llu is stale", what, (unsigned long long)bit);
	}
	must(edit_close(ed, &e), &e);
	c->layers[0].file = c->layers[0].data = NULL;
	chain_close(c);
}

START_TEST(bitmaps_come_out_with_all_bits_set)
{
	struct model s, before;
	struct error e;
	size_t count;
	uint8_t *start;
	model_open(&s, &usual, 12);
	model_write_some(&s, 10);
	must(model_create(&s, 0, &e), &e);
	must(model_resize(&s, DISK + 8192, &e), &e);
	must(edit_bitmap_add(s.ed, "on", 512, &e) || edit_bitmap_add(s.ed, "off", 512, &e), &e);
	must(edit_bitmap_enable(s.ed, "off", false, &e), &e);
	model_write_some(&s, 3);
	must(edit_close(s.ed, &e), &e);
	must(edit_open(&s.ed, &s.chain->layers[0], NULL, &e), &e);
	model_remember(&before, &s);
	const uint64_t len = model_bytes(&s, &start)->size;
	io_fault_forget(s.fault);
	must(model_apply(&s, 0, 0, &e) || edit_close(s.ed, &e), &e);
	const struct fault_record *records = io_fault_records(s.fault, &count);
	struct expectation x = {.before = &before, .after = &s};
	crash_each(start, len, records, count, 10, judge_bitmaps, &x);
	/* At the end both can be used, the one that is not enabled as it was. */
	must(edit_open(&s.ed, &s.chain->layers[0], NULL, &e) || edit_bitmaps_load_all(s.ed, &e), &e);
	const struct edit_bitmap *on = edit_bitmaps_find(s.ed, 0), *off = edit_bitmaps_find(s.ed, 1);
	ck_assert(on && off);
	ck_assert_uint_eq(on->entries, bitmap_table_entries(&s.ed->g, 9, DISK));
	for (uint64_t bit = 0; bit < DISK / 512; bit++)
		ck_assert((on->bits[bit / 8] >> bit % 8 & 1) && !(off->bits[bit / 8] >> bit % 8 & 1));
	free(start);
	model_forget(&before);
	model_end(&s);
}
END_TEST

START_TEST(vm_state_stays_with_its_snapshot)
{
	enum { SIZE = 1 << 16, STATE = 5 << 9 };
	struct image_create c;
	struct error e;
	struct writer *w;
	struct io *file, *none = NULL;
	struct image_view v;
	uint64_t host;
	uint8_t bytes[STATE];
	const struct snapshot_entry x = {.id = "1",
		.id_len = 1,
		.name = "vm",
		.name_len = 2,
		.disk_size = SIZE,
		.has_disk_size = true,
		.vm_state_bytes = STATE,
		.icount = UINT64_MAX};
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = SIZE;
	c.cluster_size = 512;
	memset(bytes, 0x77, STATE);
	must(io_memory_new(&file, "", 0, "vm", &e) || writer_new(&w, &c, file, NULL, &e), &e);
	must(writer_snapshot_begin(w, &x, &e) || writer_data(w, 0, 512, &host, &e) ||
			io_write(file, bytes, 512, host, &e),
		&e);
	must(writer_data(w, writer_vm_state_guest(w, SIZE), STATE, &host, &e) || io_write(file, bytes, STATE, host, &e),
		&e);
	must(writer_snapshot_end(w, &e) || writer_finish(w, &e), &e);
	writer_free(w);
	struct chain *chain = chain_of(&file, &none, 1);
	struct edit *ed;
	must(edit_open(&ed, &chain->layers[0], NULL, &e) || edit_snapshot_apply(ed, 0, false, 0, &e), &e);
	ck_assert_uint_eq(ed->q->h.l1_entries, SIZE >> 15);
	/* What was behind the disk's end must not show when it grows. */
	must(edit_resize(ed, 3 * SIZE, PREALLOC_OFF, &e), &e);
	for (uint64_t at = SIZE; at < 3 * SIZE; at += 512) {
		must(edit_read(ed, bytes, 512, at, &e), &e);
		ck_assert(mem_is_zero(bytes, 512));
	}
	must(edit_flush(ed, &e), &e);
	ck_assert_uint_gt(ed->q->snapshots[0].entry.l1_entries, SIZE >> 15);
	must(edit_snapshot_delete(ed, 0, 0, &e) || edit_close(ed, &e), &e);
	image_view_open(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
	chain_close(chain);
}
END_TEST

/* As entries were before QEMU 1.1: 40 bytes, id, name. */
START_TEST(a_snapshot_without_a_size_of_its_own_keeps_the_one_it_had)
{
	struct model s;
	struct error e;
	uint64_t len;
	uint8_t *bytes, *entry;
	model_open(&s, &usual, 13);
	model_write_some(&s, 10);
	must(model_create(&s, 0, &e), &e);
	must(model_resize(&s, DISK + 4096, &e), &e);
	model_write_some(&s, 10);
	must(model_create(&s, 0, &e), &e);
	entry = (uint8_t *)(uintptr_t)s.ed->q->h.snapshots_offset;
	entry += s.ed->q->snapshots[0].entry.bytes;
	bytes = model_take(&s, &len);
	entry = bytes + (uintptr_t)entry;
	ck_assert_uint_eq(get_be32(entry + 36), 24);
	put_be32(entry + 36, 0);
	memmove(entry + 40, entry + 64, 3);
	go_on_with(&s, bytes, len);
	ck_assert(!s.ed->q->snapshots[1].entry.has_disk_size);
	must(model_apply(&s, 0, 0, &e), &e);
	ck_assert_uint_eq(s.ed->q->size, DISK);
	ck_assert(s.ed->q->snapshots[1].entry.has_disk_size);
	model_expect(&s);
	must(model_apply(&s, 1, 0, &e), &e);
	model_expect(&s);
	model_end(&s);
}
END_TEST

/* More references to one host cluster than a byte can count, with every width that can count them. */
START_TEST(many_compressed_clusters_in_one_are_counted)
{
	enum { CLUSTERS = 300 };
	const struct kind k = {65536, _i ? 64 : 16, 3, false, CLUSTERS << 16};
	struct model s;
	struct error e;
	model_open(&s, &k, 16);
	for (unsigned i = 0; i < CLUSTERS; i++) {
		memset(s.disk + ((size_t)i << 16), (int)i + 1, 1 << 16);
		must(edit_write_compressed(s.ed, s.disk + ((size_t)i << 16), 1 << 16, (uint64_t)i << 16, &e), &e);
	}
	must(model_create(&s, 2, &e), &e);
	model_expect(&s);
	must(edit_write(s.ed, memset(s.disk, 9, 7 << 16), 7 << 16, 0, &e), &e);
	must(model_create(&s, 0, &e), &e);
	model_expect(&s);
	must(model_apply(&s, 0, 2, &e), &e);
	model_expect(&s);
	must(model_delete(&s, 0, 0, &e), &e);
	model_expect(&s);
	must(model_delete(&s, 0, 1, &e), &e);
	model_end(&s);
}
END_TEST

START_TEST(ids_count_on_from_the_highest)
{
	static const struct {
		const char *ids[3], *next;
	} cases[] = {{{"1", "2", "3"}, "4"}, {{"7", "x", "3"}, "8"}, {{"x", "y", "z"}, "1"}, {{"12abc", "", "1"}, "13"},
		{{"18446744073709551615", "1", "2"}, "3"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct qcow2_snapshot list[3] = {0};
		const struct qcow2 q = {.snapshots = list, .snapshot_count = 3};
		char id[24];
		for (unsigned k = 0; k < 3; k++)
			list[k].id = (char *)(uintptr_t)cases[i].ids[k];
		snapshot_next_id(&q, id);
		ck_assert_str_eq(id, cases[i].next);
	}
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
	struct model s;
	struct error e;
	char *name = malloc(70000);
	struct snapshot_new n = {.name = name, .icount = UINT64_MAX};
	memset(name, 'n', 69999);
	name[69999] = 0;
	model_open(&s, &usual, 15);
	ck_assert(edit_snapshot_create(s.ed, &n, &e) < 0 && e.code == ERR_LIMIT);
	n.name = "given";
	n.id = "1";
	must(edit_snapshot_create(s.ed, &n, &e), &e);
	ck_assert_str_eq(s.ed->q->snapshots[0].id, "1");
	ck_assert(edit_snapshot_create(s.ed, &n, &e) < 0 && e.code == ERR_USAGE);
	ck_assert(edit_snapshot_apply(s.ed, 1, false, 0, &e) < 0 && e.code == ERR_USAGE);
	ck_assert(edit_snapshot_delete(s.ed, 1, 0, &e) < 0 && e.code == ERR_USAGE);
	free(name);
	model_end(&s);
}
END_TEST

Suite *suite_snapshot_cases(void);
Suite *suite_snapshot_cases(void)
{
	Suite *s = suite_create("snapshot_cases");
	TCase *t = tcase_create("cases");
	tcase_add_test(t, copied_bits_in_a_snapshots_tables_are_cleared_before_they_are_active);
	tcase_add_test(t, bitmaps_come_out_with_all_bits_set);
	tcase_add_test(t, vm_state_stays_with_its_snapshot);
	tcase_add_test(t, a_snapshot_without_a_size_of_its_own_keeps_the_one_it_had);
	tcase_add_loop_test(t, many_compressed_clusters_in_one_are_counted, 0, 2);
	tcase_add_test(t, ids_count_on_from_the_highest);
	tcase_add_test(t, what_makes_no_sense_is_refused);
	suite_add_tcase(s, t);
	return s;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots of damaged images (FORMAT.md §8, §12.3): refused before the first write, and never harmful.
 */
#include "tests/unit/snapshot_model.h"

static const struct kind usual = {512, 16, 3, false, DISK};

static const struct damage {
	const char *what, *says;
} damages[] = {
	{"data past the end", "exceeding the end of the file"},
	{"data on a refcount block", "holds a table"},
	{"L2 table twice", "more than once"},
	{"refcount too low", "refcount=0 reference=1"},
	{"reserved bits", "reserved bits set"},
	{"data on the L1 table", "holds a table"},
};

/* To the L2 table of the active state, or to the snapshot's if it is another. */
static void do_damage(uint8_t *bytes, const struct header *h, uint64_t l1, int which)
{
	uint8_t *table = bytes + (get_be64(bytes + l1) & ENTRY_OFFSET_MASK);
	const uint64_t block = get_be64(bytes + h->reftable_offset), data = get_be64(table) & ENTRY_OFFSET_MASK;
	if (which == 0)
		put_be64(table, 1ull << 40);
	else if (which == 1)
		put_be64(table, block);
	else if (which == 2)
		put_be64(bytes + l1 + 8, get_be64(bytes + l1));
	else if (which == 3)
		put_be16(bytes + block + (data >> 9) * 2, 0);
	else if (which == 4)
		put_be64(table, data + 512 * 3 / 2);
	else
		put_be64(table, h->l1_offset);
}

START_TEST(damage_is_refused_before_the_first_write)
{
	struct model s;
	struct error e;
	uint64_t len;
	/* the active state's tables; the snapshot's */
	for (unsigned of_snapshot = 0; of_snapshot < 2; of_snapshot++) {
		model_open(&s, &usual, 14);
		memset(s.disk, 5, DISK);
		must(edit_write(s.ed, s.disk, DISK, 0, &e), &e);
		must(model_create(&s, 0, &e), &e);
		memset(s.disk, 6, DISK);
		must(edit_write(s.ed, s.disk, DISK, 0, &e), &e);
		const struct header h = s.ed->q->h;
		const uint64_t l1 = of_snapshot ? s.ed->q->snapshots[0].entry.l1_offset : h.l1_offset;
		uint8_t *bytes = model_take(&s, &len);
		do_damage(bytes, &h, l1, _i);
		struct io *file, *none = NULL;
		struct layer *l;
		must(io_memory_new(&file, bytes, len, "damaged", &e), &e);
		free(bytes);
		chain_close(s.chain);
		s.fault = io_fault_new(file);
		s.chain = chain_of(&s.fault, &none, 1);
		l = &s.chain->layers[0];
		if (edit_open(&s.ed, l, NULL, &e) < 0) { /* refused already: tables of the active state overlap */
			ck_assert_int_eq(e.code, ERR_CORRUPT);
			model_free(&s);
			continue;
		}
		const struct snapshot_new n = {.name = "n", .icount = UINT64_MAX};
		for (unsigned op = of_snapshot; op < 3; op++) {
			int rc = op == 0   ? edit_snapshot_create(s.ed, &n, &e)
				 : op == 1 ? edit_snapshot_apply(s.ed, 0, false, 0, &e)
					   : edit_snapshot_delete(s.ed, 0, 0, &e);
			ck_assert_msg(rc < 0, "%s: done in spite of %s",
				op == 0   ? "create"
				: op == 1 ? "apply"
					  : "delete",
				damages[_i].what);
			ck_assert_int_eq(e.code, ERR_CORRUPT);
			ck_assert_msg(strstr(e.msg, damages[_i].says) != NULL, "%s: %s", damages[_i].what, e.msg);
		}
		ck_assert_uint_eq(io_fault_count(s.fault, FAULT_WRITE), 0);
		must(edit_close(s.ed, &e), &e);
		model_free(&s);
	}
}
END_TEST

/* Any bytes in place of metadata: the operation is done or refused, and the program lives on. */
START_TEST(mutated_images_do_no_harm)
{
	struct model s;
	struct error e;
	uint64_t len;
	model_open(&s, &usual, 17 + (uint64_t)_i);
	model_write_some(&s, 20);
	must(model_create(&s, 0, &e), &e);
	model_write_some(&s, 10);
	must(model_create(&s, 0, &e), &e);
	uint8_t *sound = model_take(&s, &len);
	for (unsigned round = 0; round < 150; round++) {
		struct io *file, *none = NULL;
		uint8_t *bytes = malloc(len);
		memcpy(bytes, sound, len);
		for (unsigned n = 1 + (unsigned)model_random(&s, 6); n; n--) {
			uint64_t at = model_random(&s, 3) ? model_random(&s, len / 8) * 8 : 24 + model_random(&s, 80);
			bytes[at + (at + 8 < len ? model_random(&s, 8) : 0)] ^= (uint8_t)(1u << model_random(&s, 8));
		}
		chain_close(s.chain);
		s.chain = NULL;
		must(io_memory_new(&file, bytes, len, "mutated", &e), &e);
		free(bytes);
		struct qcow2 *q;
		if (qcow2_open(&q, file, 0, &e) < 0) {
			io_close(file);
			s.chain = calloc(1, sizeof *s.chain);
			continue;
		}
		qcow2_close(q);
		s.chain = chain_of(&file, &none, 1);
		const struct snapshot_new n = {.name = "n", .icount = UINT64_MAX, .widen = round % 2};
		for (unsigned op = 0; op < 4; op++) {
			if (edit_open(&s.ed, &s.chain->layers[0], NULL, &e) < 0)
				break;
			const unsigned what = (unsigned)model_random(&s, 4);
			(void)(what == 0    ? edit_snapshot_create(s.ed, &n, &e)
				: what == 1 ? edit_snapshot_apply(s.ed, 0, false, 0, &e)
				: what == 2 ? edit_snapshot_switch(s.ed, 0, &n, &e)
					    : edit_snapshot_delete(s.ed, 0, 0, &e));
			(void)edit_close(s.ed, &e);
		}
		ck_assert_uint_lt(file->size, 64 << 20);
	}
	free(sound);
	model_free(&s);
}
END_TEST

Suite *suite_snapshot_damage(void);
Suite *suite_snapshot_damage(void)
{
	Suite *s = suite_create("snapshot_damage");
	TCase *t = tcase_create("damage");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, damage_is_refused_before_the_first_write, 0, sizeof damages / sizeof *damages);
	tcase_add_loop_test(t, mutated_images_do_no_harm, 0, 8);
	suite_add_tcase(s, t);
	return s;
}

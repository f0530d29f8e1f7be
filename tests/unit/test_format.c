/* SPDX-License-Identifier: Apache-2.0
 *
 * The codec's decoders and encoders against tables of cases, FORMAT.md §3 to §9.
 */
#include <check.h>

#include "qcow2/format.h"

static struct header good_header(void)
{
	return (struct header){
		.version = 3,
		.cluster_bits = 16,
		.size = 1 << 30,
		.l1_entries = 2,
		.l1_offset = 0x30000,
		.reftable_offset = 0x10000,
		.reftable_clusters = 1,
		.refcount_order = 4,
		.header_length = 112,
	};
}

START_TEST(a_header_survives_the_round_trip)
{
	struct header h = good_header(), back;
	uint8_t buf[112];
	struct error e;

	ck_assert_uint_eq(header_encode(&h, buf), 112);
	ck_assert_msg(header_decode(buf, sizeof buf, &back, &e) == 0, "%s", e.msg);
	ck_assert_mem_eq(&h, &back, sizeof h);
}
END_TEST

Suite *suite_format(void);
Suite *suite_format(void)
{
	Suite *s = suite_create("format");
	TCase *t = tcase_create("header");

	tcase_add_test(t, a_header_survives_the_round_trip);
	suite_add_tcase(s, t);
	return s;
}

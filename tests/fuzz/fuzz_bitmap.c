/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a bitmap directory (FORMAT.md §9.2). The first byte chooses the cluster size.
 */
#include "qcow2/format.h"
#include "tests/fuzz/fuzz.h"

static void check_round_trip(const struct geometry *g, const struct bitmap_entry *in)
{
	uint8_t buf[24 + QCOW2_MAX_BITMAP_NAME + 8];
	struct bitmap_entry out;
	struct error e;
	size_t len = bitmap_entry_encode(in, buf, sizeof buf);

	FUZZ_CHECK(len != 0 && len % 8 == 0);
	FUZZ_CHECK(bitmap_entry_decode(g, buf, len, &out, &e) == 0);
	FUZZ_CHECK(out.bytes == len && out.extra_bytes == 0 && out.granularity_bits == in->granularity_bits);
	FUZZ_CHECK(out.table_offset == in->table_offset && out.table_entries == in->table_entries);
	FUZZ_CHECK(out.name_len == in->name_len && memcmp(out.name, in->name, in->name_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct geometry g;
	struct bitmap_entry entry;
	struct error e = {.msg = ""};
	size_t at = 1;

	if (len < 1)
		return 0;
	geometry_init(&g, 9 + data[0] % 13, 4, false);
	while (at < len) {
		if (bitmap_entry_decode(&g, data + at, len - at, &entry, &e)) {
			fuzz_check_error(&e);
			return 0;
		}
		FUZZ_CHECK(entry.bytes % 8 == 0 && entry.bytes >= 24 && entry.bytes <= len - at);
		FUZZ_CHECK(entry.name + entry.name_len <= (const char *)data + len);
		FUZZ_CHECK((uint64_t)entry.table_entries << g.cluster_bits <= 512 << 20);
		check_round_trip(&g, &entry);
		at += entry.bytes;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: L1 entries, L2 entries, bitmap table entries, refcounts (FORMAT.md §5, §7.3, §9.3). The first four bytes choose the
 * geometry, the rest is a table.
 */
#include "qcow2/format.h"
#include "tests/fuzz/fuzz.h"

static void check_compressed(const struct geometry *g, const struct l2_entry *entry)
{
	uint64_t raw = l2_compressed_encode(g, entry->host, entry->csize);
	struct l2_entry back;
	struct error e;

	FUZZ_CHECK(entry->csize >= 1 && entry->csize <= 2 * g->cluster_size);
	FUZZ_CHECK(entry->alloc == 0 && entry->zero == 0);
	FUZZ_CHECK(l2_entry_decode(g, 3, false, raw, 0, &back, &e) == 0);
	FUZZ_CHECK(back.host == entry->host && back.csize == entry->csize);
}

static void check_l2(const struct geometry *g, unsigned version, bool has_data_file, const uint8_t *at)
{
	uint64_t bitmap = g->subclusters > 1 ? get_be64(at + 8) : 0;
	struct l2_entry entry;
	struct error e = {.msg = ""};

	if (l2_entry_decode(g, version, has_data_file, get_be64(at), bitmap, &entry, &e)) {
		fuzz_check_error(&e);
		return;
	}
	FUZZ_CHECK(entry.host < 1ull << 56);
	if (entry.type == CLUSTER_COMPRESSED) {
		FUZZ_CHECK(!has_data_file);
		check_compressed(g, &entry);
		return;
	}
	FUZZ_CHECK(geometry_in_cluster(g, entry.host) == 0);
	FUZZ_CHECK((entry.alloc & entry.zero) == 0);
	FUZZ_CHECK(entry.type == CLUSTER_NORMAL || entry.alloc == 0);
	FUZZ_CHECK(entry.host != 0 || has_data_file || entry.type != CLUSTER_NORMAL);
}

static void check_refcounts(const uint8_t *table, size_t len, unsigned order)
{
	uint8_t byte8[8];

	if (len < sizeof byte8)
		return;
	memcpy(byte8, table, sizeof byte8);
	for (uint64_t i = 0; i < 64u >> order; i++) {
		uint64_t value = refcount_get(table, order, i);

		FUZZ_CHECK(value <= refcount_max(order));
		refcount_put(byte8, order, i, ~value & refcount_max(order));
		FUZZ_CHECK((refcount_get(byte8, order, i) ^ value) == refcount_max(order));
		refcount_put(byte8, order, i, value);
	}
	FUZZ_CHECK(memcmp(byte8, table, sizeof byte8) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct geometry g;
	struct error e = {.msg = ""};
	uint64_t host;
	bool ones, extended;
	uint32_t cluster_bits;

	if (len < 4)
		return 0;
	cluster_bits = 9 + data[0] % 13;
	extended = (data[1] & 1) && cluster_bits >= 14;
	geometry_init(&g, cluster_bits, data[3] % 7, extended);
	check_refcounts(data + 4, len - 4, g.refcount_order);
	for (size_t at = 4; len - at >= 16; at += g.l2_entry_bytes) {
		check_l2(&g, data[1] & 2 && !extended ? 2 : 3, data[2] & 1, data + at);
		if (l1_entry_decode(&g, get_be64(data + at), &host, &e) == 0)
			FUZZ_CHECK(geometry_in_cluster(&g, host) == 0 && host < 1ull << 56);
		if (bitmap_table_entry_decode(&g, get_be64(data + at), &host, &ones, &e) == 0)
			FUZZ_CHECK(geometry_in_cluster(&g, host) == 0 && (host == 0 || !ones));
	}
	return 0;
}

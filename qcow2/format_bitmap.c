/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of the bitmap directory and of bitmap tables, FORMAT.md §9.2 and §9.3. An entry must lie wholly, padding included, in the
 * directory. Unknown flags and types are refused: they might change what the bits mean.
 */
#include "qcow2/format.h"

enum {
	AT_TABLE_OFFSET = 0,
	AT_TABLE_ENTRIES = 8,
	AT_FLAGS = 12,
	AT_TYPE = 16,
	AT_GRANULARITY = 17,
	AT_NAME_LEN = 18,
	AT_EXTRA_BYTES = 20,
	KNOWN_FLAGS = BITMAP_IN_USE | BITMAP_AUTO | BITMAP_EXTRA_COMPATIBLE,
	DIRTY_TRACKING = 1,
};

/* Offset bits; the rest but bit 0 is reserved and must be 0. */
#define TABLE_RESERVED 0xff000000000001feull

static int check_table(const struct geometry *g, const struct bitmap_entry *b, struct error *e)
{
	if (b->table_entries == 0 || b->table_offset == 0 || geometry_in_cluster(g, b->table_offset) != 0)
		return err_set(e, ERR_CORRUPT, "bitmap: bad table of %u entries at 0x%llx", b->table_entries,
			(unsigned long long)b->table_offset);
	if (b->table_entries > QCOW2_MAX_BITMAP_TABLE_ENTRIES ||
		(uint64_t)b->table_entries << g->cluster_bits > QCOW2_MAX_BITMAP_BYTES)
		return err_set(e, ERR_LIMIT, "bitmap: table of %u entries is too large", b->table_entries);
	if (b->table_offset > INT64_MAX - b->table_entries * UINT64_C(8))
		return err_set(e, ERR_CORRUPT, "bitmap: table at 0x%llx ends beyond 2^63",
			(unsigned long long)b->table_offset);
	return 0;
}

static int check_kind(const struct bitmap_entry *b, struct error *e)
{
	if (b->flags & ~(uint32_t)KNOWN_FLAGS)
		return err_set(e, ERR_UNSUPPORTED, "bitmap: unknown flags 0x%x", b->flags);
	if (b->type != DIRTY_TRACKING)
		return err_set(e, ERR_UNSUPPORTED, "bitmap: unknown type %u", b->type);
	if (b->granularity_bits < QCOW2_MIN_GRANULARITY_BITS || b->granularity_bits > QCOW2_MAX_GRANULARITY_BITS)
		return err_set(e, ERR_CORRUPT, "bitmap: granularity_bits %u not in %d..%d", b->granularity_bits,
			QCOW2_MIN_GRANULARITY_BITS, QCOW2_MAX_GRANULARITY_BITS);
	if (b->name_len == 0 || b->name_len > QCOW2_MAX_BITMAP_NAME)
		return err_set(e, ERR_CORRUPT, "bitmap: name of %u bytes, not 1..%d", b->name_len,
			QCOW2_MAX_BITMAP_NAME);
	if (b->extra_bytes != 0 && !(b->flags & BITMAP_EXTRA_COMPATIBLE))
		return err_set(e, ERR_UNSUPPORTED, "bitmap: %u bytes of unknown extra data", b->extra_bytes);
	return 0;
}

int bitmap_entry_decode(const struct geometry *g, const uint8_t *buf, size_t len, struct bitmap_entry *out,
	struct error *e)
{
	uint64_t name_at, padded;

	if (len < QCOW2_BITMAP_ENTRY_BYTES)
		return err_set(e, ERR_CORRUPT, "bitmap: the directory ends after %zu bytes of an entry", len);
	*out = (struct bitmap_entry){
		.table_offset = get_be64(buf + AT_TABLE_OFFSET),
		.table_entries = get_be32(buf + AT_TABLE_ENTRIES),
		.flags = get_be32(buf + AT_FLAGS),
		.type = buf[AT_TYPE],
		.granularity_bits = buf[AT_GRANULARITY],
		.name_len = get_be16(buf + AT_NAME_LEN),
		.extra_bytes = get_be32(buf + AT_EXTRA_BYTES),
	};
	name_at = QCOW2_BITMAP_ENTRY_BYTES + (uint64_t)out->extra_bytes;
	padded = align_up(name_at + out->name_len, 8);
	if (padded > len)
		return err_set(e, ERR_CORRUPT, "bitmap: entry of %llu bytes, the directory has only %zu left",
			(unsigned long long)padded, len);
	out->name = (const char *)buf + name_at;
	out->bytes = padded;
	if (check_kind(out, e))
		return -1;
	return check_table(g, out, e);
}

size_t bitmap_entry_encode(const struct bitmap_entry *b, uint8_t *buf, size_t cap)
{
	size_t end = QCOW2_BITMAP_ENTRY_BYTES + (size_t)b->name_len;
	size_t bytes = align_up(end, 8);

	if (cap < bytes)
		return 0;
	put_be64(buf + AT_TABLE_OFFSET, b->table_offset);
	put_be32(buf + AT_TABLE_ENTRIES, b->table_entries);
	put_be32(buf + AT_FLAGS, b->flags & ~(uint32_t)BITMAP_EXTRA_COMPATIBLE);
	buf[AT_TYPE] = b->type;
	buf[AT_GRANULARITY] = b->granularity_bits;
	put_be16(buf + AT_NAME_LEN, b->name_len);
	put_be32(buf + AT_EXTRA_BYTES, 0);
	memcpy(buf + QCOW2_BITMAP_ENTRY_BYTES, b->name, b->name_len);
	memset(buf + end, 0, bytes - end);
	return bytes;
}

uint64_t bitmap_table_entries(const struct geometry *g, unsigned granularity_bits, uint64_t disk_size)
{
	uint64_t bits = div_round_up(disk_size, 1ull << granularity_bits);

	return geometry_clusters(g, div_round_up(bits, 8));
}

int bitmap_table_entry_decode(const struct geometry *g, uint64_t raw, uint64_t *host, bool *all_ones, struct error *e)
{
	*host = raw & ENTRY_OFFSET_MASK;
	*all_ones = raw & 1;
	if (raw & TABLE_RESERVED || (*host != 0 && *all_ones))
		return err_set(e, ERR_CORRUPT, "bitmap table entry 0x%016llx: reserved bits are set",
			(unsigned long long)raw);
	if (geometry_in_cluster(g, *host) != 0)
		return err_set(e, ERR_CORRUPT, "bitmap table entry 0x%016llx: not cluster-aligned",
			(unsigned long long)raw);
	return 0;
}

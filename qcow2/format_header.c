/* SPDX-License-Identifier: Apache-2.0
 *
 * The fixed header, FORMAT.md §3. Decoding validates all that can be judged from these bytes alone (§3.7, §14), so that every
 * later product of header fields fits into 64 bits. What is merely not supported (encryption, unknown feature bits) passes.
 */
#include "qcow2/format.h"

/* FORMAT.md §3.1, §3.2: where each field is. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_BACKING_OFFSET = 8,
	AT_BACKING_LEN = 16,
	AT_CLUSTER_BITS = 20,
	AT_SIZE = 24,
	AT_CRYPT_METHOD = 32,
	AT_L1_ENTRIES = 36,
	AT_L1_OFFSET = 40,
	AT_REFTABLE_OFFSET = 48,
	AT_REFTABLE_CLUSTERS = 56,
	AT_SNAPSHOT_COUNT = 60,
	AT_SNAPSHOTS_OFFSET = 64,
	AT_INCOMPATIBLE = 72,
	AT_COMPATIBLE = 80,
	AT_AUTOCLEAR = 88,
	AT_REFCOUNT_ORDER = 96,
	AT_HEADER_LENGTH = 100,
	AT_COMPRESSION_TYPE = 104,
};

enum { MIN_V3_BYTES = 104, V2_REFCOUNT_ORDER = 4, MIN_EXTENDED_L2_CLUSTER_BITS = 14, SECTOR = 512 };

static void decode_fields_v2(const uint8_t *buf, struct header *h)
{
	*h = (struct header){
		.version = get_be32(buf + AT_VERSION),
		.backing_offset = get_be64(buf + AT_BACKING_OFFSET),
		.backing_len = get_be32(buf + AT_BACKING_LEN),
		.cluster_bits = get_be32(buf + AT_CLUSTER_BITS),
		.size = get_be64(buf + AT_SIZE),
		.crypt_method = get_be32(buf + AT_CRYPT_METHOD),
		.l1_entries = get_be32(buf + AT_L1_ENTRIES),
		.l1_offset = get_be64(buf + AT_L1_OFFSET),
		.reftable_offset = get_be64(buf + AT_REFTABLE_OFFSET),
		.reftable_clusters = get_be32(buf + AT_REFTABLE_CLUSTERS),
		.snapshot_count = get_be32(buf + AT_SNAPSHOT_COUNT),
		.snapshots_offset = get_be64(buf + AT_SNAPSHOTS_OFFSET),
		.refcount_order = V2_REFCOUNT_ORDER,
		.header_length = QCOW2_HEADER_V2_BYTES,
	};
}

static int decode_fields_v3(const uint8_t *buf, size_t len, struct header *h, struct error *e)
{
	if (len < MIN_V3_BYTES)
		return err_set(e, ERR_CORRUPT, "header: file ends after %zu of %d bytes", len, MIN_V3_BYTES);
	h->incompatible = get_be64(buf + AT_INCOMPATIBLE);
	h->compatible = get_be64(buf + AT_COMPATIBLE);
	h->autoclear = get_be64(buf + AT_AUTOCLEAR);
	h->refcount_order = get_be32(buf + AT_REFCOUNT_ORDER);
	h->header_length = get_be32(buf + AT_HEADER_LENGTH);
	if (h->header_length < MIN_V3_BYTES || h->header_length % 8 != 0)
		return err_set(e, ERR_CORRUPT, "header: header_length %u is not a multiple of 8 from %d on",
			h->header_length, MIN_V3_BYTES);
	if (h->header_length > MIN_V3_BYTES) {
		if (len < QCOW2_HEADER_V3_BYTES)
			return err_set(e, ERR_CORRUPT, "header: file ends after %zu bytes, header_length is %u", len,
				h->header_length);
		h->compression_type = buf[AT_COMPRESSION_TYPE];
	}
	return 0;
}

/* The field kinds and their combinations, FORMAT.md §3.7. */
static int check_features(const struct header *h, struct error *e)
{
	bool has_bit = h->incompatible & INCOMPAT_COMPRESSION;

	if (h->refcount_order > 6)
		return err_set(e, ERR_CORRUPT, "header: refcount_order %u not in 0..6", h->refcount_order);
	if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
		return err_set(e, ERR_UNSUPPORTED, "header: compression type %u is unknown", h->compression_type);
	if (has_bit != (h->compression_type != QCOW2_COMPRESSION_DEFLATE))
		return err_set(e, ERR_CORRUPT, "header: compression type is %u, but incompatible feature bit 3 is %s",
			h->compression_type, has_bit ? "set" : "not set");
	if ((h->incompatible & INCOMPAT_EXTENDED_L2) && h->cluster_bits < MIN_EXTENDED_L2_CLUSTER_BITS)
		return err_set(e, ERR_CORRUPT, "header: extended L2 entries need cluster_bits of at least %d, not %u",
			MIN_EXTENDED_L2_CLUSTER_BITS, h->cluster_bits);
	return 0;
}

static int check_backing_name(const struct header *h, struct error *e)
{
	uint32_t cluster_size = 1u << h->cluster_bits;

	if (h->backing_offset == 0)
		return 0;
	if (h->backing_offset > cluster_size)
		return err_set(e, ERR_CORRUPT, "header: backing file name at 0x%llx is outside the first cluster",
			(unsigned long long)h->backing_offset);
	if (h->backing_len > QCOW2_MAX_BACKING_NAME || h->backing_len > cluster_size - h->backing_offset)
		return err_set(e, ERR_CORRUPT, "header: backing file name of %u bytes at 0x%llx is too long",
			h->backing_len, (unsigned long long)h->backing_offset);
	return 0;
}

/* A table must begin on a cluster and end within what a signed 64-bit file offset can name. */
static int check_range(const struct geometry *g, const char *what, uint64_t host, uint64_t bytes, struct error *e)
{
	if (geometry_in_cluster(g, host) != 0)
		return err_set(e, ERR_CORRUPT, "%s at 0x%llx: not cluster-aligned", what, (unsigned long long)host);
	if (host > INT64_MAX - bytes)
		return err_set(e, ERR_CORRUPT, "%s at 0x%llx: ends beyond 2^63", what, (unsigned long long)host);
	return 0;
}

int l1_table_check(const struct geometry *g, uint64_t host, uint32_t entries, uint64_t disk_size, struct error *e)
{
	uint64_t needed = geometry_l1_entries(g, disk_size);

	if (entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(e, ERR_LIMIT, "L1 table of %u entries is larger than %d bytes", entries,
			QCOW2_MAX_L1_BYTES);
	if (entries < needed)
		return err_set(e, ERR_CORRUPT, "L1 table of %u entries is too small, the size of %llu needs %llu",
			entries, (unsigned long long)disk_size, (unsigned long long)needed);
	return check_range(g, "L1 table", host, entries * UINT64_C(8), e);
}

int header_check_reftable(const struct header *h, struct error *e)
{
	struct geometry g;

	header_geometry(h, &g);
	if (h->reftable_clusters == 0)
		return err_set(e, ERR_CORRUPT, "header: no refcount table");
	if (h->reftable_clusters > (uint32_t)QCOW2_MAX_REFTABLE_BYTES >> h->cluster_bits)
		return err_set(e, ERR_LIMIT, "header: refcount table of %u clusters is larger than %d bytes",
			h->reftable_clusters, QCOW2_MAX_REFTABLE_BYTES);
	return check_range(&g, "refcount table", h->reftable_offset, (uint64_t)h->reftable_clusters << h->cluster_bits,
		e);
}

int header_check_snapshot_count(const struct header *h, struct error *e)
{
	if (h->snapshot_count > QCOW2_MAX_SNAPSHOTS)
		return err_set(e, ERR_LIMIT, "header: %u snapshots are more than %d", h->snapshot_count,
			QCOW2_MAX_SNAPSHOTS);
	return 0;
}

static int check_tables(const struct header *h, bool damaged, struct error *e)
{
	struct geometry g;

	header_geometry(h, &g);
	if (!damaged && (header_check_reftable(h, e) || header_check_snapshot_count(h, e)))
		return -1;
	if (check_range(&g, "snapshot table", h->snapshots_offset,
		    (uint64_t)h->snapshot_count * QCOW2_SNAPSHOT_ENTRY_BYTES, e))
		return -1;
	return l1_table_check(&g, h->l1_offset, h->l1_entries, h->size, e);
}

static int decode(const uint8_t *buf, size_t len, bool damaged, struct header *h, struct error *e)
{
	if (len < 4 || get_be32(buf + AT_MAGIC) != QCOW2_MAGIC)
		return err_set(e, ERR_CORRUPT, "not a qcow2 image: wrong magic number");
	if (len < QCOW2_HEADER_V2_BYTES)
		return err_set(e, ERR_CORRUPT, "header: file ends after %zu of %d bytes", len, QCOW2_HEADER_V2_BYTES);
	decode_fields_v2(buf, h);
	if (h->version != 2 && h->version != 3)
		return err_set(e, ERR_UNSUPPORTED, "header: qcow2 version %u is not supported", h->version);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(e, ERR_CORRUPT, "header: cluster_bits %u not in %d..%d", h->cluster_bits,
			QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
	if (h->version == 3 && decode_fields_v3(buf, len, h, e))
		return -1;
	if (h->header_length > 1u << h->cluster_bits)
		return err_set(e, ERR_CORRUPT, "header: header_length %u is more than a cluster", h->header_length);
	if (check_features(h, e) || check_backing_name(h, e))
		return -1;
	if (check_tables(h, damaged, e))
		return -1;
	h->size = align_down(h->size, SECTOR);
	return 0;
}

int header_decode(const uint8_t *buf, size_t len, struct header *h, struct error *e)
{
	return decode(buf, len, false, h, e);
}

int header_decode_damaged(const uint8_t *buf, size_t len, struct header *h, struct error *e)
{
	return decode(buf, len, true, h, e);
}

size_t header_encode(const struct header *h, uint8_t *buf)
{
	put_be32(buf + AT_MAGIC, QCOW2_MAGIC);
	put_be32(buf + AT_VERSION, h->version);
	put_be64(buf + AT_BACKING_OFFSET, h->backing_offset);
	put_be32(buf + AT_BACKING_LEN, h->backing_len);
	put_be32(buf + AT_CLUSTER_BITS, h->cluster_bits);
	put_be64(buf + AT_SIZE, h->size);
	put_be32(buf + AT_CRYPT_METHOD, h->crypt_method);
	put_be32(buf + AT_L1_ENTRIES, h->l1_entries);
	put_be64(buf + AT_L1_OFFSET, h->l1_offset);
	put_be64(buf + AT_REFTABLE_OFFSET, h->reftable_offset);
	put_be32(buf + AT_REFTABLE_CLUSTERS, h->reftable_clusters);
	put_be32(buf + AT_SNAPSHOT_COUNT, h->snapshot_count);
	put_be64(buf + AT_SNAPSHOTS_OFFSET, h->snapshots_offset);
	if (h->version == 2)
		return QCOW2_HEADER_V2_BYTES;
	put_be64(buf + AT_INCOMPATIBLE, h->incompatible);
	put_be64(buf + AT_COMPATIBLE, h->compatible);
	put_be64(buf + AT_AUTOCLEAR, h->autoclear);
	put_be32(buf + AT_REFCOUNT_ORDER, h->refcount_order);
	put_be32(buf + AT_HEADER_LENGTH, h->header_length);
	if (h->header_length == MIN_V3_BYTES)
		return MIN_V3_BYTES;
	memset(buf + AT_COMPRESSION_TYPE, 0, 8);
	buf[AT_COMPRESSION_TYPE] = h->compression_type;
	return QCOW2_HEADER_V3_BYTES;
}

size_t header_patch(uint8_t *bytes, const struct header *from, const struct header *to, size_t *first, size_t *end)
{
	uint8_t old[QCOW2_HEADER_V3_BYTES] = {0}, new[QCOW2_HEADER_V3_BYTES] = {0};
	size_t len;

	header_encode(from, old);
	len = header_encode(to, new);
	*first = *end = 0;
	for (size_t i = 0; i < len; i++) {
		if (old[i] == new[i])
			continue;
		bytes[i] = new[i];
		*first = *end ? *first : i;
		*end = i + 1;
	}
	return len;
}

void header_geometry(const struct header *h, struct geometry *g)
{
	geometry_init(g, h->cluster_bits, h->refcount_order, h->incompatible & INCOMPAT_EXTENDED_L2);
}

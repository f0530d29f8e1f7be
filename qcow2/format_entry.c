/* SPDX-License-Identifier: Apache-2.0
 *
 * L1 and L2 entries, FORMAT.md §5.2 to §5.5. Reserved bits are ignored, as QEMU does when it reads; what would lead to a wrong
 * place in the file or to two meanings at once is corrupt. Whether an offset lies inside the file is the engine's question.
 */
#include "qcow2/format.h"

#define HOST_LIMIT (1ull << 56)

enum { SECTOR = 512 };

/* FORMAT.md §5.4 */
static int decode_compressed(const struct geometry *g, bool has_data_file, uint64_t raw, struct l2_entry *out,
	struct error *e)
{
	uint64_t sectors = ((raw & ~(ENTRY_COPIED | ENTRY_COMPRESSED)) >> g->csize_shift) + 1;

	out->type = CLUSTER_COMPRESSED;
	out->host = raw & ((1ull << g->csize_shift) - 1);
	out->csize = (uint32_t)(sectors * SECTOR - out->host % SECTOR);
	if (has_data_file)
		return err_set(e, ERR_CORRUPT,
			"L2 entry 0x%016llx: compressed cluster in an image with an external data file",
			(unsigned long long)raw);
	if (out->host >= HOST_LIMIT)
		return err_set(e, ERR_CORRUPT, "L2 entry 0x%016llx: compressed cluster beyond 2^56",
			(unsigned long long)raw);
	return 0;
}

/* FORMAT.md §5.5 */
static int decode_extended(uint64_t raw, uint64_t bitmap, bool has_host, struct l2_entry *out, struct error *e)
{
	out->type = has_host ? CLUSTER_NORMAL : CLUSTER_UNALLOCATED;
	out->alloc = (uint32_t)bitmap;
	out->zero = (uint32_t)(bitmap >> 32);
	if (out->alloc & out->zero)
		return err_set(e, ERR_CORRUPT,
			"L2 entry 0x%016llx: subcluster bitmap 0x%016llx says data and zero at once",
			(unsigned long long)raw, (unsigned long long)bitmap);
	if (out->alloc && !has_host)
		return err_set(e, ERR_CORRUPT,
			"L2 entry 0x%016llx: subcluster bitmap 0x%016llx has data but no host cluster",
			(unsigned long long)raw, (unsigned long long)bitmap);
	return 0;
}

/* FORMAT.md §5.3 */
static int decode_standard(unsigned version, uint64_t raw, bool has_host, struct l2_entry *out, struct error *e)
{
	if (raw & ENTRY_ZERO) {
		out->type = out->host ? CLUSTER_ZERO_ALLOC : CLUSTER_ZERO_PLAIN;
		out->zero = 1;
		if (version < 3)
			return err_set(e, ERR_CORRUPT, "L2 entry 0x%016llx: zero flag in a version 2 image",
				(unsigned long long)raw);
		return 0;
	}
	out->type = has_host ? CLUSTER_NORMAL : CLUSTER_UNALLOCATED;
	out->alloc = has_host;
	return 0;
}

int l2_entry_decode(const struct geometry *g, unsigned version, bool has_data_file, uint64_t raw, uint64_t bitmap,
	struct l2_entry *out, struct error *e)
{
	bool has_host;

	*out = (struct l2_entry){.copied = raw & ENTRY_COPIED};
	if (raw & ENTRY_COMPRESSED)
		return decode_compressed(g, has_data_file, raw, out, e);
	out->host = raw & ENTRY_OFFSET_MASK;
	if (geometry_in_cluster(g, out->host) != 0)
		return err_set(e, ERR_CORRUPT, "L2 entry 0x%016llx: cluster at 0x%llx is not cluster-aligned",
			(unsigned long long)raw, (unsigned long long)out->host);
	/* Host cluster 0 holds the header, so 0 is free to mean "none"; a data file has no header. */
	has_host = out->host != 0 || (has_data_file && out->copied);
	if (g->subclusters > 1)
		return decode_extended(raw, bitmap, has_host, out, e);
	return decode_standard(version, raw, has_host, out, e);
}

uint64_t l2_compressed_encode(const struct geometry *g, uint64_t host, uint64_t len)
{
	uint64_t sectors = (host + len - 1) / SECTOR - host / SECTOR;

	return ENTRY_COMPRESSED | sectors << g->csize_shift | host;
}

int l1_entry_decode(const struct geometry *g, uint64_t raw, uint64_t *l2_offset, struct error *e)
{
	*l2_offset = raw & ENTRY_OFFSET_MASK;
	if (geometry_in_cluster(g, *l2_offset) != 0)
		return err_set(e, ERR_CORRUPT, "L1 entry 0x%016llx: L2 table at 0x%llx is not cluster-aligned",
			(unsigned long long)raw, (unsigned long long)*l2_offset);
	return 0;
}

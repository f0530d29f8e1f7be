/* SPDX-License-Identifier: Apache-2.0
 *
 * All index arithmetic of qcow2 in one place (FORMAT.md §5.1, §7): which entry of which table a guest or host offset falls
 * into. No I/O, no allocation; values come from a header that header_decode accepted.
 */
#ifndef QSNAP_QCOW2_GEOMETRY_H
#define QSNAP_QCOW2_GEOMETRY_H

#include "base/base.h"

struct geometry {
	uint32_t cluster_bits;    /* 9..21 */
	uint32_t cluster_size;    /* 1 << cluster_bits */
	uint32_t l2_entry_bytes;  /* 8, or 16 with extended L2 */
	uint32_t l2_bits;         /* log2 of the entries in one L2 table */
	uint32_t refcount_order;  /* 0..6: counts are 1 << order bits wide */
	uint32_t refblock_bits;   /* log2 of the counts in one refcount block */
	uint32_t subclusters;     /* per cluster: 1, or 32 with extended L2 */
	uint32_t subcluster_bits; /* log2 of a subcluster's size */
	uint32_t csize_shift;     /* where the sector count of a compressed descriptor begins (FORMAT.md §5.4) */
};

static inline void geometry_init(struct geometry *g, uint32_t cluster_bits, uint32_t refcount_order, bool extended_l2)
{
	g->cluster_bits = cluster_bits;
	g->cluster_size = 1u << cluster_bits;
	g->l2_entry_bytes = extended_l2 ? 16 : 8;
	g->l2_bits = cluster_bits - (extended_l2 ? 4 : 3);
	g->refcount_order = refcount_order;
	g->refblock_bits = cluster_bits + 3 - refcount_order;
	g->subclusters = extended_l2 ? 32 : 1;
	g->subcluster_bits = cluster_bits - (extended_l2 ? 5 : 0);
	g->csize_shift = 62 - (cluster_bits - 8);
}
static inline uint64_t geometry_in_cluster(const struct geometry *g, uint64_t offset)
{
	return offset & (g->cluster_size - 1);
}
static inline uint64_t geometry_cluster_start(const struct geometry *g, uint64_t offset)
{
	return offset & ~(uint64_t)(g->cluster_size - 1);
}
/* Clusters that `bytes` bytes take. */
static inline uint64_t geometry_clusters(const struct geometry *g, uint64_t bytes)
{
	return (bytes >> g->cluster_bits) + (geometry_in_cluster(g, bytes) != 0);
}
static inline uint64_t geometry_l1_index(const struct geometry *g, uint64_t guest)
{
	return guest >> (g->cluster_bits + g->l2_bits);
}
static inline uint32_t geometry_l2_index(const struct geometry *g, uint64_t guest)
{
	return (uint32_t)(guest >> g->cluster_bits) & ((1u << g->l2_bits) - 1);
}
/* Guest bytes that one L2 table maps. */
static inline uint64_t geometry_l2_span(const struct geometry *g)
{
	return 1ull << (g->cluster_bits + g->l2_bits);
}
/* L1 entries that a disk of `bytes` bytes needs. */
static inline uint64_t geometry_l1_entries(const struct geometry *g, uint64_t bytes)
{
	return (bytes >> (g->cluster_bits + g->l2_bits)) + ((bytes & (geometry_l2_span(g) - 1)) != 0);
}
/* Which refcount block counts the host cluster, and where in it. */
static inline uint64_t geometry_reftable_index(const struct geometry *g, uint64_t host)
{
	return host >> (g->cluster_bits + g->refblock_bits);
}
static inline uint64_t geometry_refblock_index(const struct geometry *g, uint64_t host)
{
	return (host >> g->cluster_bits) & ((1ull << g->refblock_bits) - 1);
}

#endif

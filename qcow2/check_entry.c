/* SPDX-License-Identifier: Apache-2.0
 *
 * What one L2 table says, as events for check (FORMAT.md §5.3 to §5.5, §12.3). Nearly all entries are 0 or one of a run of
 * neighbouring clusters, so these two are quick. Everything else is looked at entry by entry; no entry is refused, since a
 * check has to go on where a reader would stop.
 */
#include "qcow2/check_internal.h"

#define L2_ALLOC_BITMAP 0xffffffffull
#define COPIED_AND_OFFSET (ENTRY_COPIED | ENTRY_OFFSET_MASK)

struct scan {
	struct check_job *j;
	const struct geometry *g;
	const uint8_t *table;
	uint64_t next; /* where the next cluster is expected if nothing is fragmented; 0: no expectation */
};

static uint64_t entry_at(const struct geometry *g, const uint8_t *table, uint32_t i)
{
	return get_be64(table + (size_t)i * g->l2_entry_bytes);
}

static uint64_t bitmap_at(const struct geometry *g, const uint8_t *table, uint32_t i)
{
	return g->subclusters > 1 ? get_be64(table + (size_t)i * g->l2_entry_bytes + 8) : 0;
}

static bool bitmap_is_bad(uint64_t bitmap)
{
	return (bitmap >> 32 & bitmap) != 0;
}

uint32_t check_run_length(const struct geometry *g, const uint8_t *table, uint32_t i)
{
	const uint32_t entries = 1u << g->l2_bits;
	uint64_t want = entry_at(g, table, i);
	/* An address must not run over into the flags. */
	uint64_t most = (ENTRY_OFFSET_MASK - (want & ENTRY_OFFSET_MASK)) >> g->cluster_bits;
	uint32_t end = (uint32_t)min_u64(entries, i + most + 1);
	uint32_t k = i + 1;
	if (g->subclusters > 1) {
		while (k < end && entry_at(g, table, k) == (want += g->cluster_size) &&
			!bitmap_is_bad(bitmap_at(g, table, k)))
			k++;
		return k - i;
	}
	for (want += g->cluster_size; k < end && get_be64(table + (size_t)k * 8) == want; k++)
		want += g->cluster_size;
	return k - i;
}

uint32_t check_skip_zeros(const struct geometry *g, const uint8_t *table, uint32_t i)
{
	const uint32_t entries = 1u << g->l2_bits;
	enum { STEP = 64 };
	if (i == entries || entry_at(g, table, i) != 0)
		return i;
	while (i + STEP <= entries &&
		mem_is_zero(table + (size_t)i * g->l2_entry_bytes, (size_t)STEP * g->l2_entry_bytes))
		i += STEP;
	while (i < entries && entry_at(g, table, i) == 0 && bitmap_at(g, table, i) == 0)
		i++;
	return i;
}

static void count_run(struct scan *s, uint64_t host, uint32_t n)
{
	s->j->allocated += n;
	s->j->fragmented += s->next && s->next != host;
	s->next = host + ((uint64_t)n << s->g->cluster_bits);
}

static int scan_compressed(struct scan *s, uint32_t i, uint64_t raw, uint64_t bitmap, struct error *e)
{
	struct check_job *j = s->j;
	const uint64_t host = raw & ((1ull << s->g->csize_shift) - 1);
	if (raw & ENTRY_COPIED && job_note(j, FOUND_COMPRESSED_COPIED, host, 0, i, e) < 0)
		return -1;
	raw &= ~ENTRY_COPIED;
	if (j->check->data_file)
		return job_note(j, FOUND_COMPRESSED_DATA_FILE, i, raw, i, e);
	if (bitmap && job_note(j, FOUND_COMPRESSED_BITMAP, i, raw, i, e) < 0)
		return -1;
	/* It counts as nothing, as in QEMU. But it can be read, so a repair must not free its clusters. */
	if (bitmap && !j->check->repair)
		return 0;
	j->allocated++;
	j->compressed++;
	j->fragmented++; /* by nature */
	uint64_t sectors = ((raw & ~ENTRY_COMPRESSED) >> s->g->csize_shift) + 1;
	return job_note(j, EVENT_COMPRESSED, host, sectors * 512 - host % 512, i, e);
}

/* An entry with a host cluster. */
static int scan_cluster(struct scan *s, uint32_t i, uint64_t raw, uint64_t bitmap, struct error *e)
{
	struct check_job *j = s->j;
	const uint64_t host = raw & ENTRY_OFFSET_MASK;
	if (!(raw & ENTRY_COPIED))
		j->not_copied = true;
	if (bitmap_is_bad(bitmap) && job_note(j, FOUND_BITMAP_BOTH, host, 0, i, e) < 0)
		return -1;
	if (geometry_in_cluster(s->g, host)) {
		bool data = s->g->subclusters > 1 ? (bitmap & L2_ALLOC_BITMAP) != 0 : !(raw & ENTRY_ZERO);
		enum finding_code code = data ? FOUND_DATA_UNALIGNED : FOUND_PREALLOCATED_UNALIGNED;
		if (job_note(j, code, host, 0, i, e) < 0)
			return -1;
		if (!data && repair_is(j->check, REPAIR_ALL))
			return 0; /* given up by the repair */
	}
	count_run(s, host, 1);
	return j->check->data_file ? 0 : job_note(j, EVENT_CLUSTERS, host, 1, i, e);
}

/* Any entry that is not part of a run. */
static int scan_entry(struct scan *s, uint32_t i, uint64_t raw, struct error *e)
{
	const uint64_t bitmap = bitmap_at(s->g, s->table, i);
	const bool zero = raw & ENTRY_ZERO && s->g->subclusters == 1;
	if (raw & ENTRY_COMPRESSED)
		return scan_compressed(s, i, raw, bitmap, e);
	if (raw & ENTRY_L2_RESERVED && job_note(s->j, FOUND_L2_RESERVED, raw, 0, i, e) < 0)
		return -1;
	/* In a data file offset 0 is a place like any other, if COPIED is set. */
	if (raw & ENTRY_OFFSET_MASK || (s->j->check->data_file && raw & ENTRY_COPIED && !zero))
		return scan_cluster(s, i, raw, bitmap, e);
	if (!zero && bitmap & L2_ALLOC_BITMAP)
		return job_note(s->j, FOUND_BITMAP_UNALLOCATED, 0, 0, i, e);
	return 0;
}

/* The run of sound clusters that begins at entry `i`; returns its end, 0 on failure. */
static uint32_t scan_run(struct scan *s, uint32_t i, uint64_t raw, struct error *e)
{
	const uint64_t host = raw & ENTRY_OFFSET_MASK;
	uint32_t n = check_run_length(s->g, s->table, i);
	if (!(raw & ENTRY_COPIED))
		s->j->not_copied = true;
	count_run(s, host, n);
	if (!s->j->check->data_file && job_note(s->j, EVENT_CLUSTERS, host, n, i, e) < 0)
		return 0;
	return i + n;
}

int check_scan_table(struct check_job *j, const uint8_t *table, struct error *e)
{
	struct scan s = {.j = j, .g = j->check->g, .table = table};
	const uint32_t entries = 1u << s.g->l2_bits;
	/* With the ZERO bit or without: a cluster that is kept for zeros counts as one in use. */
	const uint64_t odd = ~(COPIED_AND_OFFSET | ENTRY_ZERO) | (s.g->cluster_size - 1 - ENTRY_ZERO);
	for (uint32_t i = check_skip_zeros(s.g, table, 0); i < entries; i = check_skip_zeros(s.g, table, i)) {
		const uint64_t raw = entry_at(s.g, table, i);
		if (!(raw & odd) && raw & ENTRY_OFFSET_MASK && !bitmap_is_bad(bitmap_at(s.g, table, i)))
			i = scan_run(&s, i, raw, e);
		else
			i = scan_entry(&s, i, raw, e) < 0 ? 0 : i + 1;
		if (i == 0)
			return -1;
	}
	return 0;
}

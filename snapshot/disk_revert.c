/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk's file before and after it goes back to a snapshot: trying whether it can be, and telling afterwards whether it
 * was done, and whether somebody has written since.
 */
#include "snapshot/internal.h"

enum { L1_WINDOW = 1024 }; /* entries */

/* What the engine would refuse is known before a guest is ended for it. */
int disk_snapshot_try(const char *path, const char *name, struct error *e)
{
	const struct snapshot_query q = {.name = name, .refuse_ambiguous = true};
	const struct chain_opts opts = {
		.format = IMAGE_QCOW2, .no_backing = true, .inspect = true, .lock = IO_LOCK_SHARED, .snapshot = &q};
	AUTO_CHAIN struct chain *c = NULL;
	struct walk *walk;
	int failed = 0;

	if (chain_open(&c, path, &opts, e) || walk_new(&walk, c, 1, 0, e))
		return -1;
	for (uint64_t at = 0; at < c->size && !failed;) {
		struct extent x;

		failed = walk_extent(walk, at, c->size, &x, e);
		at += failed ? 0 : x.len;
	}
	walk_free(walk);
	return failed ? -1 : 0;
}

/* `n` entries from `first` on without their flags, zeros behind the table's end. */
static int read_l1(const struct layer *l, const struct qcow2_state *s, uint64_t first, size_t n, uint64_t *out,
	struct error *e)
{
	size_t there = first < s->l1_entries ? (size_t)min_u64(n, s->l1_entries - first) : 0;

	memset(out, 0, n * sizeof *out);
	if (there && io_read_exact(l->file, out, there * 8, s->l1_offset + first * 8, "L1 table", e))
		return -1;
	for (size_t i = 0; i < there; i++)
		out[i] = get_be64(&out[i]) & ~ENTRY_COPIED;
	return 0;
}

/* Whoever writes to a state that shares its tables with a snapshot gets tables of its own first: one entry differs at least. */
static int same_state(const struct layer *l, uint32_t index, struct error *e)
{
	const struct qcow2 *q = l->q;
	uint64_t ours[L1_WINDOW], theirs[L1_WINDOW];
	struct qcow2_state active, of;

	qcow2_state_active(q, &active);
	if (qcow2_state_of_snapshot(q, index, &of, e))
		return -1;
	if ((active.size + 511) / 512 != (of.size + 511) / 512)
		return 0;
	const uint64_t entries = geometry_l1_entries(&q->g, of.size);

	for (uint64_t at = 0; at < entries; at += L1_WINDOW) {
		size_t n = (size_t)min_u64(L1_WINDOW, entries - at);

		if (read_l1(l, &active, at, n, ours, e) || read_l1(l, &of, at, n, theirs, e))
			return -1;
		if (memcmp(ours, theirs, n * sizeof *ours) != 0)
			return 0;
	}
	return 1;
}

int disk_is_at(const char *path, const char *name, const char *id, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;
	int rc = 0;

	if (disk_look(path, DRIVER_QCOW2, &c, e))
		return -1;
	const struct qcow2 *q = c->layers[0].q;

	for (uint32_t i = 0; i < q->snapshot_count && !rc; i++)
		if (strcmp(q->snapshots[i].name, name) == 0 && (!id || strcmp(q->snapshots[i].id, id) == 0))
			rc = same_state(&c->layers[0], i, e);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * How much of the file each internal snapshot keeps for itself (FORMAT.md §7.4, §8): a cluster whose refcount is as high as the
 * number of times that the snapshot's own tree refers to it is referred to from nowhere else.
 */
#include "qcow2/trees.h"

static int usage_of(struct trees *t, const struct qcow2_snapshot *s, struct snapshot_usage *out, struct error *e)
{
	const struct geometry *g = t->c.g;
	struct counts tree;
	if (l1_table_check(g, s->entry.l1_offset, s->entry.l1_entries, 0, e) < 0)
		return -1;
	const struct tree whole = {NULL, s->entry.l1_offset, s->entry.l1_entries, &tree};
	int rc = trees_collect(t, &whole, e);
	if (rc == 0)
		rc = trees_usage(t, &tree, out, e);
	counts_free(&tree);
	out->exclusive += geometry_clusters(g, (uint64_t)s->entry.l1_entries * 8) << g->cluster_bits;
	return rc;
}

int qcow2_snapshots_usage(struct layer *l, unsigned threads, struct snapshot_usage *out, struct error *e)
{
	struct trees t;
	if (l->q->h.incompatible & INCOMPAT_DIRTY)
		return err_set(e, ERR_UNSUPPORTED, "%s: its refcounts are dirty", l->path);
	int rc = trees_begin(&t, l, threads, NULL, e);
	for (uint32_t i = 0; rc == 0 && i < l->q->snapshot_count; i++)
		rc = usage_of(&t, &l->q->snapshots[i], &out[i], e);
	trees_end(&t);
	return rc;
}

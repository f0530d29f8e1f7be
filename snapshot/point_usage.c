/* SPDX-License-Identifier: Apache-2.0
 *
 * What a point takes in a disk's file. Counts of references are only true while nobody writes to the file.
 */
#include "snapshot/internal.h"

static int usage_of(struct layer *l, const struct vm_point *p, const struct vm_point_disk *d,
	struct snapshot_usage *out, struct error *e)
{
	AUTO_FREE struct snapshot_usage *all = NULL;
	int index = qcow2_snapshot_find(l->q, &(struct snapshot_query){.name = p->name, .id = d->id}, e);

	if (index < 0)
		return -1;
	all = mem_calloc(l->q->snapshot_count, sizeof *all, "snapshots", e);
	if (!all || qcow2_snapshots_usage(l, pool_cpu_count(), all, e) < 0)
		return -1;
	*out = all[index];
	return 0;
}

int vm_point_usage(struct vm *vm, const struct vm_point *p, unsigned disk, uint64_t most_bytes,
	struct snapshot_usage *out, struct error *e)
{
	const struct vm_point_disk *d = &p->disks[disk];
	AUTO_CHAIN struct chain *c = NULL;
	uint64_t tables = 0;

	if (vm_active(vm))
		return err_set(e, ERR_BUSY, "disk %s: the guest writes to it", d->target);
	if (disk_look(d->path, DRIVER_QCOW2, &c, e))
		return err_prefix(e, "disk %s", d->target);
	const struct qcow2 *q = c->layers[0].q;

	for (uint32_t i = 0; i < q->snapshot_count; i++)
		tables += q->snapshots[i].entry.l1_entries;
	if (tables > most_bytes >> q->g.cluster_bits)
		return err_set(e, ERR_LIMIT, "disk %s: %llu tables would have to be read", d->target,
			(unsigned long long)tables);
	return usage_of(&c->layers[0], p, d, out, e) ? err_prefix(e, "disk %s", d->target) : 0;
}

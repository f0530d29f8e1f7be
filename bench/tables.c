/* SPDX-License-Identifier: Apache-2.0
 *
 * What it takes to read the tables of two snapshots once, and nothing more: what bench/run measures `diff` against. Each L2 table
 * is one pread into the same buffer.
 */
#include "qcow2/qcow2.h"

static int read_tree(const struct qcow2 *q, const char *name, uint8_t *table, uint64_t *tables, struct error *e)
{
	struct snapshot_query query = {.any = name};
	struct qcow2_state s;
	int index = qcow2_snapshot_find(q, &query, e);
	if (index < 0 || qcow2_state_of_snapshot(q, (uint32_t)index, &s, e) < 0)
		return -1;
	AUTO_FREE uint8_t *l1 = mem_calloc(s.l1_entries, 8, "L1 table", e);
	if (!l1 || io_read_exact(q->file, l1, s.l1_entries * 8ull, s.l1_offset, "L1 table", e) < 0)
		return -1;
	for (uint32_t i = 0; i < s.l1_entries; i++) {
		uint64_t host;
		if (l1_entry_decode(&q->g, get_be64(l1 + 8ull * i), &host, e) < 0)
			return -1;
		if (host && io_read_exact(q->file, table, q->g.cluster_size, host, "L2 table", e) < 0)
			return -1;
		*tables += host != 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .lock = IO_LOCK_READ};
	struct error e;
	AUTO_CHAIN struct chain *c = NULL;
	uint64_t tables = 0;
	if (argc < 3) {
		fprintf(stderr, "usage: bench-tables IMAGE SNAPSHOT...\n");
		return 1;
	}
	int r = chain_open(&c, argv[1], &opts, &e);
	AUTO_FREE uint8_t *table = r == 0 ? mem_alloc_pages(2 << 20, "L2 table", &e) : NULL;
	for (int i = 2; table && r == 0 && i < argc; i++)
		r = read_tree(c->layers[0].q, argv[i], table, &tables, &e);
	if (r < 0 || !table) {
		fprintf(stderr, "bench-tables: %s\n", e.msg);
		return 1;
	}
	printf("%llu tables\n", (unsigned long long)tables);
	return 0;
}

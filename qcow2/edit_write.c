/* SPDX-License-Identifier: Apache-2.0
 *
 * Guest data written into an image (FORMAT.md §5, §12.4): into a cluster that is the active state's alone, or into new ones,
 * filled up with what the guest saw there.
 * order: refcount of the new cluster (memory), data (file), L2 entry (memory), the old cluster given up (at the commit).
 */
#include "qcow2/edit_internal.h"

enum { MAX_RUN_BYTES = 4 << 20 };

/* One write within one L2 table. */
struct writing {
	struct table *t;
	const uint8_t *buf;
	uint64_t guest, len;
};

static bool is_own(const struct edit *ed, const struct l2_entry *x)
{
	return x->copied && (x->type == CLUSTER_NORMAL || (x->type == CLUSTER_ZERO_ALLOC && !ed->has_data_file));
}

/* How far clusters go on that can be written in place, each behind the other. */
static int own_run(struct edit *ed, const struct writing *w, uint64_t host, uint64_t *len, struct error *e)
{
	uint64_t n = ed->g.cluster_size - geometry_in_cluster(&ed->g, w->guest);
	struct l2_entry x;

	while (n < w->len) {
		if (map_entry(ed, w->t, w->guest + n, &x, e))
			return -1;
		if (x.type != CLUSTER_NORMAL || !x.copied || x.host != host + n)
			break;
		n += ed->g.cluster_size;
	}
	*len = min_u64(n, w->len);
	return 0;
}

/* How many clusters from the first on need new ones; their old entries are dropped later, one by one. */
static int new_run(struct edit *ed, const struct writing *w, uint64_t *clusters, struct error *e)
{
	uint64_t start = geometry_cluster_start(&ed->g, w->guest);
	uint64_t limit = min_u64(w->guest + w->len, start + max_u64(MAX_RUN_BYTES, ed->g.cluster_size));
	struct l2_entry x;

	for (*clusters = 1; start + (*clusters << ed->g.cluster_bits) < limit; ++*clusters) {
		if (map_entry(ed, w->t, start + (*clusters << ed->g.cluster_bits), &x, e))
			return -1;
		if (is_own(ed, &x))
			break;
	}
	return 0;
}

/* A cluster of which only a part is written: the whole of it goes to `host`. */
static int write_mixed(struct edit *ed, const uint8_t *buf, uint64_t from, uint64_t to, uint64_t cluster, uint64_t host,
	struct error *e)
{
	size_t size = ed->g.cluster_size;

	if ((from && edit_read_padded(ed, ed->bounce, (size_t)from, cluster, e)) ||
		(to < size && edit_read_padded(ed, ed->bounce + to, size - (size_t)to, cluster + to, e)))
		return -1;
	memcpy(ed->bounce + from, buf, (size_t)(to - from));
	return edit_write_data(ed, ed->bounce, size, host, e);
}

/* The data of `n` new clusters at `host`. */
static int write_new_data(struct edit *ed, const struct writing *w, uint64_t host, uint64_t len, struct error *e)
{
	uint64_t in = geometry_in_cluster(&ed->g, w->guest), size = ed->g.cluster_size, done = 0, tail;

	if (in || len < size) {
		uint64_t to = min_u64(in + len, size);

		if (write_mixed(ed, w->buf, in, to, w->guest - in, host, e))
			return -1;
		done = to - in;
		host += size;
	}
	tail = geometry_in_cluster(&ed->g, len - done);
	if (len - done > tail && edit_write_data(ed, w->buf + done, (size_t)(len - done - tail), host, e))
		return -1;
	host += len - done - tail;
	done = len - tail;
	return tail ? write_mixed(ed, w->buf + done, 0, tail, w->guest + done, host, e) : 0;
}

int edit_replace(struct edit *ed, struct table *t, uint64_t guest, uint64_t raw, uint64_t bitmap, struct error *e)
{
	struct l2_entry old;

	if (map_entry(ed, t, guest, &old, e))
		return -1;
	map_set(ed, t, guest, raw, bitmap);
	return old.host == (raw & ENTRY_OFFSET_MASK) && old.type != CLUSTER_COMPRESSED ? 0
										       : edit_drop_entry(ed, &old, e);
}

/* Room for the clusters of the run: new ones, or where a data file has them. */
static int find_room(struct edit *ed, const struct writing *w, uint64_t want, uint64_t *host, uint64_t *got,
	struct error *e)
{
	if (!ed->has_data_file)
		return alloc_some(ed, want, host, got, e);
	*host = geometry_cluster_start(&ed->g, w->guest);
	*got = want;
	return 0;
}

static int write_new(struct edit *ed, const struct writing *w, uint64_t *done, struct error *e)
{
	uint64_t cluster = geometry_cluster_start(&ed->g, w->guest), want, host, got, len;
	struct error first;

	if (new_run(ed, w, &want, e) || find_room(ed, w, want, &host, &got, e))
		return -1;
	len = min_u64(w->len, cluster + (got << ed->g.cluster_bits) - w->guest);
	if (write_new_data(ed, w, host, len, &first)) {
		if (!ed->has_data_file)
			(void)edit_drop(ed, host, got, e); /* a leak at worst */
		*e = first;
		return -1;
	}
	for (uint64_t i = 0; i < got; i++) {
		uint64_t at = i << ed->g.cluster_bits;

		if (edit_replace(ed, w->t, cluster + at, (host + at) | ENTRY_COPIED, 0, e))
			return -1;
	}
	*done = len;
	return 0;
}

/* Zeros in a cluster that is kept for them: from now on it is written whole. */
static int write_kept_zero(struct edit *ed, const struct writing *w, const struct l2_entry *x, uint64_t *done,
	struct error *e)
{
	uint64_t in = geometry_in_cluster(&ed->g, w->guest);

	*done = min_u64(w->len, ed->g.cluster_size - in);
	memset(ed->bounce, 0, ed->g.cluster_size);
	memcpy(ed->bounce + in, w->buf, (size_t)*done);
	if (edit_write_data(ed, ed->bounce, ed->g.cluster_size, x->host, e))
		return -1;
	map_set(ed, w->t, w->guest, x->host | ENTRY_COPIED, 0);
	return 0;
}

static int write_some(struct edit *ed, const struct writing *w, uint64_t *done, struct error *e)
{
	struct l2_entry x;

	if (map_entry(ed, w->t, w->guest, &x, e))
		return -1;
	if (ed->g.subclusters > 1)
		return edit_write_subclusters(ed, w->t, w->buf, w->guest, w->len, done, e);
	if (!is_own(ed, &x))
		return write_new(ed, w, done, e);
	if (x.type == CLUSTER_ZERO_ALLOC)
		return write_kept_zero(ed, w, &x, done, e);
	x.host += geometry_in_cluster(&ed->g, w->guest);
	if (own_run(ed, w, x.host, done, e))
		return -1;
	return edit_write_data(ed, w->buf, (size_t)*done, x.host, e);
}

static int write_in_table(struct edit *ed, const uint8_t *buf, uint64_t guest, uint64_t len, struct error *e)
{
	struct writing w = {.buf = buf, .guest = guest, .len = len};
	int failed = map_table_for_write(ed, guest, &w.t, e);

	if (failed)
		return -1;
	while (!failed && w.len) {
		uint64_t done = 0;

		failed = write_some(ed, &w, &done, e);
		w.buf += done;
		w.guest += done;
		w.len -= done;
	}
	table_put(w.t);
	return failed;
}

int edit_write(struct edit *ed, const void *buf, size_t len, uint64_t guest, struct error *e)
{
	uint64_t span = geometry_l2_span(&ed->g);
	const uint8_t *p = buf;

	if (edit_check_range(ed, guest, len, e) || edit_begin_change(ed, e))
		return -1;
	edit_bitmaps_mark(ed, guest, len);
	while (len) {
		size_t n = (size_t)min_u64(len, align_down(guest, span) + span - guest);

		if (write_in_table(ed, p, guest, n, e))
			return -1;
		p += n;
		guest += n;
		len -= n;
	}
	return 0;
}

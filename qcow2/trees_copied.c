/* SPDX-License-Identifier: Apache-2.0
 *
 * COPIED bits of a whole tree, FORMAT.md §7.5, and the writes of all passes over tables. Each entry changes by one bit whose
 * old and new value are both sound at that moment, so the writes may reach the disk in any order and in part.
 */
#include "qcow2/trees.h"

enum { SECTOR = 512 };
#define COPIED_STORED 0x80ull /* ENTRY_COPIED in a word as it is loaded from the table */

int trees_note_write(struct check_job *j, uint64_t host, size_t at, size_t from, size_t to, struct error *e)
{
	return job_note(j, EVENT_WRITE, host + from, to - from, (uint32_t)(at + from), e);
}

int trees_write(struct check_job *j, struct error *e)
{
	struct trees *t = trees_of(j);
	for (size_t i = 0, k; i < j->event_count; i = k) {
		const struct event *v = &j->events[i];
		uint64_t len = v->b;
		k = i + 1;
		if (v->code == FOUND_UNREADABLE)
			return err_set(e, ERR_IO, "L2 tables at 0x%llx cannot be read", (unsigned long long)v->b);
		if (v->code != EVENT_WRITE)
			continue;
		while (k < j->event_count && j->events[k].code == EVENT_WRITE && j->events[k].a == v->a + len &&
			j->events[k].entry == v->entry + len)
			len += j->events[k++].b;
		if (io_write(t->c.file, j->window + v->entry, (size_t)len, v->a, e) < 0)
			return -1;
		/* A flush follows, and the next windows have to be worked on first. */
		io_file_push(t->c.file, v->a, len);
	}
	return 0;
}

/* What COPIED has to be in this entry. */
static bool wanted(const struct trees *t, uint64_t raw)
{
	const uint64_t host = raw & ENTRY_OFFSET_MASK;
	return t->ones.bytes && !(raw & ENTRY_COMPRESSED) && host && marks_get(&t->ones, host >> t->c.g->cluster_bits);
}

struct span { /* of a table that changed, bytes */
	size_t from, to;
};

static struct span clear_table(const struct geometry *g, uint8_t *table)
{
	const size_t step = g->l2_entry_bytes;
	struct span s = {0, 0};
	for (size_t i = 0; i < g->cluster_size; i += SECTOR) {
		uint64_t any = 0, word;
		for (size_t k = i; k < i + SECTOR; k += step) {
			memcpy(&word, table + k, 8);
			any |= word;
			word &= ~COPIED_STORED;
			memcpy(table + k, &word, 8);
		}
		if (!(any & COPIED_STORED))
			continue;
		s.from = s.to ? s.from : i;
		s.to = i + SECTOR;
	}
	return s;
}

/* Whether all of `n` clusters have the same mark, as the first. */
static bool marks_agree(const struct marks *m, uint64_t first, uint64_t n)
{
	const bool mark = marks_get(m, first);
	const uint8_t whole = mark ? 0xff : 0;
	uint64_t i = first, end = first + n;
	if (end > m->clusters)
		return false;
	for (; i < end && i % 8; i++)
		if (marks_get(m, i) != mark)
			return false;
	for (; end - i >= 8; i += 8)
		if (m->bytes[i / 8] != whole)
			return false;
	for (; i < end; i++)
		if (marks_get(m, i) != mark)
			return false;
	return true;
}

/* Puts COPIED right in entries [i, i + n), whose flags are the same and whose clusters follow each other if n is not 1. */
static bool set_run(const struct trees *t, uint8_t *table, uint32_t i, uint32_t n)
{
	const struct geometry *g = t->c.g;
	const uint64_t raw = get_be64(table + (size_t)i * g->l2_entry_bytes);
	if (wanted(t, raw) == ((raw & ENTRY_COPIED) != 0))
		return false;
	for (uint32_t k = i; k < i + n; k++)
		table[(size_t)k * g->l2_entry_bytes] ^= COPIED_STORED;
	return true;
}

static struct span set_table(const struct trees *t, uint8_t *table)
{
	const struct geometry *g = t->c.g;
	const uint32_t entries = 1u << g->l2_bits;
	struct span s = {0, 0};
	for (uint32_t i = check_skip_zeros(g, table, 0), n; i < entries; i = check_skip_zeros(g, table, i + n)) {
		const uint64_t raw = get_be64(table + (size_t)i * g->l2_entry_bytes);
		n = 1;
		if (raw & ENTRY_OFFSET_MASK && !(raw & ENTRY_COMPRESSED))
			n = check_run_length(g, table, i);
		if (n > 1 && !marks_agree(&t->ones, (raw & ENTRY_OFFSET_MASK) >> g->cluster_bits, n))
			n = 1;
		if (!set_run(t, table, i, n))
			continue;
		s.from = s.to ? s.from : align_down((size_t)i * g->l2_entry_bytes, SECTOR);
		s.to = align_down((size_t)(i + n - 1) * g->l2_entry_bytes, SECTOR) + SECTOR;
	}
	return s;
}

static int work(struct check_job *j, struct error *e)
{
	const struct trees *t = trees_of(j);
	if (job_read_tables(j, e) < 0)
		return -1;
	for (uint32_t i = 0; i < j->table_count; i++) {
		const struct job_table *x = &j->tables[i];
		const size_t at = (size_t)i << t->c.g->cluster_bits;
		if (!x->read)
			continue;
		struct span s = t->ones.bytes ? set_table(t, j->window + at) : clear_table(t->c.g, j->window + at);
		if (s.to && trees_note_write(j, x->raw & ENTRY_OFFSET_MASK, at, s.from, s.to, e) < 0)
			return -1;
	}
	return 0;
}

int trees_copied(struct trees *t, uint64_t l1_host, uint32_t l1_entries, bool from_ones, struct error *e)
{
	if (!from_ones) {
		free(t->ones.bytes);
		t->ones = (struct marks){0};
	}
	return check_l1(&t->c, l1_host, l1_entries, false, work, trees_write, e);
}

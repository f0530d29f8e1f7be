/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of a dynamic block (RFC 1951 §3.2.7): the code lengths of its two codes, run-length coded, those items again
 * with a prefix code.
 */
#include "qcow2/deflate_bits.h"

enum { PRECODE_MAX = 7 };

static const uint8_t precode_order[DEFLATE_PRECODES] = {
	16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
static const uint8_t precode_extra[DEFLATE_PRECODES] = {[16] = 2, [17] = 3, [18] = 7};

/* One length, `run` times. */
static void add_run(struct deflate_lengths *l, uint32_t *freq, unsigned len, unsigned run)
{
	if (len && run) {
		l->item[l->items++] = (uint16_t)len;
		freq[len]++;
		run--;
	}
	while (run >= 3) {
		unsigned symbol = len ? 16 : run > 10 ? 18 : 17, base = symbol == 18 ? 11 : 3;
		unsigned n = (unsigned)min_u64(run, symbol == 18 ? 138 : symbol == 17 ? 10 : 6);
		l->item[l->items++] = (uint16_t)(symbol | (n - base) << 5);
		freq[symbol]++;
		run -= n;
	}
	for (; run; run--) {
		l->item[l->items++] = (uint16_t)len;
		freq[len]++;
	}
}

uint64_t deflate_make_lengths(struct deflate_lengths *l, const struct deflate_code *litlen,
	const struct deflate_code *dist)
{
	uint8_t len[DEFLATE_MAX_LENGTHS];
	uint32_t freq[DEFLATE_PRECODES] = {0};
	uint64_t bits = 3 + 5 + 5 + 4;

	for (l->litlens = DEFLATE_LITLENS; l->litlens > 257 && litlen[l->litlens - 1].len == 0; l->litlens--)
		;
	for (l->dists = DEFLATE_DISTS; l->dists > 1 && dist[l->dists - 1].len == 0; l->dists--)
		;
	unsigned n = l->litlens + l->dists;
	for (unsigned i = 0; i < n; i++)
		len[i] = (uint8_t)(i < l->litlens ? litlen[i].len : dist[i - l->litlens].len);
	l->items = 0;
	for (unsigned i = 0, run; i < n; i += run) {
		for (run = 1; i + run < n && len[i + run] == len[i]; run++)
			;
		add_run(l, freq, len[i], run);
	}
	deflate_build_code(freq, DEFLATE_PRECODES, PRECODE_MAX, l->precode);
	for (l->precodes = DEFLATE_PRECODES; l->precodes > 4 && l->precode[precode_order[l->precodes - 1]].len == 0;
		l->precodes--)
		;
	for (unsigned i = 0; i < DEFLATE_PRECODES; i++)
		bits += (uint64_t)freq[i] * (l->precode[i].len + precode_extra[i]);
	return bits + 3 * l->precodes;
}

void deflate_put_lengths(const struct deflate_lengths *l, struct bit_writer *w)
{
	put(w, l->litlens - 257, 5);
	put(w, l->dists - 1, 5);
	put(w, l->precodes - 4, 4);
	flush_bits(w);
	for (unsigned i = 0; i < l->precodes; i++) {
		put(w, l->precode[precode_order[i]].len, 3);
		flush_bits(w);
	}
	for (unsigned i = 0; i < l->items; i++) {
		unsigned symbol = l->item[i] & 31;
		put_code(w, l->precode[symbol]);
		put(w, l->item[i] >> 5, precode_extra[symbol]);
		flush_bits(w);
	}
}

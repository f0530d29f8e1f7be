/* SPDX-License-Identifier: Apache-2.0
 *
 * Prefix codes of limited length from symbol counts, for deflate_encode.c (RFC 1951 §3.2.2).
 */
#include "qcow2/deflate.h"

enum {
	MAX_CODE = 15,
	DIGIT_BITS = 9,
	SYMBOL_BITS = 9, /* a key is a count with the symbol below it; counts stay under 2^18 */
};

/* Sorts keys by their counts, symbols of one count in their order: two passes of counting sort. */
static void sort_keys(uint32_t *key, unsigned n)
{
	uint32_t at[2][1 << DIGIT_BITS] = {0}, other[DEFLATE_LITLENS];
	const unsigned low = SYMBOL_BITS, high = SYMBOL_BITS + DIGIT_BITS, mask = (1 << DIGIT_BITS) - 1;
	uint32_t sum[2] = {0, 0};

	for (unsigned i = 0; i < n; i++) {
		at[0][key[i] >> low & mask]++;
		at[1][key[i] >> high & mask]++;
	}
	for (unsigned d = 0; d <= mask; d++)
		for (unsigned pass = 0; pass < 2; pass++) {
			uint32_t count = at[pass][d];
			at[pass][d] = sum[pass];
			sum[pass] += count;
		}
	for (unsigned i = 0; i < n; i++)
		other[at[0][key[i] >> low & mask]++] = key[i];
	for (unsigned i = 0; i < n; i++)
		key[at[1][other[i] >> high & mask]++] = other[i];
}

/* How many leaves each depth of the Huffman tree over the n >= 2 sorted keys has; deeper ones count as max_len deep.
 * Leaves and inner nodes both come in ascending order, so that two indices do for a queue. */
static void count_depths(const uint32_t *key, unsigned n, unsigned max_len, uint32_t *per_len)
{
	uint32_t weight[2 * DEFLATE_LITLENS];
	uint16_t parent[2 * DEFLATE_LITLENS];
	uint16_t depth[2 * DEFLATE_LITLENS];
	unsigned leaf = 0, inner = n, root = 2 * n - 2;

	for (unsigned i = 0; i < n; i++)
		weight[i] = key[i] >> SYMBOL_BITS;
	for (unsigned made = n; made <= root; made++) {
		unsigned a = inner >= made || (leaf < n && weight[leaf] <= weight[inner]) ? leaf++ : inner++;
		unsigned b = inner >= made || (leaf < n && weight[leaf] <= weight[inner]) ? leaf++ : inner++;
		weight[made] = weight[a] + weight[b];
		parent[a] = parent[b] = (uint16_t)made;
	}
	depth[root] = 0;
	for (unsigned i = root; i-- > 0;) {
		depth[i] = depth[parent[i]] + 1;
		if (i < n)
			per_len[min_u64(depth[i], max_len)]++;
	}
}

/* Counting the deep ones as max_len deep used more codes than there are. Each step gives one back: a leaf of a shorter
 * length becomes a node with two leaves below, one of which is taken from the longest length. */
static void limit_lengths(uint32_t *per_len, unsigned max_len)
{
	uint32_t used = 0;

	for (unsigned l = 1; l <= max_len; l++)
		used += per_len[l] << (max_len - l);
	for (; used > 1u << max_len; used--) {
		unsigned l = max_len - 1;
		while (per_len[l] == 0)
			l--;
		per_len[l]--;
		per_len[l + 1] += 2;
		per_len[max_len]--;
	}
}

static uint32_t reverse_bits(uint32_t v, unsigned n)
{
	v = (v & 0x5555) << 1 | (v >> 1 & 0x5555);
	v = (v & 0x3333) << 2 | (v >> 2 & 0x3333);
	v = (v & 0x0f0f) << 4 | (v >> 4 & 0x0f0f);
	v = (v & 0x00ff) << 8 | v >> 8;
	return v >> (16 - n);
}

void deflate_assign_code(struct deflate_code *code, unsigned n)
{
	uint32_t per_len[MAX_CODE + 1] = {0}, next[MAX_CODE + 1] = {0};

	for (unsigned i = 0; i < n; i++)
		per_len[code[i].len]++;
	per_len[0] = 0;
	for (unsigned l = 1; l <= MAX_CODE; l++)
		next[l] = (next[l - 1] + per_len[l - 1]) << 1;
	for (unsigned i = 0; i < n; i++)
		code[i].bits = code[i].len ? reverse_bits(next[code[i].len]++, code[i].len) : 0;
}

void deflate_build_code(const uint32_t *freq, unsigned n, unsigned max_len, struct deflate_code *code)
{
	uint32_t key[DEFLATE_LITLENS], per_len[MAX_CODE + 1] = {0};
	unsigned used = 0, k = 0;

	for (unsigned i = 0; i < n; i++) {
		code[i].len = 0;
		if (freq[i])
			key[used++] = freq[i] << SYMBOL_BITS | i;
	}
	if (used < 2) {
		unsigned symbol = used ? key[0] & ((1 << SYMBOL_BITS) - 1) : 0;
		code[symbol].len = code[symbol ? 0 : 1].len = 1;
	} else {
		sort_keys(key, used);
		count_depths(key, used, max_len, per_len);
		limit_lengths(per_len, max_len);
		for (unsigned l = max_len; l > 0; l--)
			for (uint32_t i = 0; i < per_len[l]; i++)
				code[key[k++] & ((1 << SYMBOL_BITS) - 1)].len = l;
	}
	deflate_assign_code(code, n);
}

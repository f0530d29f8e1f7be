/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens to a deflate stream (RFC 1951 §3.2, FORMAT.md §6.1). A segment is cut into parts; neighbours whose symbols are
 * alike enough to share a code become one block. Each block takes the shortest of the three kinds, whose exact size is known
 * before a bit is written, so that nothing is written past the end of dst.
 */
#include "qcow2/deflate_bits.h"

enum {
	PART = 16384, /* bytes of input after which a new block may begin */
	PARTS = DEFLATE_SEGMENT / PART,
	HEADER_BITS = 560, /* what a block's header costs, for the question whether two parts share one */
	LITLEN_MAX = 14,   /* so that four literals fit into the bit buffer: 4 * 14 + 7 < 64 */
	DIST_MAX = 15,
	LOG_STEPS = 256,
	LOG_ONE = 2048, /* logarithms are in units of 1/2048 */
};

enum block_kind { BLOCK_STORED = 0, BLOCK_FIXED = 1, BLOCK_DYNAMIC = 2 };

static const uint16_t len_base[29] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
	99, 115, 131, 163, 195, 227, 258};
static const uint8_t len_extra[29] = {
	0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};

struct part {
	uint32_t litlen[DEFLATE_LITLENS];
	uint32_t dist[DEFLATE_DISTS];
	uint32_t match, literal; /* index of its first in the tokens */
	size_t pos;              /* and of its first byte in the source */
};

struct deflate_encoder {
	struct deflate_finder finder;
	struct deflate_tokens tokens;
	struct part part[PARTS + 1];
	struct deflate_code litlen[DEFLATE_LITLENS], dist[DEFLATE_DISTS];
	struct deflate_code fixed_litlen[DEFLATE_LITLENS + 2], fixed_dist[DEFLATE_DISTS + 2];
	struct deflate_code
		match_len[DEFLATE_MAX_MATCH + 1]; /* symbol and extra bits in one, of the block being written */
	struct deflate_lengths lengths;
	uint8_t len_symbol[DEFLATE_MAX_MATCH + 1]; /* of each length, minus 257 */
	uint16_t log_fraction[LOG_STEPS];
};

static inline unsigned top_bit(uint32_t v)
{
	return 31 - (unsigned)__builtin_clz(v);
}

/* The symbol of a distance, given as distance - 1; from 4 on its extra bits are those below the top two. */
static inline unsigned dist_symbol(uint32_t d)
{
	if (d < 2)
		return d;
	unsigned top = top_bit(d);
	return 2 * top + (d >> (top - 1) & 1);
}

static inline unsigned dist_extra(unsigned symbol)
{
	return symbol < 4 ? 0 : symbol / 2 - 1;
}

static void count_literals(uint32_t *count, const uint8_t *p, uint32_t n)
{
	uint32_t odd[256] = {0}; /* two counters a byte, or runs of one byte would wait for their own store */

	for (; n >= 2; n -= 2, p += 2) {
		count[p[0]]++;
		odd[p[1]]++;
	}
	if (n)
		count[p[0]]++;
	for (unsigned i = 0; i < 256; i++)
		count[i] += odd[i];
}

/* Cuts the tokens of src[start..end) after the match that crosses each border. Returns the number of parts; the one behind
 * the last tells where it ends. */
static unsigned cut_parts(struct deflate_encoder *c, size_t start, size_t end)
{
	const struct deflate_tokens *t = &c->tokens;
	struct part *p = c->part;
	size_t pos = start;
	uint32_t match = 0, literal = 0;

	for (size_t border = start; pos < end; p++) {
		border = border + PART + PART / 2 > end ? end : border + PART;
		memset(p, 0, sizeof *p);
		p->match = match;
		p->literal = literal;
		p->pos = pos;
		for (; pos < border && match < t->matches; match++) {
			const struct deflate_match *m = &t->match[match];
			literal += m->literals;
			pos += m->literals + m->len;
			p->litlen[257 + c->len_symbol[m->len]]++;
			p->dist[dist_symbol(m->dist - 1u)]++;
		}
		if (pos < border) {
			pos = end;
			literal = t->literals;
		}
		count_literals(p->litlen, t->literal + p->literal, literal - p->literal);
	}
	p->match = t->matches;
	p->literal = t->literals;
	p->pos = end;
	return (unsigned)(p - c->part);
}

static uint32_t log_of(const struct deflate_encoder *c, uint32_t v)
{
	unsigned top = top_bit(v);
	return top * LOG_ONE + c->log_fraction[(uint64_t)v << (32 - top) >> 24 & (LOG_STEPS - 1)];
}

static uint64_t entropy_of(const struct deflate_encoder *c, const uint32_t *count, unsigned n)
{
	uint64_t bits = 0;
	uint32_t total = 0;

	for (unsigned i = 0; i < n; i++)
		if (count[i]) {
			bits += (uint64_t)count[i] * log_of(c, count[i]);
			total += count[i];
		}
	return total ? ((uint64_t)total * log_of(c, total) - bits) / LOG_ONE : 0;
}

/* About how many bits the symbols of a part take with a code of their own. */
static uint64_t part_bits(const struct deflate_encoder *c, const struct part *p)
{
	return entropy_of(c, p->litlen, DEFLATE_LITLENS) + entropy_of(c, p->dist, DEFLATE_DISTS);
}

static void add_part(struct part *restrict to, const struct part *restrict from)
{
	for (unsigned i = 0; i < DEFLATE_LITLENS; i++)
		to->litlen[i] += from->litlen[i];
	for (unsigned i = 0; i < DEFLATE_DISTS; i++)
		to->dist[i] += from->dist[i];
}

static inline __attribute__((always_inline)) void put_literals(struct bit_writer *w, const struct deflate_code *code,
	const uint8_t *p, uint32_t n)
{
	static const struct deflate_code none;

	for (; n >= 4; n -= 4, p += 4) {
		put_code(w, code[p[0]]);
		put_code(w, code[p[1]]);
		put_code(w, code[p[2]]);
		put_code(w, code[p[3]]);
		flush_bits(w);
	}
	put_code(w, n > 0 ? code[p[0]] : none); /* without branches, which would be guessed wrong most of the time */
	put_code(w, n > 1 ? code[p[1]] : none);
	put_code(w, n > 2 ? code[p[2]] : none);
	flush_bits(w);
}

static void put_tokens(struct deflate_encoder *c, struct bit_writer *out, const struct part *p, const struct part *end,
	const struct deflate_code *litlen, const struct deflate_code *dist)
{
	const uint8_t *literal = c->tokens.literal + p->literal, *last = c->tokens.literal + end->literal;
	const struct deflate_match *m = c->tokens.match + p->match, *stop = c->tokens.match + end->match;
	struct bit_writer w = *out;

	for (; m < stop; m++) {
		uint32_t d = m->dist - 1u;
		unsigned symbol = dist_symbol(d), extra = dist_extra(symbol);

		put_literals(&w, litlen, literal, m->literals);
		literal += m->literals;
		put_code(&w, c->match_len[m->len]);
		put_code(&w, dist[symbol]);
		put(&w, d & ((1u << extra) - 1), extra);
		flush_bits(&w);
	}
	put_literals(&w, litlen, literal, (uint32_t)(last - literal));
	put_code(&w, litlen[DEFLATE_END]);
	flush_bits(&w);
	*out = w;
}

static void merge_len_codes(struct deflate_encoder *c, const struct deflate_code *litlen)
{
	for (unsigned len = 3; len <= DEFLATE_MAX_MATCH; len++) {
		unsigned symbol = c->len_symbol[len];
		struct deflate_code code = litlen[257 + symbol];
		c->match_len[len].bits = code.bits | (uint32_t)(len - len_base[symbol]) << code.len;
		c->match_len[len].len = code.len + len_extra[symbol];
	}
}

static uint64_t symbol_bits(const struct part *p, const struct deflate_code *litlen, const struct deflate_code *dist)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < DEFLATE_LITLENS; i++)
		bits += (uint64_t)p->litlen[i] * (litlen[i].len + (i < 257 ? 0u : len_extra[i - 257]));
	for (unsigned i = 0; i < DEFLATE_DISTS; i++)
		bits += (uint64_t)p->dist[i] * (dist[i].len + dist_extra(i));
	return bits;
}

static void put_stored(struct bit_writer *w, const uint8_t *src, size_t len, bool final)
{
	while (len > 0) {
		size_t n = (size_t)min_u64(len, UINT16_MAX);
		put(w, final && n == len, 1);
		put(w, BLOCK_STORED, 2);
		w->n = (w->n + 7) & ~7u;
		put(w, (uint32_t)n, 16);
		put(w, (uint32_t)n ^ UINT16_MAX, 16);
		flush_bits(w);
		memcpy(w->p, src, n);
		w->p += n;
		src += n;
		len -= n;
	}
}

static bool put_block(struct deflate_encoder *c, struct bit_writer *w, const uint8_t *src, struct part *p,
	const struct part *end, bool final)
{
	const struct deflate_code *litlen = c->fixed_litlen, *dist = c->fixed_dist;
	size_t len = end->pos - p->pos;
	enum block_kind kind = BLOCK_FIXED;

	p->litlen[DEFLATE_END] = 1;
	deflate_build_code(p->litlen, DEFLATE_LITLENS, LITLEN_MAX, c->litlen);
	deflate_build_code(p->dist, DEFLATE_DISTS, DIST_MAX, c->dist);
	uint64_t bits = 3 + symbol_bits(p, litlen, dist);
	uint64_t dynamic = deflate_make_lengths(&c->lengths, c->litlen, c->dist) + symbol_bits(p, c->litlen, c->dist);
	uint64_t stored = 8 * (uint64_t)len + (len > UINT16_MAX ? 2 : 1) * (3 + 7 + 32);

	if (dynamic < bits) {
		bits = dynamic;
		kind = BLOCK_DYNAMIC;
		litlen = c->litlen;
		dist = c->dist;
	}
	if (stored < bits) {
		bits = stored;
		kind = BLOCK_STORED;
	}
	if ((bits + w->n) / 8 + 16 > (size_t)(w->end - w->p)) /* flush_bits writes up to 8 bytes ahead */
		return false;
	if (kind == BLOCK_STORED) {
		put_stored(w, src + p->pos, len, final);
		return true;
	}
	put(w, final, 1);
	put(w, kind, 2);
	if (kind == BLOCK_DYNAMIC)
		deflate_put_lengths(&c->lengths, w);
	merge_len_codes(c, litlen);
	put_tokens(c, w, p, end, litlen, dist);
	return true;
}

/* Parts join the block before them as long as one code for both costs less than a second header. */
static bool put_segment(struct deflate_encoder *c, struct bit_writer *w, const uint8_t *src, unsigned parts, bool final)
{
	struct part *p = c->part, *end = p + parts;

	for (struct part *next; p < end; p = next) {
		struct part *both = p;
		uint64_t bits = part_bits(c, p);

		for (next = p + 1; next < end; next++) {
			struct part joined = *both;
			add_part(&joined, next);
			uint64_t joined_bits = part_bits(c, &joined);
			if (joined_bits > bits + part_bits(c, next) + HEADER_BITS)
				break;
			*both = joined;
			bits = joined_bits;
		}
		if (!put_block(c, w, src, p, next, final && next == end))
			return false;
	}
	return true;
}

size_t deflate_encode(struct deflate_encoder *c, const uint8_t *src, size_t len, uint8_t *dst, size_t cap)
{
	struct bit_writer w = {.p = dst, .end = dst + cap};

	deflate_find_reset(&c->finder);
	for (size_t start = 0, end; start < len; start = end) {
		end = (size_t)min_u64(start + DEFLATE_SEGMENT, len);
		deflate_find(&c->finder, src, start, end, &c->tokens);
		if (!put_segment(c, &w, src, cut_parts(c, start, end), end == len))
			return 0;
	}
	if (w.n)
		w.p++;
	return (size_t)(w.p - dst);
}

/* log2(1 + i/256) by squaring: the integer part of each square is the next bit. No floating point, so that every build
 * makes the same tables and with them the same streams. */
static void make_log_table(struct deflate_encoder *c)
{
	for (unsigned i = 0; i < LOG_STEPS; i++) {
		uint64_t x = (uint64_t)(LOG_STEPS + i) << 22; /* 1.0 is 2^30 */
		unsigned log = 0;
		for (unsigned bit = LOG_ONE >> 1; bit; bit >>= 1) {
			x = x * x >> 30;
			if (x >> 31) {
				x >>= 1;
				log |= bit;
			}
		}
		c->log_fraction[i] = (uint16_t)log;
	}
}

static void make_fixed_codes(struct deflate_encoder *c)
{
	for (unsigned i = 0; i < DEFLATE_LITLENS + 2; i++)
		c->fixed_litlen[i].len = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
	for (unsigned i = 0; i < DEFLATE_DISTS + 2; i++)
		c->fixed_dist[i].len = 5;
	deflate_assign_code(c->fixed_litlen, DEFLATE_LITLENS + 2);
	deflate_assign_code(c->fixed_dist, DEFLATE_DISTS + 2);
}

int deflate_encoder_new(struct deflate_encoder **out, uint32_t window, struct error *e)
{
	struct deflate_encoder *c = mem_calloc(1, sizeof *c, "deflate encoder", e);

	if (!c)
		return -1;
	c->finder.window = window;
	for (unsigned len = 3, symbol = 0; len <= DEFLATE_MAX_MATCH; len++) {
		if (symbol < 28 && len == len_base[symbol + 1])
			symbol++;
		c->len_symbol[len] = (uint8_t)symbol;
	}
	make_log_table(c);
	make_fixed_codes(c);
	*out = c;
	return 0;
}

void deflate_encoder_free(struct deflate_encoder *c)
{
	free(c);
}

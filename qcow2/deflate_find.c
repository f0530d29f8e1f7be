/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds repetitions for deflate_encode.c: two hash tables, one over 7 bytes and one over 3 (4 in text), one candidate each,
 * the longer first. Every branch here is a guess of the processor that data makes go wrong, so there are few, in the order of
 * what they cost: the path of a literal tests two words and nothing else.
 */
#include "qcow2/deflate.h"

enum {
	LONG_BYTES = 7,
	WORD = 8,       /* bytes that are compared at once */
	MARGIN = 20,    /* no search in the last bytes, so that wide reads stay inside */
	FAR_3 = 4096,   /* a match of three bytes farther than this costs more than three literals */
	FAR_4 = 8192,   /* the same of four */
	SKIP_SHIFT = 7, /* after 128 literals without a match look at every second byte, after 256 at every third */
	LITERAL_COPY = 16,
	SAMPLES = 256,
};

#define HOT inline __attribute__((always_inline)) /* one loop, in registers */

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint32_t load32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline unsigned hash_long(uint64_t v)
{
	return (unsigned)((v << (64 - 8 * LONG_BYTES)) * 0x9e3779b185ebca87u >> (64 - DEFLATE_LONG_BITS));
}

static inline unsigned hash_short(uint32_t v, unsigned bytes)
{
	return (v << (32 - 8 * bytes)) * 2654435761u >> (32 - DEFLATE_SHORT_BITS);
}

/* Equal bytes at the beginning of two words, from their exclusive or. */
static inline unsigned equal_bytes(uint64_t differ)
{
	return differ ? (unsigned)__builtin_ctzll(differ) >> 3 : WORD;
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many of the bytes at a and b are equal, from `n` on (those before are known to be) up to max. */
static inline unsigned match_len(const uint8_t *a, const uint8_t *b, unsigned n, unsigned max)
{
	for (; n + WORD <= max; n += WORD) {
		uint64_t differ = load64(a + n) ^ load64(b + n);
		if (differ)
			return n + equal_bytes(differ);
	}
	while (n < max && a[n] == b[n])
		n++;
	return n;
}

static inline void index_at(struct deflate_finder *f, const uint8_t *base, const uint8_t *p, unsigned short_bytes)
{
	f->by_long[hash_long(load64(p))] = (uint16_t)(p - base);
	f->by_short[hash_short(load32(p), short_bytes)] = (uint16_t)(p - base);
}

/* Makes the bytes p..end of a match findable: its beginning and its end, in fixed numbers, since a loop over all of it costs
 * more than it finds. Text is content with fewer. */
static inline void index_match(struct deflate_finder *f, const uint8_t *base, const uint8_t *p, const uint8_t *end,
	unsigned short_bytes)
{
	index_at(f, base, p + 1, short_bytes);
	index_at(f, base, p + 2, short_bytes);
	if (end - p > 3)
		index_at(f, base, p + 3, short_bytes);
	if (short_bytes == 3 && end - p > 8) {
		for (int i = 4; i < 7; i++)
			index_at(f, base, p + i, short_bytes);
		index_at(f, base, end - 3, short_bytes);
	}
	index_at(f, base, end - 2, short_bytes);
	index_at(f, base, end - 1, short_bytes);
}

static inline void add_match(struct deflate_tokens *out, const uint8_t *literals, size_t n, unsigned len, unsigned dist)
{
	uint8_t *to = out->literal + out->literals;

	memcpy(to, literals, LITERAL_COPY);
	if (n > LITERAL_COPY)
		memcpy(to + LITERAL_COPY, literals + LITERAL_COPY, n - LITERAL_COPY);
	out->literals += (uint32_t)n;
	out->match[out->matches++] = (struct deflate_match){(uint16_t)n, (uint16_t)len, (uint16_t)dist};
}

/* Looks at *p for a match: its length, or 0. May move *p one further, where a long one begins. */
static HOT unsigned find_at(struct deflate_finder *f, const uint8_t *base, const uint8_t **p, const uint8_t *end,
	unsigned window, unsigned short_bytes, unsigned *dist)
{
	const uint8_t *ip = *p;
	uint64_t v = load64(ip);
	unsigned hl = hash_long(v), hs = hash_short((uint32_t)v, short_bytes);
	uint16_t pos = (uint16_t)(ip - base);
	unsigned dl = (uint16_t)(pos - f->by_long[hl]), ds = (uint16_t)(pos - f->by_short[hs]);
	uint64_t differ = load64(ip - dl) ^ v;
	unsigned len;

	f->by_long[hl] = pos;
	f->by_short[hs] = pos;
	if (differ << (64 - 8 * LONG_BYTES) == 0 && dl - 1 < window) {
		*dist = dl;
		len = equal_bytes(differ);
	} else {
		differ = load64(ip - ds) ^ v;
		if (differ << (64 - 8 * short_bytes) != 0 || ds - 1 >= window)
			return 0;
		*dist = ds;
		len = equal_bytes(differ);
		if (len < WORD) {
			uint64_t next = load64(ip + 1);
			dl = (uint16_t)(pos + 1 - f->by_long[hash_long(next)]);
			differ = load64(ip + 1 - dl) ^ next;
			if (differ << (64 - 8 * LONG_BYTES) == 0 && dl - 1 < window) {
				*p = ++ip;
				*dist = dl;
				len = equal_bytes(differ);
			}
		}
		if ((len == 3 && *dist > FAR_3) || (len == 4 && *dist > FAR_4))
			return 0;
	}
	if (len < WORD)
		return len;
	return match_len(ip, ip - *dist, WORD, (unsigned)min_size((size_t)(end - ip), DEFLATE_MAX_MATCH));
}

/* Writes the match and what goes on at the same distance behind its longest length. Returns where it ends. */
static HOT const uint8_t *take_match(struct deflate_finder *f, const uint8_t *base, const uint8_t *anchor,
	const uint8_t *ip, const uint8_t *end, unsigned len, unsigned dist, unsigned short_bytes,
	struct deflate_tokens *out)
{
	const uint8_t *limit = end - MARGIN;

	while (ip > anchor && ip > base + dist && len < DEFLATE_MAX_MATCH && ip[-1] == ip[-1 - (ptrdiff_t)dist]) {
		ip--;
		len++;
	}
	for (;;) {
		const uint8_t *start = ip;

		add_match(out, anchor, (size_t)(ip - anchor), len, dist);
		anchor = ip += len;
		if (ip > limit)
			return ip;
		if (len == DEFLATE_MAX_MATCH) {
			len = match_len(ip, ip - dist, 0, (unsigned)min_size((size_t)(end - ip), DEFLATE_MAX_MATCH));
			if (len >= DEFLATE_MIN_MATCH)
				continue;
		}
		index_match(f, base, start, ip, short_bytes);
		return ip;
	}
}

/* Constants for `window` and `short_bytes` give each pair its own loop. */
static HOT void find(struct deflate_finder *restrict f, const uint8_t *base, size_t start, size_t stop, unsigned window,
	unsigned short_bytes, struct deflate_tokens *restrict out)
{
	const uint8_t *ip = base + start, *anchor = ip, *end = base + stop;

	out->matches = out->literals = 0;
	/* A segment's first byte is not looked up: a zeroed table would say that it is a copy of itself. */
	if (stop - start > MARGIN)
		for (ip++; ip <= end - MARGIN;) {
			unsigned dist, len = find_at(f, base, &ip, end, window, short_bytes, &dist);
			if (len)
				anchor = ip = take_match(f, base, anchor, ip, end, len, dist, short_bytes, out);
			else
				ip += 1 + ((ip - anchor) >> SKIP_SHIFT);
		}
	memcpy(out->literal + out->literals, anchor, (size_t)(end - anchor));
	out->literals += (uint32_t)(end - anchor);
}

/* Matches of three bytes pay in machine code and tables (one to two percent of the size), hardly in text, and they cost a
 * seventh of the speed. Text is what has few bytes above 127, judged by a sample. */
static bool is_text(const uint8_t *p, size_t len)
{
	size_t step = len / SAMPLES + 1, high = 0, n = 0;

	for (size_t i = step / 2; i < len; i += step, n++)
		high += p[i] >> 7;
	return high < n / 5;
}

void deflate_find_reset(struct deflate_finder *f)
{
	memset(f->by_long, 0, sizeof f->by_long);
	memset(f->by_short, 0, sizeof f->by_short);
}

void deflate_find(struct deflate_finder *f, const uint8_t *base, size_t start, size_t end, struct deflate_tokens *out)
{
	bool text = is_text(base + start, end - start);

	if (f->window == 32768 && text)
		find(f, base, start, end, 32768, 4, out);
	else if (f->window == 32768)
		find(f, base, start, end, 32768, 3, out);
	else if (text)
		find(f, base, start, end, 4096, 4, out);
	else
		find(f, base, start, end, 4096, 3, out);
}

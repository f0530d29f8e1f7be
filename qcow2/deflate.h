/* SPDX-License-Identifier: Apache-2.0
 *
 * Our own encoder of raw deflate streams (RFC 1951, FORMAT.md §6.1), made for one job: clusters, in one call, smaller than
 * qemu-img's and several times faster. deflate_find.c turns bytes into literals and matches, deflate_huffman.c counts into
 * codes, deflate_encode.c cuts the result into blocks and writes them.
 */
#ifndef QSNAP_QCOW2_DEFLATE_H
#define QSNAP_QCOW2_DEFLATE_H

#include "base/base.h"

enum {
	DEFLATE_SEGMENT = 65536, /* bytes that are searched and written at once; blocks do not cross its border */
	DEFLATE_LITLENS = 286,
	DEFLATE_DISTS = 30,
	DEFLATE_END = 256, /* the symbol that ends a block */
	DEFLATE_MIN_MATCH = 3,
	DEFLATE_MAX_MATCH = 258,
	DEFLATE_LONG_BITS = 14, /* log2 of the hash tables' entries: what fits the first-level cache beside the data */
	DEFLATE_SHORT_BITS = 12,
};

struct deflate_match {
	uint16_t literals; /* that come before it */
	uint16_t len, dist;
};

/* A segment as literals and matches. The literals behind the last match have no entry. */
struct deflate_tokens {
	uint32_t matches, literals;
	struct deflate_match match[DEFLATE_SEGMENT / DEFLATE_MIN_MATCH];
	uint8_t literal[DEFLATE_SEGMENT + 32]; /* copies are made in 16 bytes */
};

/* Where 7 and where 3 or 4 bytes were seen last: positions modulo 64 KiB. An entry that is out of date points to bytes that
 * differ, or by chance to bytes that do not; the comparison decides, so a zeroed table is a good one. */
struct deflate_finder {
	uint32_t window; /* the farthest distance */
	uint16_t by_long[1 << DEFLATE_LONG_BITS];
	uint16_t by_short[1 << DEFLATE_SHORT_BITS];
};

/* Tokens of base[start..end), at most a segment; matches may reach back to base. Segments come in order, the first after
 * deflate_find_reset. */
void deflate_find_reset(struct deflate_finder *f);
void deflate_find(struct deflate_finder *f, const uint8_t *base, size_t start, size_t end, struct deflate_tokens *out);

struct deflate_code {
	uint32_t bits; /* as written, first bit lowest */
	uint32_t len;  /* 0: the symbol does not occur */
};

/* An optimal prefix code, lengths at most max_len <= 15, for the n <= 286 symbols counted in `freq`. At least two symbols get
 * a code, since some readers refuse less. */
void deflate_build_code(const uint32_t *freq, unsigned n, unsigned max_len, struct deflate_code *code);
/* The codes that belong to the lengths alone. */
void deflate_assign_code(struct deflate_code *code, unsigned n);

enum { DEFLATE_PRECODES = 19, DEFLATE_MAX_LENGTHS = DEFLATE_LITLENS + DEFLATE_DISTS };

struct deflate_lengths {                    /* the header of a block, ready to be written */
	uint16_t item[DEFLATE_MAX_LENGTHS]; /* precode symbol, its extra bits from bit 5 on */
	unsigned items, litlens, dists, precodes;
	struct deflate_code precode[DEFLATE_PRECODES];
};

struct bit_writer;
/* Returns the bits that the header takes, those before the lengths with it. */
uint64_t deflate_make_lengths(struct deflate_lengths *l, const struct deflate_code *litlen,
	const struct deflate_code *dist);
void deflate_put_lengths(const struct deflate_lengths *l, struct bit_writer *w);

struct deflate_encoder;

/* `window`: the farthest distance used, 4096 or 32768. */
int deflate_encoder_new(struct deflate_encoder **out, uint32_t window, struct error *e);
void deflate_encoder_free(struct deflate_encoder *c); /* NULL is allowed */
/* Bytes written to dst; 0 when they come within 16 bytes of `cap` or beyond. */
size_t deflate_encode(struct deflate_encoder *c, const uint8_t *src, size_t len, uint8_t *dst, size_t cap);

#ifdef HAVE_ISAL
/* The same with ISA-L's encoder of level 1: half as much again as fast, four percent larger; or of level 0. */
struct deflate_isal;
int deflate_isal_new(struct deflate_isal **out, unsigned window_bits, struct error *e);
void deflate_isal_free(struct deflate_isal *c); /* NULL is allowed */
size_t deflate_isal_encode(struct deflate_isal *c, unsigned level, const void *src, size_t len, void *dst, size_t cap);
#endif

#endif

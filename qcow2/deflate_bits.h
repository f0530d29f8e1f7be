/* SPDX-License-Identifier: Apache-2.0
 *
 * Bits into bytes, lowest first, for the two files that write deflate streams.
 */
#ifndef QSNAP_QCOW2_DEFLATE_BITS_H
#define QSNAP_QCOW2_DEFLATE_BITS_H

#include "qcow2/deflate.h"

/* At most 63 bits wait; the caller knows how many it puts between two flushes. */
struct bit_writer {
	uint64_t bits;
	unsigned n;
	uint8_t *p, *end;
};

static inline void put(struct bit_writer *w, uint32_t v, unsigned n)
{
	w->bits |= (uint64_t)v << w->n;
	w->n += n;
}

static inline void put_code(struct bit_writer *w, struct deflate_code code)
{
	put(w, code.bits, code.len);
}

/* Whole bytes go out, 0 to 7 bits stay. Writes 8 bytes at p: the caller saw that they are there. */
static inline void flush_bits(struct bit_writer *w)
{
	memcpy(w->p, &w->bits, 8);
	w->p += w->n >> 3;
	w->bits >>= w->n & ~7u;
	w->n &= 7;
}

#endif

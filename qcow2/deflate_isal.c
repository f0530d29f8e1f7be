/* SPDX-License-Identifier: Apache-2.0
 *
 * ISA-L's deflate encoder, level 0 or 1, in one call per cluster.
 */
#include "qcow2/deflate.h"

#ifdef HAVE_ISAL
#include <isa-l/igzip_lib.h>

struct deflate_isal {
	struct isal_zstream stream;
	unsigned window_bits;
	uint8_t level_buf[ISAL_DEF_LVL1_LARGE];
};

/* ISA-L returns with the upper halves of the vector registers in use. On some processors every SSE instruction after that
 * waits for them: zlib, run next, takes 1.6 times as long. */
static void release_vector_registers(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroupper" ::: "memory");
#endif
}

size_t deflate_isal_encode(struct deflate_isal *c, unsigned level, const void *src, size_t len, void *dst, size_t cap)
{
	struct isal_zstream *s = &c->stream;

	isal_deflate_stateless_init(s);
	s->level = level;
	s->level_buf = c->level_buf;
	s->level_buf_size = sizeof c->level_buf;
	s->hist_bits = (uint16_t)c->window_bits;
	s->end_of_stream = 1;
	s->flush = NO_FLUSH;
	s->next_in = (uint8_t *)src; /* not written to */
	s->avail_in = (uint32_t)len;
	s->next_out = dst;
	s->avail_out = (uint32_t)cap;
	int rc = isal_deflate_stateless(s);
	release_vector_registers();
	return rc == COMP_OK ? s->total_out : 0;
}

int deflate_isal_new(struct deflate_isal **out, unsigned window_bits, struct error *e)
{
	*out = mem_calloc(1, sizeof **out, "ISA-L context", e);
	if (!*out)
		return -1;
	(*out)->window_bits = window_bits;
	return 0;
}

void deflate_isal_free(struct deflate_isal *c)
{
	free(c);
}
#endif

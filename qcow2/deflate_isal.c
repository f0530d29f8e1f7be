/* SPDX-License-Identifier: Apache-2.0
 *
 * ISA-L's deflate encoder, level 0 or 1, in one call per cluster.
 */
#include "qcow2/deflate.h"

#ifdef HAVE_ISAL
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <sys/mman.h>

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

/* Where a context lies. ISA-L 2.30 with AVX2 hashes, instead of the input's bytes 2 to 5, bits 16 to 47 of its stream's address
 * (later versions do not): one cluster in ten thousand has other matches in another process. The same disk has to give the same
 * image, so a context is only put where this hash is 0. */
enum { ADDRESS_SHIFT = 16, HASH_MASK = 8191, TRIES = 1000 };

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static bool address_is_good(uintptr_t at)
{
	return !__builtin_cpu_supports("avx2") ||
	       (__builtin_ia32_crc32si(0, (uint32_t)(at >> ADDRESS_SHIFT)) & HASH_MASK) == 0;
}
#else
static bool address_is_good(uintptr_t at)
{
	(void)at;
	return true;
}
#endif

static void *map_pages(uintptr_t at, int flags)
{
	void *p = mmap((void *)at, sizeof(struct deflate_isal), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Zeroed pages, where the kernel puts them or below that. A kernel before 4.17 takes an address as a wish. */
static struct deflate_isal *map_context(void)
{
	struct deflate_isal *p = map_pages(0, 0);
	uintptr_t at = (uintptr_t)p & -((uintptr_t)1 << ADDRESS_SHIFT);

	for (int i = 0; i < TRIES && (p || errno == EEXIST); i++) {
		if (p && address_is_good((uintptr_t)p))
			return p;
		if (p)
			munmap(p, sizeof *p);
		do
			at -= (uintptr_t)1 << ADDRESS_SHIFT;
		while (!address_is_good(at));
		p = map_pages(at, MAP_FIXED_NOREPLACE);
	}
	if (p)
		munmap(p, sizeof *p);
	return NULL;
}

int deflate_isal_new(struct deflate_isal **out, unsigned window_bits, struct error *e)
{
	*out = map_context();
	if (!*out)
		return err_set(e, ERR_NO_MEMORY, "no memory for an ISA-L context (%zu bytes)", sizeof **out);
	(*out)->window_bits = window_bits;
	return 0;
}

void deflate_isal_free(struct deflate_isal *c)
{
	if (c)
		munmap(c, sizeof *c);
}
#endif

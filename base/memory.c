/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation with an error instead of a crash, scope cleanup, and the test for zeros that every converted byte passes:
 * it looks at three places first (data is rarely zero there) and then reads at the machine's speed.
 */
#include "base/base.h"

#include <stdarg.h>
#include <sys/mman.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

void cleanup_free(void *pp)
{
	void *p;
	memcpy(&p, pp, sizeof p);
	free(p);
}

void *mem_calloc(size_t n, size_t size, const char *what, struct error *e)
{
	/* calloc(0) may give NULL, which is not a failure here. */
	uint64_t bytes;
	void *p = mul_overflows(n, size, &bytes) ? NULL : calloc(bytes ? bytes : 1, 1);
	if (!p)
		err_set(e, ERR_NO_MEMORY, "no memory for %s (%zu x %zu bytes)", what, n, size);
	return p;
}

void *mem_alloc_pages(size_t size, const char *what, struct error *e)
{
	void *p = NULL;
	if (posix_memalign(&p, 4096, size ? size : 1)) {
		err_set(e, ERR_NO_MEMORY, "no memory for %s (%zu bytes)", what, size);
		return NULL;
	}
	return p;
}

void *mem_alloc_huge(size_t size, const char *what, struct error *e)
{
	enum { HUGE = 2 << 20 };
	void *p = NULL;
	if (posix_memalign(&p, HUGE, size)) {
		err_set(e, ERR_NO_MEMORY, "no memory for %s (%zu bytes)", what, size);
		return NULL;
	}
	madvise(p, size, MADV_HUGEPAGE); /* without, it is only slower */
	return p;
}

char *mem_strdup(const char *s, struct error *e)
{
	char *copy = strdup(s);
	if (!copy)
		err_set(e, ERR_NO_MEMORY, "no memory for a string of %zu bytes", strlen(s));
	return copy;
}

int mem_copy_text(char **to, const char *from, struct error *e)
{
	*to = from ? mem_strdup(from, e) : NULL;
	return from && !*to ? -1 : 0;
}

char *mem_printf(struct error *e, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0) {
		err_set(e, ERR_NO_MEMORY, "no memory for a string");
		return NULL;
	}
	return text;
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

#ifdef __x86_64__
/* `len` is at least 128. The last, overlapping block covers the tail. */
__attribute__((target("avx2"))) static bool is_zero_avx2(const uint8_t *p, size_t len)
{
	const uint8_t *last = p + len - 128;
	for (;;) {
		const __m256i *v = (const __m256i *)(const void *)p;
		__m256i a = _mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
		__m256i b = _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3));
		__m256i any = _mm256_or_si256(a, b);
		if (!_mm256_testz_si256(any, any))
			return false;
		if (p == last)
			return true;
		p = last - p > 128 ? p + 128 : last;
	}
}
#endif

/* `len` is at least 32. */
static bool is_zero_plain(const uint8_t *p, size_t len)
{
	const uint8_t *last = p + len - 32;
	for (;;) {
		if (load64(p) | load64(p + 8) | load64(p + 16) | load64(p + 24))
			return false;
		if (p == last)
			return true;
		p = last - p > 32 ? p + 32 : last;
	}
}

bool mem_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	if (len == 0)
		return true;
	if (p[0] | p[len - 1] | p[len / 2])
		return false;
	if (len < 32) {
		for (size_t i = 0; i < len; i++)
			if (p[i])
				return false;
		return true;
	}
#ifdef __x86_64__
	if (len >= 128 && __builtin_cpu_supports("avx2"))
		return is_zero_avx2(p, len);
#endif
	return is_zero_plain(p, len);
}

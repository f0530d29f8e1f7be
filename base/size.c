/* SPDX-License-Identifier: Apache-2.0
 *
 * Sizes as text, both ways, as qemu-img takes and prints them. A fraction is kept as an exact ratio of integers: "1.1k" is
 * 1126 bytes on every machine and in every locale.
 */
#include "base/base.h"

#include <ctype.h>
#include <errno.h>

static int bad_size(struct error *e, const char *text)
{
	err_set(e, ERR_USAGE, "'%s' is not a size (a number, perhaps with a suffix k, M, G, T, P or E)", text);
	e->sys_errno = EINVAL;
	return -1;
}

static int size_range(struct error *e, const char *text)
{
	err_set(e, ERR_USAGE, "size '%s' is not between 0 and %lld", text, (long long)INT64_MAX);
	e->sys_errno = ERANGE;
	return -1;
}

/* log2 of the suffix's factor, -1 for no suffix. */
static int suffix_bits(char c)
{
	static const char letters[] = "bkmgtpe";
	const char *found = c ? strchr(letters, tolower((unsigned char)c)) : NULL;
	return found ? (int)(found - letters) * 10 : -1;
}

/* 0..15, or 16 for what is no digit in any base. */
static unsigned hex_digit(unsigned char c)
{
	if (isdigit(c))
		return (unsigned)(c - '0');
	return isxdigit(c) ? (unsigned)(tolower(c) - 'a' + 10) : 16;
}

/* The digits of `base` at *p; the value stops at UINT64_MAX. */
static uint64_t take_digits(const char **p, unsigned base, unsigned *count)
{
	uint64_t value = 0;
	for (*count = 0;; ++*count, ++*p) {
		unsigned char c = (unsigned char)**p;
		unsigned digit = hex_digit(c);
		if (digit >= base)
			return value;
		if (mul_overflows(value, base, &value) || add_overflows(value, digit, &value))
			value = UINT64_MAX;
	}
}

/* The digits after a point, as a fraction of 2^bits rounded to the nearest. Digits past the 18th change nothing. */
static uint64_t take_fraction(const char **p, int bits, bool apply)
{
	uint64_t value = 0, scale = 1;
	for (; isdigit((unsigned char)**p); ++*p) {
		if (scale < 1000000000000000000u) {
			value = value * 10 + (uint64_t)(**p - '0');
			scale *= 10;
		}
	}
	unsigned __int128 scaled = (unsigned __int128)value << bits;
	return apply ? (uint64_t)((scaled + scale / 2) / scale) : value;
}

int size_parse(const char *text, uint64_t *bytes, struct error *e)
{
	const char *p = text;
	while (isspace((unsigned char)*p))
		p++;
	if (*p == '+')
		p++;
	bool hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && isxdigit((unsigned char)p[2]);
	if (hex)
		p += 2;
	unsigned digits;
	uint64_t whole = take_digits(&p, hex ? 16 : 10, &digits);
	const char *fraction = NULL;
	if (!hex && *p == '.') {
		fraction = ++p;
		while (isdigit((unsigned char)*p))
			p++;
		digits += (unsigned)(p - fraction);
	}
	int bits = suffix_bits(*p);
	if (bits >= 0)
		p++;
	if (digits == 0 || *p)
		return bad_size(e, text);
	/* Parts of a byte make no sense, but "1.0" is one byte. */
	uint64_t part = fraction ? take_fraction(&fraction, bits > 0 ? bits : 0, bits > 0) : 0;
	if (bits <= 0 && part)
		return bad_size(e, text);
	if (mul_overflows(whole, (uint64_t)1 << (bits > 0 ? bits : 0), &whole) || add_overflows(whole, part, &whole) ||
		whole > INT64_MAX)
		return size_range(e, text);
	*bytes = whole;
	return 0;
}

const char *size_format(uint64_t bytes, char buf[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	unsigned unit = 0;
	/* Up to 999 in one unit; from 1000 on it is 0.977 of the next, so that three digits always do. */
	while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, 32, "%.3g %s", value, units[unit]);
	return buf;
}

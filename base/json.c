/* SPDX-License-Identifier: Apache-2.0
 *
 * A streaming JSON writer (RFC 8259). The layout and the escapes are those of qemu-img's --output=json, byte for byte: all
 * that is not ASCII goes out as \uXXXX, and an empty array or object still takes two lines. No newline after the last brace.
 */
#include "base/base.h"

void json_init(struct json *j, FILE *out, bool compact)
{
	*j = (struct json){.out = out, .compact = compact};
}

static void line_break(struct json *j)
{
	if (!j->compact)
		fprintf(j->out, "\n%*s", (int)j->depth * 4, "");
}

/* The code point at *p, which moves past it; -1 when the bytes are no UTF-8. */
static int32_t take_code_point(const char **p)
{
	unsigned char lead = (unsigned char)*(*p)++;
	if (lead < 0x80)
		return lead;
	if (lead < 0xc0 || lead > 0xfd)
		return -1;
	/* Sequences of up to six bytes are taken as a whole, though the long ones mean nothing any more. */
	unsigned more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf8 ? 3 : lead < 0xfc ? 4 : 5;
	int32_t cp = lead & (0x3f >> more);
	for (unsigned i = 0; i < more; i++) {
		unsigned char c = (unsigned char)**p;
		if ((c & 0xc0) != 0x80)
			return -1;
		cp = cp << 6 | (c & 0x3f);
		++*p;
	}
	static const int32_t smallest[] = {0, 0x80, 0x800, 0x10000, INT32_MAX, INT32_MAX};
	bool surrogate = cp >= 0xd800 && cp <= 0xdfff;
	bool no_character = (cp & 0xfffe) == 0xfffe || (cp >= 0xfdd0 && cp <= 0xfdef);
	return cp < smallest[more] || cp > 0x10ffff || surrogate || no_character ? -1 : cp;
}

static void put_code_point(FILE *out, int32_t cp)
{
	static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *found = cp > 0 && cp < 0x80 ? strchr(plain, cp) : NULL;
	if (found)
		fprintf(out, "\\%c", letters[found - plain]);
	else if (cp >= 0x20 && cp < 0x7f)
		fputc(cp, out);
	else if (cp > 0xffff)
		fprintf(out, "\\u%04X\\u%04X", 0xd800 + (unsigned)(cp - 0x10000) / 0x400,
			0xdc00 + (unsigned)(cp - 0x10000) % 0x400);
	else
		fprintf(out, "\\u%04X", cp < 0 ? 0xfffd : (unsigned)cp);
}

static void put_string(FILE *out, const char *s)
{
	fputc('"', out);
	while (*s)
		put_code_point(out, take_code_point(&s));
	fputc('"', out);
}

/* What stands before each value: a comma if it is not the first, the line, the key. */
static void begin_value(struct json *j, const char *key)
{
	if (j->need_comma)
		fputs(j->compact ? ", " : ",", j->out);
	if (j->depth)
		line_break(j);
	if (key) {
		put_string(j->out, key);
		fputs(": ", j->out);
	}
	j->need_comma = true;
}

static void begin(struct json *j, const char *key, char bracket)
{
	begin_value(j, key);
	fputc(bracket, j->out);
	j->depth++;
	j->need_comma = false;
}

static void end(struct json *j, char bracket)
{
	j->depth--;
	line_break(j);
	fputc(bracket, j->out);
	j->need_comma = true;
}

void json_object_begin(struct json *j, const char *key)
{
	begin(j, key, '{');
}

void json_object_end(struct json *j)
{
	end(j, '}');
}

void json_array_begin(struct json *j, const char *key)
{
	begin(j, key, '[');
}

void json_array_end(struct json *j)
{
	end(j, ']');
}

void json_string(struct json *j, const char *key, const char *value)
{
	begin_value(j, key);
	put_string(j->out, value);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
	begin_value(j, key);
	fprintf(j->out, "%llu", (unsigned long long)value);
}

void json_int(struct json *j, const char *key, int64_t value)
{
	begin_value(j, key);
	fprintf(j->out, "%lld", (long long)value);
}

void json_bool(struct json *j, const char *key, bool value)
{
	begin_value(j, key);
	fputs(value ? "true" : "false", j->out);
}

void json_double(struct json *j, const char *key, double value)
{
	begin_value(j, key);
	fprintf(j->out, "%.17g", value);
}

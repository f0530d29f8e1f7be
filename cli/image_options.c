/* SPDX-License-Identifier: Apache-2.0
 *
 * The -o lists of create, convert and measure: "key=value,key=value", a comma inside a value written twice, a key alone is a
 * flag. Later ones win. One table says what each key means; `-o help` and the parser use it.
 */
#include "cli/cli.h"

#include <inttypes.h>

/* ---- the list ---- */

static int list_append(struct cli_option_list *l, char *key, char *value, struct error *e)
{
	struct cli_key_value *items = realloc(l->items, (l->count + 1) * sizeof *items);
	if (!items) {
		free(key);
		return err_set(e, ERR_NO_MEMORY, "no memory for options");
	}
	l->items = items;
	l->items[l->count++] = (struct cli_key_value){.key = key, .value = value};
	return 0;
}

int cli_option_list_add(struct cli_option_list *l, const char *text, struct error *e)
{
	while (*text) {
		AUTO_FREE char *item = mem_calloc(strlen(text) + 1, 1, "options", e);
		if (!item)
			return -1;
		size_t n = 0;
		for (; *text && !(text[0] == ',' && text[1] != ','); text++) {
			text += text[0] == ',';
			item[n++] = *text;
		}
		text += *text == ',';
		if (strcmp(item, "help") == 0 || strcmp(item, "?") == 0) {
			l->help = true;
			continue;
		}
		static char on[] = "on"; /* what a key alone means; only flags take it */
		char *value = strchr(item, '=');
		if (value)
			*value++ = 0;
		else
			value = on;
		if (!*item)
			return err_set(e, ERR_USAGE, "Invalid parameter '%s'", item);
		if (list_append(l, STEAL(item), value, e) < 0) /* value lies in item's memory */
			return -1;
	}
	return 0;
}

void cli_option_list_free(struct cli_option_list *l)
{
	for (unsigned i = 0; i < l->count; i++)
		free(l->items[i].key);
	free(l->items);
	*l = (struct cli_option_list){0};
}

const char *cli_option_list_get(const struct cli_option_list *l, const char *key)
{
	const char *value = NULL;
	for (unsigned i = 0; i < l->count; i++)
		if (strcmp(l->items[i].key, key) == 0)
			value = l->items[i].value;
	return value;
}

/* ---- what the keys mean ---- */

typedef int set_fn(struct image_create *c, const char *key, const char *value, struct error *e);

static int bad_value(const char *key, const char *value, struct error *e)
{
	return err_set(e, ERR_USAGE, "Parameter '%s' does not accept value '%s'", key, value);
}

static int parse_bool(const char *key, const char *value, bool *out, struct error *e)
{
	if (strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 ||
		strcmp(value, "y") == 0)
		*out = true;
	else if (strcmp(value, "off") == 0 || strcmp(value, "no") == 0 || strcmp(value, "false") == 0 ||
		 strcmp(value, "n") == 0)
		*out = false;
	else
		return err_set(e, ERR_USAGE, "Parameter '%s' expects 'on' or 'off'", key);
	return 0;
}

static int parse_size(const char *key, const char *value, uint64_t *out, struct error *e)
{
	if (size_parse(value, out, e) == 0)
		return 0;
	return err_set(e, ERR_USAGE,
		"Parameter '%s' expects a non-negative number below 2^64\n"
		"Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, "
		"respectively.",
		key);
}

static int set_size(struct image_create *c, const char *key, const char *value, struct error *e)
{
	return parse_size(key, value, &c->size, e);
}

static int set_cluster_size(struct image_create *c, const char *key, const char *value, struct error *e)
{
	uint64_t size;
	if (parse_size(key, value, &size, e) < 0)
		return -1;
	if (size < 512 || size > 2048 * 1024 || (size & (size - 1)))
		return err_set(e, ERR_USAGE, "Cluster size must be a power of two between 512 and 2048k");
	c->cluster_size = (uint32_t)size;
	return 0;
}

static int set_refcount_bits(struct image_create *c, const char *key, const char *value, struct error *e)
{
	char *end;
	unsigned long bits = strtoul(value, &end, 0);
	if (*end || *value < '0' || *value > '9')
		return err_set(e, ERR_USAGE, "Parameter '%s' expects a number", key);
	if (bits < 1 || bits > 64 || (bits & (bits - 1)))
		return err_set(e, ERR_USAGE, "Refcount width must be a power of two and may not exceed 64 bits");
	c->refcount_bits = (uint32_t)bits;
	return 0;
}

static int set_compat(struct image_create *c, const char *key, const char *value, struct error *e)
{
	(void)key;
	if (strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0)
		c->version = 2;
	else if (strcmp(value, "1.1") == 0 || strcmp(value, "v3") == 0)
		c->version = 3;
	else
		return bad_value("version", value, e);
	return 0;
}

static int set_prealloc(struct image_create *c, const char *key, const char *value, struct error *e)
{
	static const char *const names[] = {
		[PREALLOC_OFF] = "off",
		[PREALLOC_METADATA] = "metadata",
		[PREALLOC_FALLOC] = "falloc",
		[PREALLOC_FULL] = "full",
	};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(value, names[i]) == 0) {
			c->prealloc = (enum prealloc)i;
			return 0;
		}
	}
	return bad_value(key, value, e);
}

static int set_compression_type(struct image_create *c, const char *key, const char *value, struct error *e)
{
	if (strcmp(value, "zlib") == 0)
		c->compression = CODEC_DEFLATE;
	else if (strcmp(value, "zstd") == 0)
		c->compression = CODEC_ZSTD;
	else
		return bad_value(key, value, e);
	return 0;
}

static int set_level(struct image_create *c, const char *key, const char *value, struct error *e)
{
	char *end;
	if (strcmp(value, "fastest") == 0) {
		c->level.level = CODEC_FASTEST;
		return 0;
	}
	long level = strtol(value, &end, 10);
	if (*end || level < 1 || level > CODEC_ZSTD_MAX_LEVEL)
		return err_set(e, ERR_USAGE, "Parameter '%s' expects 'fastest', 1..%d (zlib) or 1..%d (zstd)", key,
			CODEC_DEFLATE_MAX_LEVEL, CODEC_ZSTD_MAX_LEVEL);
	c->level.level = (int)level;
	return 0;
}

static int set_window(struct image_create *c, const char *key, const char *value, struct error *e)
{
	if (strcmp(value, "4k") != 0 && strcmp(value, "4096") != 0)
		return bad_value(key, value, e);
	c->level.small_window = true;
	return 0;
}

static int set_extended_l2(struct image_create *c, const char *key, const char *value, struct error *e)
{
	return parse_bool(key, value, &c->extended_l2, e);
}
static int set_lazy_refcounts(struct image_create *c, const char *key, const char *value, struct error *e)
{
	return parse_bool(key, value, &c->lazy_refcounts, e);
}
static int set_data_file_raw(struct image_create *c, const char *key, const char *value, struct error *e)
{
	return parse_bool(key, value, &c->data_file_raw, e);
}
static int set_data_file(struct image_create *c, const char *key, const char *value, struct error *e)
{
	(void)key, (void)e;
	c->data_file = value;
	return 0;
}
static int set_backing_file(struct image_create *c, const char *key, const char *value, struct error *e)
{
	(void)key, (void)e;
	c->backing_name = *value ? value : NULL;
	return 0;
}
static int set_backing_format(struct image_create *c, const char *key, const char *value, struct error *e)
{
	(void)key, (void)e;
	c->backing_format = *value ? value : NULL;
	return 0;
}
/* Taken for the sake of scripts: a hint for btrfs that changes nothing in the image. */
static int set_nocow(struct image_create *c, const char *key, const char *value, struct error *e)
{
	bool ignored;
	(void)c;
	return parse_bool(key, value, &ignored, e);
}
static int set_extent_size_hint(struct image_create *c, const char *key, const char *value, struct error *e)
{
	uint64_t ignored;
	(void)c;
	return parse_size(key, value, &ignored, e);
}

static int refuse_encryption(struct image_create *c, const char *key, const char *value, struct error *e)
{
	bool wanted = true;
	(void)c;
	if (strcmp(key, "encryption") == 0 && parse_bool(key, value, &wanted, e) < 0)
		return -1;
	return wanted ? err_set(e, ERR_UNSUPPORTED, "encryption is not supported (option '%s')", key) : 0;
}

enum { FOR_RAW = 1, FOR_QCOW2 = 2, IS_HIDDEN = 4, FOR_AMEND = 8 };

static const struct key_row {
	const char *key, *type, *help;
	unsigned flags;
	set_fn *set;
} key_rows[] = {
	{"backing_file", "str", "File name of a base image", FOR_QCOW2 | FOR_AMEND, set_backing_file},
	{"backing_fmt", "str", "Image format of the base image", FOR_QCOW2 | FOR_AMEND, set_backing_format},
	{"cluster_size", "size", "qcow2 cluster size", FOR_QCOW2, set_cluster_size},
	{"compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])", FOR_QCOW2 | FOR_AMEND, set_compat},
	{"compression_level", "str", "fastest, 1..12 (zlib), 1..19 (zstd); default: as small as qemu-img", FOR_QCOW2,
		set_level},
	{"compression_type", "str", "Compression method used for image cluster compression", FOR_QCOW2,
		set_compression_type},
	{"data_file", "str", "File name of an external data file", FOR_QCOW2 | FOR_AMEND, set_data_file},
	{"data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image",
		FOR_QCOW2 | FOR_AMEND, set_data_file_raw},
	{"encryption", "bool (on/off)", "", FOR_QCOW2 | IS_HIDDEN, refuse_encryption},
	{"extended_l2", "bool (on/off)", "Extended L2 tables", FOR_QCOW2, set_extended_l2},
	{"extent_size_hint", "size", "", FOR_RAW | FOR_QCOW2 | IS_HIDDEN, set_extent_size_hint},
	{"lazy_refcounts", "bool (on/off)", "Postpone refcount updates", FOR_QCOW2 | FOR_AMEND, set_lazy_refcounts},
	{"nocow", "bool (on/off)", "", FOR_RAW | FOR_QCOW2 | IS_HIDDEN, set_nocow},
	{"preallocation", "str", "Preallocation mode (allowed values: off, metadata, falloc, full)", FOR_QCOW2,
		set_prealloc},
	{"preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)", FOR_RAW, set_prealloc},
	{"refcount_bits", "num", "Width of a reference count entry in bits", FOR_QCOW2 | FOR_AMEND, set_refcount_bits},
	{"size", "size", "Virtual disk size", FOR_RAW | FOR_QCOW2 | FOR_AMEND, set_size},
	{"window", "size", "4k keeps deflate to distances that the strictest readers take", FOR_QCOW2, set_window},
};

static unsigned format_bit(enum image_format format)
{
	return format == IMAGE_QCOW2 ? FOR_QCOW2 : FOR_RAW;
}

static const struct key_row *find_row(const char *key, enum image_format format)
{
	for (size_t i = 0; i < sizeof key_rows / sizeof *key_rows; i++)
		if ((key_rows[i].flags & format_bit(format)) && strcmp(key_rows[i].key, key) == 0)
			return &key_rows[i];
	return NULL;
}

int cli_option_list_apply(const struct cli_option_list *l, struct image_create *create, bool *size_set, struct error *e)
{
	for (unsigned i = 0; i < l->count; i++) {
		const struct cli_key_value *kv = &l->items[i];
		const struct key_row *row = find_row(kv->key, create->format);
		if (!row && strncmp(kv->key, "encrypt.", 8) == 0)
			return refuse_encryption(create, kv->key, kv->value, e);
		if (!row)
			return err_set(e, ERR_USAGE, "Invalid parameter '%s'", kv->key);
		if (row->set(create, kv->key, kv->value, e) < 0)
			return -1;
		if (size_set && row->set == set_size)
			*size_set = true;
	}
	return 0;
}

int cli_option_list_check_amend(const struct cli_option_list *l, struct error *e)
{
	for (unsigned i = 0; i < l->count; i++) {
		const char *key = l->items[i].key;
		const struct key_row *row = find_row(key, IMAGE_QCOW2);
		if (!row)
			return err_set(e, ERR_USAGE, "Invalid parameter '%s'", key);
		if (!(row->flags & FOR_AMEND))
			return err_set(e, ERR_USAGE,
				"Invalid parameter '%s'\nThis option is only supported for image creation", key);
	}
	return 0;
}

static void print_rows(unsigned with, unsigned without, FILE *out)
{
	for (size_t i = 0; i < sizeof key_rows / sizeof *key_rows; i++) {
		const struct key_row *r = &key_rows[i];
		if ((r->flags & with) != with || (r->flags & without))
			continue;
		int n = fprintf(out, "  %s=<%s>", r->key, r->type);
		fprintf(out, "%*s - %s\n", n < 24 ? 24 - n : 0, "", r->help);
	}
}

void cli_option_list_help(enum image_format format, FILE *out)
{
	fprintf(out, "Supported %s options:\n", image_format_name(format));
	print_rows(format_bit(format), IS_HIDDEN, out);
}

void cli_option_list_help_amend(FILE *out)
{
	fprintf(out, "Amend options for 'qcow2':\n");
	print_rows(FOR_QCOW2 | FOR_AMEND, IS_HIDDEN, out);
}

/* ---- the line that create prints ---- */

/* qemu-img quotes nothing here except commas, which it doubles. */
static void print_value(FILE *out, const char *key, const char *value)
{
	fprintf(out, " %s=", key);
	for (; *value; value++) {
		if (*value == ',')
			fputc(',', out);
		fputc(*value, out);
	}
}

static void print_nocow(FILE *out, const struct cli_option_list *l)
{
	if (cli_option_list_get(l, "nocow"))
		print_value(out, "nocow", cli_option_list_get(l, "nocow"));
}

void cli_print_formatting(const char *name, const struct image_create *c, const struct cli_option_list *l, FILE *out)
{
	static const char *const prealloc[] = {"off", "metadata", "falloc", "full"};
	fprintf(out, "Formatting '%s', fmt=%s", name, image_format_name(c->format));
	if (c->format == IMAGE_RAW) {
		fprintf(out, " size=%" PRIu64 "", c->size);
		if (c->prealloc != PREALLOC_OFF || cli_option_list_get(l, "preallocation"))
			fprintf(out, " preallocation=%s", prealloc[c->prealloc]);
		print_nocow(out, l);
		fputc('\n', out);
		return;
	}
	fprintf(out, " cluster_size=%" PRIu32 " extended_l2=%s", c->cluster_size, c->extended_l2 ? "on" : "off");
	if (c->prealloc != PREALLOC_OFF || cli_option_list_get(l, "preallocation"))
		fprintf(out, " preallocation=%s", prealloc[c->prealloc]);
	fprintf(out, " compression_type=%s size=%" PRIu64, c->compression == CODEC_ZSTD ? "zstd" : "zlib", c->size);
	if (cli_option_list_get(l, "compat"))
		print_value(out, "compat", cli_option_list_get(l, "compat"));
	if (c->backing_name)
		print_value(out, "backing_file", c->backing_name);
	if (c->backing_format)
		print_value(out, "backing_fmt", c->backing_format);
	if (c->data_file)
		print_value(out, "data_file", c->data_file);
	if (cli_option_list_get(l, "data_file_raw"))
		fprintf(out, " data_file_raw=%s", c->data_file_raw ? "on" : "off");
	fprintf(out, " lazy_refcounts=%s refcount_bits=%" PRIu32, c->lazy_refcounts ? "on" : "off", c->refcount_bits);
	print_nocow(out, l);
	fputc('\n', out);
}

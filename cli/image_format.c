/* SPDX-License-Identifier: Apache-2.0
 *
 * --format and --compress of the verbs that make images without -o: the same names, levels and limits as there.
 */
#include "cli/cli.h"

/* zlib|zstd[:LEVEL] */
static int add_compression(const char *text, struct cli_option_list *list, struct error *e)
{
	const char *level = strchr(text, ':');
	int len = level ? (int)(level - text) : (int)strlen(text);
	AUTO_FREE char *options = mem_printf(e, "compression_type=%.*s%s%s", len, text,
		level ? ",compression_level=" : "", level ? level + 1 : "");

	if (strchr(text, ',') || len != 4 || (strncmp(text, "zlib", 4) != 0 && strncmp(text, "zstd", 4) != 0))
		return err_set(e, ERR_USAGE, "no such compression");
	return options ? cli_option_list_add(list, options, e) : -1;
}

int cli_image_format(const char *format_name, const char *compress, struct cli_option_list *list,
	struct image_create *create, struct error *e)
{
	enum image_format format;

	if (image_format_parse(format_name ? format_name : "qcow2", &format, e) < 0)
		return -1;
	if (compress && format != IMAGE_QCOW2)
		return err_set(e, ERR_USAGE, "--compress is for --format qcow2");
	image_create_defaults(create, format);
	if (compress && add_compression(compress, list, e) < 0)
		return err_set(e, ERR_USAGE, "--compress expects zlib or zstd, and a level after a colon: not '%s'",
			compress);
	if (cli_option_list_apply(list, create, NULL, e) < 0)
		return -1;
	return image_create_check(create, e);
}

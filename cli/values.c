/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of options: sizes, numbers, cache modes.
 */
#include "cli/cli.h"

#include <errno.h>

bool cli_parse_output(const struct cli *c, const char *text)
{
	if (strcmp(text, "json") == 0)
		return true;
	if (strcmp(text, "human") != 0)
		cli_usage_error(c, "--output expects 'human' or 'json' not '%s'", text);
	return false;
}

uint64_t cli_parse_size_between(const struct cli *c, const char *what, const char *text, uint64_t min, uint64_t max)
{
	struct error e;
	uint64_t bytes;
	if (size_parse(text, &bytes, &e) == 0) {
		if (bytes >= min && bytes <= max)
			return bytes;
		e.sys_errno = ERANGE;
	}
	if (e.sys_errno == ERANGE || text[0] == '-')
		cli_error(c, "Invalid %s specified. Must be between %llu and %llu.", what, (unsigned long long)min,
			(unsigned long long)max);
	else
		cli_error(c, "Invalid %s specified: '%s'.", what, text);
	exit(c->usage_status);
}

uint64_t cli_parse_size(const struct cli *c, const char *what, const char *text)
{
	return cli_parse_size_between(c, what, text, 0, INT64_MAX);
}

unsigned cli_parse_number(const struct cli *c, const char *what, const char *text, unsigned min, unsigned max)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && v >= min && v <= max)
		return (unsigned)v;
	cli_error(c, "Invalid %s specified: '%s'. Must be between %u and %u.", what, text, min, max);
	exit(c->usage_status);
}

const char *cli_target_path(const struct cli *c, const char *name)
{
	struct error e;
	const char *path = image_plain_path(name, &e);
	if (!path) {
		cli_fail(c, &e);
		exit(c->usage_status);
	}
	return path;
}

bool cli_parse_cache(const char *text, struct cli_cache *out)
{
	static const struct {
		const char *name;
		struct cli_cache cache;
	} modes[] = {
		{"none", {.direct = true}},
		{"off", {.direct = true}},
		{"directsync", {.direct = true, .dsync = true}},
		{"writeback", {0}},
		{"writethrough", {.dsync = true}},
		{"unsafe", {.no_sync = true}},
	};
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		if (strcmp(text, modes[i].name) == 0) {
			*out = modes[i].cache;
			return true;
		}
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * `diff`: which ranges of the disk differ between two states of one image, its snapshots and what it is now. From metadata
 * alone: clusters that both states share are the same, without a look at them.
 */
#include "cli/cli.h"

#include <getopt.h>

enum { DIFF_FROM = CLI_OWN, DIFF_TO, DIFF_JSON };

struct diff_args {
	struct cli_source source;
	const char *from, *to;
	bool json;
};

static void put_json(struct cli_lines *l, const struct diff_extent *x, bool first)
{
	static const char *const kinds[] = {
		[DIFF_DATA] = ", \"zero\": false, \"data\": true, \"backing\": false",
		[DIFF_ZERO] = ", \"zero\": true, \"data\": false, \"backing\": false",
		[DIFF_BACKING] = ", \"zero\": false, \"data\": true, \"backing\": true",
		[DIFF_GONE] = ", \"zero\": false, \"data\": false, \"backing\": false",
	};
	if (first)
		CLI_PUT(l, "[{ \"start\": ");
	else
		CLI_PUT(l, ",\n{ \"start\": ");
	cli_put_number(l, x->start);
	CLI_PUT(l, ", \"length\": ");
	cli_put_number(l, x->end - x->start);
	cli_put(l, kinds[x->kind], strlen(kinds[x->kind]));
	if (x->added)
		CLI_PUT(l, ", \"from\": false, \"to\": true}");
	else if (x->kind == DIFF_GONE)
		CLI_PUT(l, ", \"from\": true, \"to\": false}");
	else
		CLI_PUT(l, ", \"from\": true, \"to\": true}");
}

static void put_text(struct cli_lines *l, const struct diff_extent *x, const struct diff_args *a)
{
	static const char *const kinds[] = {"data", "zero", "backing", "gone"};
	const char *only = x->added ? a->to : x->kind == DIFF_GONE ? a->from : NULL;
	cli_put_hex(l, x->start);
	cli_put_hex(l, x->end - x->start);
	cli_put(l, kinds[x->kind], strlen(kinds[x->kind]));
	if (only) {
		CLI_PUT(l, ", only in ");
		cli_put(l, only, min_u64(strlen(only), 128));
	}
	CLI_PUT(l, "\n");
}

static int print_all(struct diff *d, const struct diff_args *a, struct error *e)
{
	struct cli_lines lines;
	struct diff_extent x = {.end = 0};
	bool first = true;
	int more;
	if (cli_lines_init(&lines, e) < 0)
		return -1;
	if (!a->json)
		printf("%-16s%-16s%s\n", "Offset", "Length", "Kind");
	while ((more = diff_next(d, x.end, UINT64_MAX, &x, e)) > 0) {
		cli_lines_next(&lines);
		if (a->json)
			put_json(&lines, &x, first);
		else
			put_text(&lines, &x, a);
		first = false;
	}
	cli_lines_end(&lines);
	if (a->json && more == 0)
		puts(first ? "[]" : "]");
	return more;
}

/* What a name means that is neither "active" nor "backing": snapshots with these names have "name=" before them. */
static int find_state(const struct cli *c, const struct qcow2 *q, const char *text, struct qcow2_state *out,
	struct error *e)
{
	struct snapshot_query query;
	if (strcmp(text, "active") == 0) {
		qcow2_state_active(q, out);
		return 0;
	}
	cli_snapshot_name(c, text, &query);
	int index = qcow2_snapshot_find(q, &query, e);
	return index < 0 ? -1 : qcow2_state_of_snapshot(q, (uint32_t)index, out, e);
}

static int find_states(const struct cli *c, const struct qcow2 *q, const struct diff_args *a, struct qcow2_state *from,
	struct qcow2_state *to, struct error *e)
{
	if (find_state(c, q, a->to, to, e) < 0)
		return -1;
	if (strcmp(a->from, "backing") != 0)
		return find_state(c, q, a->from, from, e);
	*from = (struct qcow2_state){.size = to->size, .snapshot = -1};
	return 0;
}

static int print_diff(const struct cli *c, const struct chain *image, const struct diff_args *a, struct error *e)
{
	const struct qcow2 *q = image->layers[0].q;
	struct qcow2_state from, to;
	struct diff *d;
	if (!q)
		return err_set(e, ERR_UNSUPPORTED, "%s: a raw image has no snapshots and no backing file",
			image->layers[0].path);
	if (find_states(c, q, a, &from, &to, e) < 0)
		return err_prefix(e, "%s", image->layers[0].path);
	if (diff_new(&d, image, &from, &to, e) < 0)
		return -1;
	int r = print_all(d, a, e);
	diff_free(d);
	if (r == 0 && (qcow2_state_verify(q, &from, e) < 0 || qcow2_state_verify(q, &to, e) < 0))
		return err_prefix(e, "%s", image->layers[0].path);
	return r;
}

static void parse(const struct cli *c, int argc, char **argv, struct diff_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case DIFF_FROM:
			a->from = arg;
			break;
		case DIFF_TO:
			a->to = arg;
			break;
		case DIFF_JSON:
			a->json = true;
			break;
		case CLI_OUTPUT:
			a->json = cli_parse_output(c, arg);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
	if (!a->from)
		cli_usage_error(c, "Say with --from what to compare with: a snapshot, or backing");
	if (strcmp(a->to, "backing") == 0)
		cli_usage_error(c, "--to takes a snapshot or active");
}

static int diff_run(struct cli *c, int argc, char **argv)
{
	struct diff_args a = {.to = "active"};
	struct chain_opts opts;
	struct error e;
	AUTO_CHAIN struct chain *image = NULL;

	parse(c, argc, argv, &a);
	if (cli_source_opts(c, &a.source, argv[optind], NULL, &opts) < 0 ||
		cli_open(c, argv[optind], &opts, &image) < 0)
		return 1;
	return print_diff(c, image, &a, &e) < 0 ? cli_fail(c, &e) : 0;
}

static const struct cli_option diff_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{DIFF_FROM, "from", "STATE",
		"the earlier state: a snapshot, active, or backing for what the image has of its own"},
	{DIFF_TO, "to", "STATE", "the later state, which is what is told of: a snapshot or active (default)"},
	CLI_ROW_FORCE_SHARE,
	{DIFF_JSON, "json", NULL, "the same as --output json"},
	CLI_ROW_OUTPUT,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_diff = {
	.name = "diff",
	.summary = "Tell which ranges of a disk differ between two states of an image",
	.arguments = "--from STATE FILENAME",
	.options = diff_options,
	.run = diff_run,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * `images`: what the image service has.
 */
#include "cli/store.h"

#include <getopt.h>

enum { OPT_ALL = CLI_STORE_OWN };

static const struct cli_option options[] = {
	CLI_ROW_HELP,
	{OPT_ALL, "all", NULL, "hidden images, too, as increments are, behind the others"},
	CLI_ROW_JSON_OBJECT,
	CLI_ROW_CLOUD,
	CLI_ROW_INSECURE,
	CLI_ROW_TIMEOUT,
	CLI_ROW_RETRIES,
	CLI_ROW_END,
};

static int print_line(void *ctx, const struct store_image *i, struct error *e)
{
	char size[32];
	(void)ctx, (void)e;
	printf("%-36s  %-9s  %-7s  %10s  %s%s\n", i->id, i->status, i->format ? i->format : "-",
		i->has_size ? size_format(i->size, size) : "-", i->name ? i->name : "", i->hidden ? " (hidden)" : "");
	return 0;
}

static int print_object(void *ctx, const struct store_image *i, struct error *e)
{
	(void)e;
	cli_store_json(ctx, NULL, i);
	return 0;
}

/* A service lists what is hidden in an answer of its own. */
static int list_all(struct cli_store *s, bool all, store_image_fn *each, void *ctx, struct error *e)
{
	int r = store_list(s->store, false, each, ctx, e);

	return r == 0 && all ? store_list(s->store, true, each, ctx, e) : r;
}

static int list(struct cli_store *s, bool all, struct error *e)
{
	struct json j;

	if (!s->json) {
		printf("%-36s  %-9s  %-7s  %10s  %s\n", "ID", "STATUS", "FORMAT", "SIZE", "NAME");
		return list_all(s, all, print_line, NULL, e);
	}
	json_init(&j, stdout, false);
	json_array_begin(&j, NULL);
	int r = list_all(s, all, print_object, &j, e);
	json_array_end(&j);
	putchar('\n');
	return r;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct cli_store s;
	struct error e;
	bool all = false;
	const char *arg;
	int id;

	cli_store_init(&s, c);
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		all |= !cli_store_option(&s, id, arg) && id == OPT_ALL;
	if (argc != optind)
		cli_usage_error(c, "Expecting no operand");
	int failed = cli_store_begin(&s, &e);
	if (!failed)
		failed = list(&s, all, &e);
	return cli_store_end(&s, failed, &e);
}

const struct cli_command cli_images = {
	.name = "images",
	.summary = "Lists the images of an OpenStack image service",
	.arguments = "",
	.options = options,
	.run = run,
	.own_name = true,
};

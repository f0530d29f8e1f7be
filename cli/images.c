/* SPDX-License-Identifier: Apache-2.0
 *
 * `images`: what the image service has.
 */
#include "cli/store.h"

#include <getopt.h>

static const struct cli_option options[] = {
	CLI_ROW_HELP,
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
	printf("%-36s  %-9s  %-7s  %10s  %s\n", i->id, i->status, i->format ? i->format : "-",
		i->has_size ? size_format(i->size, size) : "-", i->name ? i->name : "");
	return 0;
}

static int print_object(void *ctx, const struct store_image *i, struct error *e)
{
	(void)e;
	cli_store_json(ctx, NULL, i);
	return 0;
}

static int list(struct cli_store *s, struct error *e)
{
	struct json j;

	if (!s->json) {
		printf("%-36s  %-9s  %-7s  %10s  %s\n", "ID", "STATUS", "FORMAT", "SIZE", "NAME");
		return store_list(s->store, print_line, NULL, e);
	}
	json_init(&j, stdout, false);
	json_array_begin(&j, NULL);
	int r = store_list(s->store, print_object, &j, e);
	json_array_end(&j);
	putchar('\n');
	return r;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct cli_store s;
	struct error e;
	const char *arg;
	int id;

	cli_store_init(&s, c);
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		cli_store_option(&s, id, arg);
	if (argc != optind)
		cli_usage_error(c, "Expecting no operand");
	int failed = cli_store_begin(&s, &e);
	if (!failed)
		failed = list(&s, &e);
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

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the verbs that speak to the image service share.
 */
#include "cli/store.h"

static void on_told(void *ctx, bool important, const char *text)
{
	struct cli_store *s = ctx;
	if (important && !s->quiet) {
		cli_progress_break(&s->progress);
		cli_error(s->cli, "%s", text);
	} else {
		cli_verbose(s->cli, "%s", text);
	}
}

void cli_store_init(struct cli_store *s, struct cli *c)
{
	*s = (struct cli_store){.cli = c};
	s->opts = (struct store_opts){.timeout_seconds = CLI_STORE_TIMEOUT_SECONDS,
		.retries = CLI_STORE_RETRIES_DEFAULT,
		.told = on_told,
		.told_ctx = s};
}

bool cli_store_option(struct cli_store *s, int id, const char *arg)
{
	switch (id) {
	case CLI_STORE_CLOUD:
		s->opts.cloud = arg;
		return true;
	case CLI_STORE_INSECURE:
		s->opts.insecure = true;
		return true;
	case CLI_STORE_TIMEOUT:
		s->opts.timeout_seconds = cli_parse_number(s->cli, "number of seconds", arg, 1, 86400);
		return true;
	case CLI_STORE_RETRIES:
		s->opts.retries = cli_parse_number(s->cli, "number of retries", arg, 0, 1000);
		return true;
	case 'r':
		s->opts.rate = cli_parse_size(s->cli, "rate limit", arg);
		return true;
	case 'p':
		s->progress_kind = cli_parse_progress(s->cli, arg);
		return true;
	case 'q':
		s->quiet = true;
		return true;
	case CLI_JSON:
		s->json = true;
		return true;
	default:
		return false;
	}
}

int cli_store_begin(struct cli_store *s, struct error *e)
{
	/* what reads a stranger's image is confined to files, and has no network */
	if (s->cli->untrusted)
		return err_set(e, ERR_UNSUPPORTED,
			"--untrusted is not for the image service: convert the image by `--untrusted convert` first");
	cli_progress_begin_steps(&s->progress, s->cli, s->quiet ? CLI_PROGRESS_NONE : s->progress_kind);
	s->opts.cancel = s->progress.base.cancel;
	return store_open(&s->store, &s->opts, e);
}

int cli_store_end(struct cli_store *s, int failed, const struct error *e)
{
	store_close(s->store);
	s->store = NULL;
	if (s->progress.cli) {
		cli_progress_break(&s->progress);
		cli_progress_end(&s->progress, !failed);
	}
	return failed ? cli_status_after_signal(cli_fail(s->cli, e)) : 0;
}

static void text_or_nothing(struct json *j, const char *key, const char *value)
{
	if (value)
		json_string(j, key, value);
}

void cli_store_json(struct json *j, const char *key, const struct store_image *i)
{
	json_object_begin(j, key);
	json_string(j, "id", i->id);
	text_or_nothing(j, "name", i->name);
	json_string(j, "status", i->status);
	text_or_nothing(j, "visibility", i->visibility);
	json_bool(j, "os_hidden", i->hidden);
	text_or_nothing(j, "disk_format", i->format);
	text_or_nothing(j, "container_format", i->container);
	if (i->has_size)
		json_uint(j, "size", i->size);
	if (i->has_virtual_size)
		json_uint(j, "virtual_size", i->virtual_size);
	json_uint(j, "min_disk", i->min_disk);
	json_uint(j, "min_ram", i->min_ram);
	text_or_nothing(j, "checksum", i->checksum);
	text_or_nothing(j, "os_hash_algo", i->hash_algorithm);
	text_or_nothing(j, "os_hash_value", i->hash);
	text_or_nothing(j, "created_at", i->created);
	json_object_end(j);
}

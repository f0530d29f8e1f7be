/* SPDX-License-Identifier: Apache-2.0
 *
 * How a source image is opened: what -f, -T, -U, -l and --untrusted say, as chain options.
 */
#include "cli/cli.h"

int cli_parse_snapshot(const char *text, struct snapshot_query *query, struct error *e)
{
	static const char prefix[] = "snapshot.";
	*query = (struct snapshot_query){0};
	if (strncmp(text, prefix, strlen(prefix)) != 0) {
		query->any = text;
		return 0;
	}
	struct cli_option_list list = {0};
	if (cli_option_list_add(&list, text, e) < 0)
		return -1;
	for (unsigned i = 0; i < list.count; i++) {
		const struct cli_key_value *kv = &list.items[i];
		if (strcmp(kv->key, "snapshot.id") == 0)
			query->id = kv->value;
		else if (strcmp(kv->key, "snapshot.name") == 0)
			query->name = kv->value;
		else
			return err_set(e, ERR_USAGE, "Invalid parameter '%s'", kv->key);
	}
	return 0; /* the list lives on: the query points into it */
}

int cli_source_opts(const struct cli *c, const struct cli_source *s, const char *name, struct snapshot_query *query,
	struct chain_opts *out)
{
	struct error e;
	struct cli_cache cache = {0};

	*out = (struct chain_opts){
		.lock = s->force_share ? IO_LOCK_SHARED : IO_LOCK_READ,
		.untrusted = c->untrusted,
		.max_virtual_size = c->untrusted ? c->limits.virtual_size : 0,
	};
	if (c->untrusted && !s->format) {
		cli_error(c, "--untrusted needs the image's format: say -f raw or -f qcow2");
		return -1;
	}
	if (s->cache && !cli_parse_cache(s->cache, &cache)) {
		cli_error(c, "Invalid source cache option: %s", s->cache);
		return -1;
	}
	out->direct = cache.direct;
	if (s->format && image_format_parse(s->format, &out->format, &e) < 0) {
		cli_error(c, "Could not open '%s': %s", name, e.msg);
		return -1;
	}
	if (s->snapshot) {
		if (cli_parse_snapshot(s->snapshot, query, &e) < 0) {
			cli_error(c, "Failed in parsing snapshot param '%s'", s->snapshot);
			return -1;
		}
		out->snapshot = query;
	}
	return 0;
}

int cli_open(const struct cli *c, const char *name, const struct chain_opts *opts, struct chain **out)
{
	struct error e;
	if (chain_open(out, name, opts, &e) < 0) {
		cli_fail(c, &e); /* it says "Could not open 'NAME'" itself */
		return -1;
	}
	for (unsigned i = 0; i < (*out)->count; i++) {
		const struct layer *l = &(*out)->layers[i];
		if (l->probed)
			cli_verbose(c, "%s: format %s was probed", l->path, image_format_name(l->format));
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * How a source image is opened: what -f, -T, -U, -l and --untrusted say, as chain options.
 */
#include "cli/cli.h"

bool cli_source_option(struct cli_source *s, int id, const char *arg)
{
	switch (id) {
	case 'f':
		s->format = arg;
		return true;
	case 'T':
		s->cache = arg;
		return true;
	case 'U':
		s->force_share = true;
		return true;
	case 'l':
		s->snapshot = arg;
		return true;
	default:
		return false;
	}
}

void cli_snapshot_name(const struct cli *c, const char *text, struct snapshot_query *query)
{
	*query = (struct snapshot_query){.refuse_ambiguous = !c->drop_in};
	if (!c->drop_in && strncmp(text, "id=", 3) == 0)
		query->id = text + 3;
	else if (!c->drop_in && strncmp(text, "name=", 5) == 0)
		query->name = text + 5;
	else
		query->any = text;
}

int cli_parse_snapshot(const struct cli *c, const char *text, struct snapshot_query *query, struct error *e)
{
	static const char prefix[] = "snapshot.";
	cli_snapshot_name(c, text, query);
	if (strncmp(text, prefix, strlen(prefix)) != 0)
		return 0;
	query->any = NULL;
	static struct cli_option_list list; /* the query points into it */
	cli_option_list_free(&list);
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
	return 0;
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
	out->unsafe = cache.no_sync;
	if (s->format && image_format_parse(s->format, &out->format, &e) < 0) {
		cli_error(c, "Could not open '%s': %s", name, e.msg);
		return -1;
	}
	if (s->snapshot) {
		if (cli_parse_snapshot(c, s->snapshot, query, &e) < 0) {
			cli_error(c, "Failed in parsing snapshot param '%s'", s->snapshot);
			return -1;
		}
		out->snapshot = query;
	}
	return 0;
}

int cli_write_opts(const struct cli *c, const struct cli_source *s, const char *name, struct chain_opts *out)
{
	struct cli_access access = {.path = name, .write = true};

	if (cli_source_opts(c, s, name, NULL, out) < 0 || cli_confine(c, &access, 1) < 0)
		return -1;
	out->write = true;
	out->lock = s->force_share || out->format == IMAGE_RAW ? IO_LOCK_WRITE_RAW : IO_LOCK_WRITE;
	return 0;
}

void cli_warn_probed(const struct chain *image)
{
	const struct layer *top = &image->layers[0];

	if (top->probed && !top->q)
		fprintf(stderr,
			"WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
			"         Automatically detecting the format is dangerous for raw images, write operations on "
			"block 0 will be restricted.\n"
			"         Specify the 'raw' format explicitly to remove the restrictions.\n",
			top->path);
}

int cli_open(const struct cli *c, const char *name, const struct chain_opts *opts, struct chain **out)
{
	struct error e;
	struct cli_access access = {.path = name, .write = opts->write};
	if (cli_confine(c, &access, 1) < 0)
		return -1;
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

/* Guest bytes that tables claim to hold data; each cluster of the file may be claimed many times. */
static int count_data(struct chain *image, uint64_t limit, uint64_t *bytes, struct error *e)
{
	struct walk *w;
	struct extent x;
	int r = walk_new(&w, image, image->count, 0, e);
	if (r < 0)
		return -1;
	*bytes = 0;
	for (uint64_t pos = 0; r == 0 && pos < image->size && *bytes <= limit; pos = x.start + x.len) {
		r = walk_extent(w, pos, image->size, &x, e);
		if (r == 0 && (x.kind == EXTENT_DATA || x.kind == EXTENT_COMPRESSED))
			*bytes += x.len;
	}
	walk_free(w);
	return r;
}

int cli_check_expansion(const struct cli *c, const char *name, struct chain *image)
{
	static const uint64_t small = 256 << 20; /* not worth a thought */
	struct error e;
	uint64_t bytes, limit;

	if (!c->untrusted)
		return 0;
	if (mul_overflows(image->layers[0].file->size, c->limits.expansion, &limit))
		return 0;
	limit = max_u64(limit, small);
	if (count_data(image, limit, &bytes, &e) < 0) {
		cli_fail(c, &e);
		return -1;
	}
	if (bytes <= limit)
		return 0;
	cli_error(c, "'%s' is %llu bytes long and claims to hold more than %llu times as much data (--max-expansion)",
		name, (unsigned long long)image->layers[0].file->size, (unsigned long long)c->limits.expansion);
	return -1;
}

int cli_admit(const struct cli *c, const struct convert_source *sources, unsigned n, const struct cli_access *others,
	unsigned other_count)
{
	struct error e;
	if (!c->untrusted)
		return 0;
	AUTO_FREE struct cli_access *access = mem_calloc(n + other_count, sizeof *access, "paths", &e);
	if (!access) {
		cli_fail(c, &e);
		return -1;
	}
	for (unsigned i = 0; i < n; i++)
		access[i].path = sources[i].name;
	memcpy(access + n, others, other_count * sizeof *access);
	if (cli_confine(c, access, n + other_count) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		AUTO_CHAIN struct chain *image = NULL;
		if (cli_open(c, sources[i].name, &sources[i].open, &image) < 0 ||
			cli_check_expansion(c, sources[i].name, image) < 0)
			return -1;
	}
	return 0;
}

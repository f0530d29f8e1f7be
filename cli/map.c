/* SPDX-License-Identifier: Apache-2.0
 *
 * `map`: where the bytes of a disk lie, through the whole chain. One walk over the metadata, nothing is kept.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

/* One row: what has the same properties and follows on itself. */
struct row {
	uint64_t start, len, host;
	const struct io *file;
	unsigned depth;
	bool present, zero, data, compressed, has_host;
};

struct printer {
	bool json;
	bool first;
	struct row row; /* not yet printed, len 0: none */
	struct cli_lines lines;
};

static void put_json(struct printer *p, const struct row *r)
{
	struct cli_lines *l = &p->lines;
	if (p->first)
		CLI_PUT(l, "[{ \"start\": ");
	else
		CLI_PUT(l, ",\n{ \"start\": ");
	p->first = false;
	cli_put_number(l, r->start);
	CLI_PUT(l, ", \"length\": ");
	cli_put_number(l, r->len);
	CLI_PUT(l, ", \"depth\": ");
	cli_put_number(l, r->depth);
	CLI_PUT(l, ", \"present\": ");
	cli_put_bool(l, r->present);
	CLI_PUT(l, ", \"zero\": ");
	cli_put_bool(l, r->zero);
	CLI_PUT(l, ", \"data\": ");
	cli_put_bool(l, r->data);
	CLI_PUT(l, ", \"compressed\": ");
	cli_put_bool(l, r->compressed);
	if (r->has_host) {
		CLI_PUT(l, ", \"offset\": ");
		cli_put_number(l, r->host);
	}
	CLI_PUT(l, "}");
}

static int print_row(struct printer *p, struct error *e)
{
	const struct row *r = &p->row;
	cli_lines_next(&p->lines);
	if (p->json) {
		put_json(p, r);
		return 0;
	}
	if (r->data && !r->has_host)
		return err_set(e, ERR_UNSUPPORTED, "File contains external, encrypted or compressed clusters.");
	if (r->data && !r->zero)
		printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", r->start, r->len, r->host, r->file->name);
	return 0;
}

/* ---- rows from extents ---- */

static struct row row_of(const struct extent *x)
{
	struct row r = {.start = x->start, .len = x->len, .depth = x->depth};
	r.compressed = x->kind == EXTENT_COMPRESSED;
	r.data = x->kind == EXTENT_DATA || r.compressed || x->hole;
	r.zero = x->kind == EXTENT_ZERO || x->kind == EXTENT_ABSENT;
	r.present = x->kind != EXTENT_ABSENT;
	r.has_host = x->has_host && !r.compressed;
	if (r.has_host) {
		r.host = x->host;
		r.file = x->file;
	}
	return r;
}

static bool continues(const struct row *r, const struct row *next)
{
	return r->present == next->present && r->zero == next->zero && r->data == next->data &&
	       r->compressed == next->compressed && r->depth == next->depth && r->has_host == next->has_host &&
	       r->file == next->file && (!r->has_host || r->host + r->len == next->host);
}

static int add_extent(struct printer *p, const struct extent *x, struct error *e)
{
	struct row next = row_of(x);
	if (p->row.len && continues(&p->row, &next)) {
		p->row.len += next.len;
		return 0;
	}
	if (p->row.len && print_row(p, e) < 0)
		return -1;
	p->row = next;
	return 0;
}

static int print_all(struct printer *p, struct chain *image, uint64_t start, uint64_t end, struct error *e)
{
	struct walk *w;
	if (walk_new(&w, image, image->count, WALK_FILE_HOLES, e) < 0)
		return -1;
	int r = 0;
	p->row.start = start;
	for (uint64_t pos = start; r == 0 && pos < end;) {
		struct extent x;
		r = walk_extent(w, pos, end, &x, e);
		if (r == 0)
			r = add_extent(p, &x, e);
		pos += x.len;
	}
	walk_free(w);
	/* an empty range has its one row, too */
	return r < 0 ? r : print_row(p, e);
}

static int print_map(struct printer *p, struct chain *image, uint64_t start, uint64_t max_len, struct error *e)
{
	uint64_t end = image->size;
	if (start < end)
		end = start + min_u64(max_len, end - start);
	if (cli_lines_init(&p->lines, e) < 0)
		return -1;
	if (!p->json)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	int r = print_all(p, image, start, end, e);
	cli_lines_end(&p->lines);
	if (p->json && r == 0)
		puts("]");
	return r;
}

static int map_run(struct cli *c, int argc, char **argv)
{
	struct cli_source source = {0};
	struct printer p = {.first = true};
	uint64_t start = 0, max_len = INT64_MAX;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 's':
			start = cli_parse_size(c, "start offset", arg);
			break;
		case 'l':
			max_len = cli_parse_size(c, "max length", arg);
			break;
		case CLI_OUTPUT:
			p.json = cli_parse_output(c, arg);
			break;
		default:
			cli_source_option(&source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");

	struct chain_opts opts;
	struct error e;
	AUTO_CHAIN struct chain *image = NULL;
	if (cli_source_opts(c, &source, argv[optind], NULL, &opts) < 0 || cli_open(c, argv[optind], &opts, &image) < 0)
		return 1;
	return print_map(&p, image, start, max_len, &e) < 0 ? cli_fail(c, &e) : 0;
}

static const struct cli_option map_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'s', "start-offset", "OFFSET", "begin at this byte of the disk"},
	{'l', "max-length", "LENGTH", "end after this many bytes"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_OUTPUT,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_map = {
	.name = "map",
	.summary = "Tell where the bytes of a disk lie",
	.arguments = "FILENAME",
	.options = map_options,
	.run = map_run,
};

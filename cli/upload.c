/* SPDX-License-Identifier: Apache-2.0
 *
 * `upload`: an image straight into the image service: flattened, compressed, hashed and sent in one pass, and what arrived
 * compared. The only place where a store meets a conversion.
 */
#include "cli/upload.h"

#include <getopt.h>

enum {
	OPT_NAME = CLI_STORE_OWN,
	OPT_FORMAT,
	OPT_COMPRESS,
	OPT_PROPERTY,
	OPT_MIN_DISK,
	OPT_MIN_RAM,
	OPT_VISIBILITY,
	OPT_IMAGE_ID,
	OPT_VIA,
	OPT_TWO_PASS,
	OPT_SPOOL_DIR,
	OPT_THREADS,
};

static const struct cli_option options[] = {
	CLI_ROW_HELP,
	{OPT_NAME, "name", "NAME", "name of the new image (default: the file's, without its suffix)"},
	{OPT_FORMAT, "format", "FMT", "format of what is uploaded: qcow2 (default) or raw"},
	{OPT_COMPRESS, "compress", "HOW", "compress: zlib or zstd, with a level after a colon"},
	{'f', "source-format", "FMT", "format of the source: raw or qcow2 (default: probe)"},
	{'l', "snapshot", "SNAPSHOT", "read this internal snapshot, at its own size"},
	{'T', "source-cache", "CACHE", "cache mode of the source: writeback (default) or none"},
	CLI_ROW_FORCE_SHARE,
	{OPT_PROPERTY, "property", "KEY=VALUE", "a property of the new image; may be given again"},
	{OPT_MIN_DISK, "min-disk", "GIB", "smallest disk, in GiB, that the image fits"},
	{OPT_MIN_RAM, "min-ram", "MIB", "smallest memory, in MiB, that it runs with"},
	{OPT_VISIBILITY, "visibility", "VISIBILITY", "private (default), shared, community or public"},
	{OPT_IMAGE_ID, "image-id", "ID", "fill this record, which exists and has no data yet"},
	{OPT_VIA, "via", "WAY", "put (default), or import: by the service's staging area"},
	{OPT_TWO_PASS, "two-pass", NULL, "with --compress: compress twice and need no spool"},
	{OPT_SPOOL_DIR, "spool-dir", "DIR",
		"with --compress: where compressed bytes wait (default: TMPDIR, else /var/tmp)"},
	{'r', "rate", "RATE", "bytes a second at most"},
	{OPT_THREADS, "threads", "N", "number of threads; 0: do all on one (default: the processors)"},
	CLI_ROW_CLOUD,
	CLI_ROW_INSECURE,
	CLI_ROW_TIMEOUT,
	CLI_ROW_RETRIES,
	CLI_ROW_JSON_OBJECT,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_END,
};

/* ---- options ---- */

static void parse_record_option(struct upload_args *a, int id, const char *arg)
{
	const struct cli *c = a->store.cli;
	struct store_record *r = &a->record;
	struct error e;

	switch (id) {
	case OPT_NAME:
		r->name = arg;
		break;
	case OPT_PROPERTY:
		if (upload_add_property(a, arg, &e) < 0)
			cli_usage_error(c, "%s", e.msg);
		break;
	case OPT_MIN_DISK:
		r->min_disk = cli_parse_number(c, "number of GiB", arg, 0, INT32_MAX);
		r->has_min_disk = true;
		break;
	case OPT_MIN_RAM:
		r->min_ram = cli_parse_number(c, "number of MiB", arg, 0, INT32_MAX);
		r->has_min_ram = true;
		break;
	case OPT_VISIBILITY:
		if (strcmp(arg, "private") && strcmp(arg, "shared") && strcmp(arg, "community") &&
			strcmp(arg, "public"))
			cli_usage_error(c, "--visibility expects private, shared, community or public, not '%s'", arg);
		r->visibility = arg;
		break;
	case OPT_IMAGE_ID:
		r->id = arg;
		break;
	case OPT_VIA:
		if (strcmp(arg, "put") != 0 && strcmp(arg, "import") != 0)
			cli_usage_error(c, "--via expects put or import, not '%s'", arg);
		r->via = strcmp(arg, "import") == 0 ? STORE_IMPORT : STORE_PUT;
		break;
	}
}

static void parse_work_option(struct upload_args *a, int id, const char *arg)
{
	switch (id) {
	case OPT_FORMAT:
		a->format = arg;
		break;
	case OPT_COMPRESS:
		a->compress = arg;
		break;
	case OPT_TWO_PASS:
		a->convert.two_pass = true;
		break;
	case OPT_SPOOL_DIR:
		a->convert.spool_dir = arg;
		break;
	case OPT_THREADS:
		a->convert.threads = cli_parse_number(a->store.cli, "number of threads", arg, 0, 256);
		break;
	}
}

/* "web" of "/images/web.qcow2" */
static int name_of_file(struct upload_args *a, struct error *e)
{
	const char *slash = strrchr(a->image, '/'), *base = slash ? slash + 1 : a->image, *dot = strrchr(base, '.');
	a->name = mem_printf(e, "%.*s", dot && dot > base ? (int)(dot - base) : (int)strlen(base), base);
	a->record.name = a->name;
	return a->name ? 0 : -1;
}

static void check(struct upload_args *a)
{
	const struct cli *c = a->store.cli;
	const bool pipe = strcmp(a->image, "-") == 0;

	if ((a->convert.two_pass || a->convert.spool_dir) && !a->compress)
		cli_usage_error(c, "--two-pass and --spool-dir are for --compress");
	if (!pipe)
		return;
	if (!a->format)
		cli_usage_error(c, "Standard input needs --format: what its bytes are");
	if (a->compress || a->source.format || a->source.snapshot)
		cli_usage_error(c, "Standard input passes as it is: no --compress, -f or -l");
	if (!a->record.name && !a->record.id)
		cli_usage_error(c, "Standard input needs --name");
}

static void parse(struct upload_args *a, int argc, char **argv)
{
	const struct cli *c = a->store.cli;
	const char *arg;
	struct error e;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		if (cli_store_option(&a->store, id, arg) || cli_source_option(&a->source, id, arg))
			continue;
		parse_record_option(a, id, arg);
		parse_work_option(a, id, arg);
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name, or -");
	a->image = argv[optind];
	check(a);
	if (cli_image_format(a->format, a->compress, &a->list, &a->convert.create, &e) < 0)
		cli_usage_error(c, "%s", e.msg);
	a->convert.compress = a->compress != NULL;
	a->record.format = image_format_name(a->convert.create.format);
	if (!a->record.name && !a->record.id && name_of_file(a, &e) < 0)
		cli_usage_error(c, "%s", e.msg);
}

/* ---- the work ---- */

static int send_image(struct upload_args *a, struct io_stream *out, uint64_t *virtual_size, struct error *e)
{
	struct convert_result result;

	if (strcmp(a->image, "-") == 0)
		return upload_pipe(a, out, virtual_size, e);
	cli_progress_step(&a->store.progress, "upload", NULL);
	a->convert.stream = out;
	int r = convert_run(&a->convert, &result, e);
	*virtual_size = result.virtual_size;
	return r;
}

static int attempt(struct upload_args *a, struct store_image *image, struct error *e)
{
	struct store_upload *u;
	uint64_t virtual_size;
	char *left;

	if (store_upload_new(&u, a->store.store, &a->record, e) < 0)
		return -1;
	int r = send_image(a, store_upload_stream(u), &virtual_size, e);
	if (r == 0) {
		cli_progress_step(&a->store.progress, "verify", NULL);
		r = store_upload_verify(u, virtual_size, image, e);
	}
	store_upload_close(u, r == 0, &left);
	if (left)
		err_prefix(e, "image %s was begun and is still there: delete it", left);
	free(left);
	return r;
}

/* What may pass is tried again, from the source's first byte. Standard input can be read once. */
static int upload(struct upload_args *a, struct store_image *image, struct error *e)
{
	const bool pipe = strcmp(a->image, "-") == 0;

	if (a->convert.compress && !a->convert.two_pass && !a->store.quiet)
		cli_error(a->store.cli,
			"the compressed bytes wait in %s until their number is known (--two-pass needs no room)",
			a->convert.spool_dir ? a->convert.spool_dir
			: getenv("TMPDIR")   ? getenv("TMPDIR")
					     : "/var/tmp");
	for (unsigned failed = 0;;) {
		int r = attempt(a, image, e);
		if (r == 0 || pipe || e->code != ERR_PASSING || failed++ == a->store.opts.retries)
			return r;
		if (store_wait(a->store.store, failed, e, e) < 0)
			return -1;
	}
}

static void print(const struct upload_args *a, const struct store_image *image)
{
	struct json j;
	char size[32], disk[32];

	if (a->store.json) {
		json_init(&j, stdout, false);
		cli_store_json(&j, NULL, image);
		putchar('\n');
	} else if (!a->store.quiet) {
		printf("%s  %s: %s, %s of a disk of %s\n", image->id, image->name ? image->name : "", image->format,
			size_format(image->size, size), size_format(image->virtual_size, disk));
	}
}

static void warn(void *ctx, const char *text)
{
	cli_error(ctx, "warning: %s", text);
}

static int work(struct upload_args *a, struct error *e)
{
	struct store_image image = {0};

	a->from.name = a->image;
	a->convert.sources = &a->from;
	a->convert.source_count = 1;
	a->convert.target = "-";
	a->convert.warn = warn;
	a->convert.warn_ctx = a->store.cli;
	if (cli_store_begin(&a->store, e) < 0)
		return -1;
	a->convert.progress = &a->store.progress.base;
	int r = upload(a, &image, e);
	cli_progress_break(&a->store.progress);
	if (r == 0)
		print(a, &image);
	store_image_free(&image);
	return r;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct upload_args a = {0};
	struct error e;
	int status = 1;

	cli_store_init(&a.store, c);
	convert_defaults(&a.convert);
	parse(&a, argc, argv);
	if (strcmp(a.image, "-") == 0 || cli_source_opts(c, &a.source, a.image, &a.query, &a.from.open) == 0)
		status = cli_store_end(&a.store, work(&a, &e), &e);
	upload_free_properties(&a);
	cli_option_list_free(&a.list);
	free(a.name);
	return status;
}

const struct cli_command cli_upload = {
	.name = "upload",
	.summary = "Streams an image into an OpenStack image service, flattened, and verifies what arrived",
	.arguments = "IMAGE|-",
	.options = options,
	.run = run,
	.own_name = true,
};

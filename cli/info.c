/* SPDX-License-Identifier: Apache-2.0
 *
 * `info`: what an image is, from its metadata alone; no backing file and no data file is opened, except that --backing-chain
 * goes on with the backing files one by one. The same texts and the same order of keys as qemu-img 10.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

enum { MAX_CHAIN = 200, MOST_TABLES = 1 << 30 /* bytes, read for what snapshots take */ };

/* One file as it is told about. */
struct report {
	const struct layer *layer;
	uint64_t actual; /* bytes taken on disk */
	uint32_t extent_size_hint;
	char *backing_path;           /* owned; NULL: none, or its place cannot be told */
	struct snapshot_usage *usage; /* owned; NULL: not told */
};

static const char *protocol(const struct layer *l)
{
	return l->file->caps & IO_IS_DEVICE ? "host_device" : "file";
}

/* XFS: how much a growing file is given at a time; qemu-img tells it because its create sets it. */
static uint32_t extent_size_hint(const struct io *file)
{
	struct fsxattr attr;
	if (ioctl(io_file_fd(file), FS_IOC_FSGETXATTR, &attr) < 0 || !(attr.fsx_xflags & FS_XFLAG_EXTSIZE))
		return 0;
	return attr.fsx_extsize;
}

/* ---- human ---- */

static void print_bitmaps(const struct qcow2 *q)
{
	static const char *const flag_names[] = {"in-use", "auto"};
	if (!q->bitmap_count)
		return;
	printf("    bitmaps:\n");
	for (uint32_t i = 0; i < q->bitmap_count; i++) {
		const struct qcow2_bitmap *b = &q->bitmaps[i];
		printf("        [%" PRIu32 "]:\n            flags:\n", i);
		for (unsigned bit = 0, n = 0; bit < 2; bit++)
			if (b->entry.flags & (1u << bit))
				printf("                [%u]: %s\n", n++, flag_names[bit]);
		printf("            name: %s\n            granularity: %" PRIu64 "\n", b->name,
			(uint64_t)1 << b->entry.granularity_bits);
	}
}

static const char *yes(bool b)
{
	return b ? "true" : "false";
}

static void print_specific(const struct qcow2 *q)
{
	const struct header *h = &q->h;
	printf("Format specific information:\n    compat: %s\n    compression type: %s\n",
		h->version == 2 ? "0.10" : "1.1", h->compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib");
	if (h->version >= 3)
		printf("    lazy refcounts: %s\n", yes(h->compatible & COMPAT_LAZY_REFCOUNTS));
	print_bitmaps(q);
	printf("    refcount bits: %u\n", 1u << h->refcount_order);
	if (h->version < 3)
		return;
	if (q->data_file_name)
		printf("    data file: %s\n", q->data_file_name);
	if (h->incompatible & INCOMPAT_DATA_FILE)
		printf("    data file raw: %s\n", yes(h->autoclear & AUTOCLEAR_DATA_FILE_RAW));
	printf("    corrupt: %s\n    extended l2: %s\n", yes(h->incompatible & INCOMPAT_CORRUPT),
		yes(h->incompatible & INCOMPAT_EXTENDED_L2));
}

static void print_backing(const struct report *r)
{
	const struct qcow2 *q = r->layer->q;
	if (!q->backing_name)
		return;
	printf("backing file: %s", q->backing_name);
	if (!r->backing_path)
		printf(" (cannot determine actual path)");
	else if (strcmp(r->backing_path, q->backing_name) != 0)
		printf(" (actual path: %s)", r->backing_path);
	putchar('\n');
	if (q->backing_format)
		printf("backing file format: %s\n", q->backing_format);
}

static void print_human(const struct report *r)
{
	char size[32];
	const struct layer *l = r->layer;

	printf("image: %s\nfile format: %s\n", l->path, image_format_name(l->format));
	printf("virtual size: %s (%" PRIu64 " bytes)\n", size_format(l->size, size), l->size);
	printf("disk size: %s\n", size_format(r->actual, size));
	if (l->q) {
		printf("cluster_size: %" PRIu32 "\n", l->q->g.cluster_size);
		if (l->q->h.incompatible & INCOMPAT_DIRTY)
			printf("cleanly shut down: no\n");
		print_backing(r);
		if (l->q->snapshot_count)
			cli_print_snapshots(l->q, r->usage);
		print_specific(l->q);
	}
	uint64_t length = align_up(l->file->size, 512);
	printf("Child node '/file':\n    filename: %s\n    protocol type: %s\n", l->path, protocol(l));
	printf("    file length: %s (%" PRIu64 " bytes)\n", size_format(length, size), length);
	printf("    disk size: %s\n", size_format(r->actual, size));
	if (r->extent_size_hint)
		printf("    Format specific information:\n        extent size hint: %" PRIu32 "\n",
			r->extent_size_hint);
}

/* ---- JSON ---- */

static void json_file_child(struct json *j, const struct report *r)
{
	json_array_begin(j, "children");
	json_object_begin(j, NULL);
	json_string(j, "name", "file");
	json_object_begin(j, "info");
	json_array_begin(j, "children");
	json_array_end(j);
	json_uint(j, "virtual-size", align_up(r->layer->file->size, 512));
	json_string(j, "filename", r->layer->path);
	json_string(j, "format", protocol(r->layer));
	json_uint(j, "actual-size", r->actual);
	json_object_begin(j, "format-specific");
	json_string(j, "type", "file");
	json_object_begin(j, "data");
	if (r->extent_size_hint)
		json_uint(j, "extent-size-hint", r->extent_size_hint);
	json_object_end(j);
	json_object_end(j);
	json_bool(j, "dirty-flag", false);
	json_object_end(j);
	json_object_end(j);
	json_array_end(j);
}

static void json_bitmaps(struct json *j, const struct qcow2 *q)
{
	if (!q->bitmap_count)
		return;
	json_array_begin(j, "bitmaps");
	for (uint32_t i = 0; i < q->bitmap_count; i++) {
		const struct qcow2_bitmap *b = &q->bitmaps[i];
		json_object_begin(j, NULL);
		json_array_begin(j, "flags");
		if (b->entry.flags & BITMAP_IN_USE)
			json_string(j, NULL, "in-use");
		if (b->entry.flags & BITMAP_AUTO)
			json_string(j, NULL, "auto");
		json_array_end(j);
		json_string(j, "name", b->name);
		json_uint(j, "granularity", (uint64_t)1 << b->entry.granularity_bits);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_specific(struct json *j, const struct qcow2 *q)
{
	const struct header *h = &q->h;
	json_object_begin(j, "format-specific");
	json_string(j, "type", "qcow2");
	json_object_begin(j, "data");
	json_string(j, "compat", h->version == 2 ? "0.10" : "1.1");
	json_string(j, "compression-type", h->compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib");
	if (h->version >= 3)
		json_bool(j, "lazy-refcounts", h->compatible & COMPAT_LAZY_REFCOUNTS);
	json_bitmaps(j, q);
	json_uint(j, "refcount-bits", 1u << h->refcount_order);
	if (h->version >= 3) {
		if (q->data_file_name)
			json_string(j, "data-file", q->data_file_name);
		if (h->incompatible & INCOMPAT_DATA_FILE)
			json_bool(j, "data-file-raw", h->autoclear & AUTOCLEAR_DATA_FILE_RAW);
		json_bool(j, "corrupt", h->incompatible & INCOMPAT_CORRUPT);
		json_bool(j, "extended-l2", h->incompatible & INCOMPAT_EXTENDED_L2);
	}
	json_object_end(j);
	json_object_end(j);
}

static void print_json(struct json *j, const struct report *r)
{
	const struct layer *l = r->layer;
	const struct qcow2 *q = l->q;

	json_object_begin(j, NULL);
	json_file_child(j, r);
	if (q && q->backing_name && q->backing_format)
		json_string(j, "backing-filename-format", q->backing_format);
	if (q && q->snapshot_count)
		cli_json_snapshots(j, "snapshots", q, r->usage);
	json_uint(j, "virtual-size", l->size);
	json_string(j, "filename", l->path);
	if (q)
		json_uint(j, "cluster-size", q->g.cluster_size);
	json_string(j, "format", image_format_name(l->format));
	json_uint(j, "actual-size", r->actual);
	if (q)
		json_specific(j, q);
	if (r->backing_path)
		json_string(j, "full-backing-filename", r->backing_path);
	if (q && q->backing_name)
		json_string(j, "backing-filename", q->backing_name);
	json_bool(j, "dirty-flag", q && (q->h.incompatible & INCOMPAT_DIRTY));
	json_object_end(j);
}

/* ---- the verb ---- */

struct info_args {
	struct cli_source source;
	bool json, whole_chain;
};

/* What was told about before its backing file: told at once would be half an answer when a deeper file is missing. */
struct info_chain {
	struct chain *images[MAX_CHAIN];
	unsigned count;
};

static bool seen_before(const struct info_chain *ic, const struct chain *image)
{
	struct io_identity a, b;
	if (!io_file_identity(image->layers[0].file, &a))
		return false;
	for (unsigned i = 0; i < ic->count; i++)
		if (io_file_identity(ic->images[i]->layers[0].file, &b) && a.dev == b.dev && a.ino == b.ino)
			return true;
	return false;
}

/* Opens `name` and, for the whole chain, what it names as its backing file, each without its own backing file. */
static int open_images(const struct cli *c, const struct info_args *args, const char *name, struct info_chain *ic)
{
	struct error e;
	struct cli_source source = args->source;
	AUTO_FREE char *next = NULL;

	for (;;) {
		struct chain_opts opts;
		if (ic->count == MAX_CHAIN)
			return cli_error(c, "more than %d backing files", MAX_CHAIN);
		if (cli_source_opts(c, &source, name, NULL, &opts) < 0)
			return 1;
		opts.no_backing = opts.inspect = true;
		struct chain *image;
		if (cli_open(c, name, &opts, &image) < 0)
			return 1;
		bool loop = seen_before(ic, image);
		ic->images[ic->count++] = image;
		if (loop)
			return cli_error(c, "Backing file '%s' creates an infinite loop.", name);
		const struct qcow2 *q = image->layers[0].q;
		if (!args->whole_chain || !q || !q->backing_name)
			return 0;
		char *path = image_backing_path(image->layers[0].path, q->backing_name, &e);
		if (!path)
			return cli_fail(c, &e);
		free(next);
		name = next = path;
		source.format = q->backing_format; /* lives in `image` */
	}
}

static void print_images(const struct cli *c, const struct info_args *args, const struct info_chain *ic)
{
	struct json j;
	struct error ignored;
	json_init(&j, stdout, false);
	if (args->json && args->whole_chain)
		json_array_begin(&j, NULL);
	for (unsigned i = 0; i < ic->count; i++) {
		struct layer *l = &ic->images[i]->layers[0];
		struct report r = {
			.layer = l,
			.actual = io_file_allocated(l->file),
			.extent_size_hint = extent_size_hint(l->file),
			.usage = cli_snapshots_usage(c, l, MOST_TABLES),
		};
		if (l->q && l->q->backing_name)
			r.backing_path = image_backing_path(l->path, l->q->backing_name, &ignored);
		if (args->json)
			print_json(&j, &r);
		else
			print_human(&r);
		if (!args->json && i + 1 < ic->count)
			putchar('\n');
		free(r.backing_path);
		free(r.usage);
	}
	if (args->json && args->whole_chain)
		json_array_end(&j);
	if (args->json)
		putchar('\n');
}

static int info_run(struct cli *c, int argc, char **argv)
{
	struct info_args args = {0};
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'b':
			args.whole_chain = true;
			break;
		case CLI_OUTPUT:
			args.json = cli_parse_output(c, arg);
			break;
		default:
			cli_source_option(&args.source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
	struct info_chain ic = {.count = 0};
	int status = open_images(c, &args, argv[optind], &ic);
	if (status == 0)
		print_images(c, &args, &ic);
	for (unsigned i = 0; i < ic.count; i++)
		chain_close(ic.images[i]);
	return status;
}

static const struct cli_option info_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'b', "backing-chain", NULL, "tell about the backing files, too"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_OUTPUT,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_info = {
	.name = "info",
	.summary = "Tell what an image is",
	.arguments = "FILENAME",
	.options = info_options,
	.run = info_run,
};

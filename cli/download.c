/* SPDX-License-Identifier: Apache-2.0
 *
 * `download`: an image out of the image service, verified, as it is there or in another format. What comes is a stranger's: where it
 * is converted, it is opened as one.
 */
#include "cli/download.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

enum { OPT_FORMAT = CLI_STORE_OWN, OPT_CHAIN, OPT_SPOOL_DIR, OPT_THREADS };

static const struct cli_option options[] = {
	CLI_ROW_HELP,
	{OPT_FORMAT, "format", "FMT", "format of the file: raw or qcow2 (default: as the image is there)"},
	{OPT_CHAIN, "chain", NULL,
		"an increment with all that it was made over: one image, or (FILE a folder) all of them"},
	{OPT_SPOOL_DIR, "spool-dir", "DIR",
		"where an image waits that comes in another format (default: TMPDIR, else /var/tmp)"},
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

/* ---- a new file as a stream; long runs of zeros stay holes ---- */

enum { HOLE = 64 << 10 };

struct file_stream {
	struct io_stream stream;
	struct io *io;
};

static int file_append(struct io_stream *s, const void *buf, size_t len, struct error *e)
{
	struct io *io = ((struct file_stream *)s)->io;
	const bool holes = io->caps & IO_READS_ZERO;
	for (size_t at = 0, n; at < len; at += n) {
		n = min_u64(HOLE - (s->pos + at) % HOLE, len - at);
		const uint8_t *bytes = (const uint8_t *)buf + at;
		if (!(holes && mem_is_zero(bytes, n)) && io_write(io, bytes, n, s->pos + at, e) < 0)
			return -1;
	}
	return 0;
}

static int file_finish(struct io_stream *s, struct error *e)
{
	struct io *io = ((struct file_stream *)s)->io;
	return io->caps & IO_IS_DEVICE ? io_flush(io, e) : io_truncate(io, s->pos, e);
}

static const struct io_stream_ops file_ops = {.append = file_append, .finish = file_finish};

int download_fetch(struct download_args *a, const struct store_image *image, struct io *io, struct error *e)
{
	struct file_stream f = {.stream = {.ops = &file_ops, .name = io->name}, .io = io};
	cli_progress_step(&a->store.progress, "download", NULL);
	if (store_download(a->store.store, image, &f.stream, &a->store.progress.base, e) < 0)
		return -1;
	return io_stream_finish(&f.stream, e);
}

/* ---- the ways ---- */

static int to_stream(struct download_args *a, const struct store_image *image, struct error *e)
{
	struct io_stream *out;
	if (io_stream_fd(&out, a->stream_fd, "standard output", e) < 0)
		return -1;
	out->cancel = a->store.opts.cancel;
	cli_progress_step(&a->store.progress, "download", NULL);
	int r = store_download(a->store.store, image, out, &a->store.progress.base, e);
	io_stream_close(out);
	return r;
}

static int to_file(struct download_args *a, const struct store_image *image, struct error *e)
{
	const struct target_opts opts = {.sync_at_end = true};
	struct target *t;
	if (target_open(&t, a->file, &opts, e) < 0)
		return -1;
	int r = download_fetch(a, image, target_io(t), e);
	if (r == 0)
		r = target_commit(t, e);
	target_close(t);
	return r;
}

int download_convert(struct download_args *a, const char *path, const struct chain_opts *open, enum image_format to,
	struct error *e)
{
	const struct convert_source from = {.name = path, .open = *open};
	struct convert_result result;
	struct convert_opts o;

	convert_defaults(&o);
	image_create_defaults(&o.create, to);
	o.sources = &from;
	o.source_count = 1;
	o.target = a->file;
	o.stream_fd = a->stream_fd;
	o.threads = a->threads;
	o.target_opts.sync_at_end = true;
	o.progress = &a->store.progress.base;
	cli_progress_step(&a->store.progress, "convert", NULL);
	return convert_run(&o, &result, e);
}

static int converted(struct download_args *a, const struct store_image *image, struct error *e)
{
	struct chain_opts open = {.untrusted = true, .lock = IO_LOCK_NONE};
	enum image_format to;
	char path[40];
	struct io *io;

	if (image_format_parse(image->format, &open.format, e) < 0 || image_format_parse(a->format, &to, e) < 0 ||
		io_spool_new(&io, a->spool_dir, e) < 0)
		return -1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", io_file_fd(io));
	int r = download_fetch(a, image, io, e);
	if (r == 0)
		r = download_convert(a, path, &open, to, e);
	io_close(io);
	return r;
}

/* ---- the verb ---- */

/* As it is there it is no disk's image: where nothing changed it would show zeros. */
static int refuse_delta(const struct download_args *a, const struct store_image *image, bool other, struct error *e)
{
	const char *since = store_image_property(image, CLI_DELTA_SINCE);

	if (!store_image_property(image, CLI_DELTA))
		return 0;
	if (other)
		return err_set(e, ERR_USAGE, "image %s has only what changed since snapshot %s: --chain makes it whole",
			image->id, since ? since : "(not told)");
	if (!a->store.quiet)
		cli_error(a->store.cli, "image %s has only what changed since snapshot %s", image->id,
			since ? since : "(not told)");
	return 0;
}

static int download(struct download_args *a, struct store_image *image, struct error *e)
{
	if (store_find(a->store.store, a->image, image, e) < 0)
		return -1;
	const bool pipe = strcmp(a->file, "-") == 0;
	const bool other = a->format && (!image->format || strcmp(a->format, image->format) != 0);
	if (other && !image->format)
		return err_set(e, ERR_UNSUPPORTED, "image %s has no format to convert from", image->id);
	if (refuse_delta(a, image, other, e) < 0)
		return -1;
	if (pipe && cli_take_stdout(&a->stream_fd, e) < 0)
		return -1;
	return other ? converted(a, image, e) : pipe ? to_stream(a, image, e) : to_file(a, image, e);
}

static void print_line(const struct store_image *image)
{
	char size[32];

	printf("%s  %s: %s\n", image->id, image->name ? image->name : "", size_format(image->size, size));
}

static void print(const struct download_args *a, const struct store_image *image)
{
	struct json j;

	if (a->store.json) {
		json_init(&j, stdout, false);
		cli_store_json(&j, NULL, image);
		putchar('\n');
	} else if (!a->store.quiet) {
		print_line(image);
	}
}

/* The base first, as its files are numbered. */
static void print_chain(const struct download_args *a, const struct download_chain *c)
{
	struct json j;

	if (a->store.json) {
		json_init(&j, stdout, false);
		json_object_begin(&j, NULL);
		json_string(&j, "path", a->file);
		json_array_begin(&j, "images");
	}
	for (unsigned i = c->count; i-- > 0;) {
		if (a->store.json)
			cli_store_json(&j, NULL, &c->images[i]);
		else if (!a->store.quiet)
			print_line(&c->images[i]);
	}
	if (a->store.json) {
		json_array_end(&j);
		json_object_end(&j);
		putchar('\n');
	}
}

static void parse(struct download_args *a, int argc, char **argv)
{
	const struct cli *c = a->store.cli;
	enum image_format format;
	const char *arg;
	struct error e;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		if (cli_store_option(&a->store, id, arg))
			continue;
		if (id == OPT_FORMAT)
			a->format = arg;
		else if (id == OPT_CHAIN)
			a->chain = true;
		else if (id == OPT_SPOOL_DIR)
			a->spool_dir = arg;
		else if (id == OPT_THREADS)
			a->threads = cli_parse_number(c, "number of threads", arg, 0, 256);
	}
	if (argc - optind != 2)
		cli_usage_error(c, "Expecting an image's id or name, and a file name or -");
	if (a->format && image_format_parse(a->format, &format, &e) < 0)
		cli_usage_error(c, "%s", e.msg);
	a->image = argv[optind];
	a->file = cli_target_path(c, argv[optind + 1]);
}

/* Before anything is said of a success. */
static int end_stream(struct download_args *a, int failed, struct error *e)
{
	if (a->stream_fd >= 0 && close(a->stream_fd) < 0 && !failed)
		failed = err_sys(e, errno, "standard output");
	cli_progress_break(&a->store.progress);
	return failed;
}

static int run_chain(struct download_args *a, struct error *e)
{
	struct download_chain *c = mem_calloc(1, sizeof *c, "a chain of images", e);
	int r = end_stream(a, c ? download_chain(a, c, e) : -1, e);

	if (r == 0)
		print_chain(a, c);
	if (c)
		download_chain_free(c);
	free(c);
	return r;
}

static int run_one(struct download_args *a, struct error *e)
{
	struct store_image image = {0};
	int r = end_stream(a, download(a, &image, e), e);

	if (r == 0)
		print(a, &image);
	store_image_free(&image);
	return r;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct download_args a = {.threads = pool_cpu_count(), .stream_fd = -1};
	struct error e;

	cli_store_init(&a.store, c);
	parse(&a, argc, argv);
	int failed = cli_store_begin(&a.store, &e);
	if (!failed)
		failed = a.chain ? run_chain(&a, &e) : run_one(&a, &e);
	return cli_store_end(&a.store, failed, &e);
}

const struct cli_command cli_download = {
	.name = "download",
	.summary = "Takes an image out of an OpenStack image service and verifies it",
	.arguments = "ID|NAME FILE|-",
	.options = options,
	.run = run,
	.own_name = true,
};

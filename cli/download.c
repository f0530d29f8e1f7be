/* SPDX-License-Identifier: Apache-2.0
 *
 * `download`: an image out of the image service, verified, as it is there or in another format. What comes is a stranger's: where it
 * is converted, it is opened as one.
 */
#include "cli/store.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <unistd.h>

enum { OPT_FORMAT = CLI_STORE_OWN, OPT_SPOOL_DIR, OPT_THREADS };

static const struct cli_option options[] = {
	CLI_ROW_HELP,
	{OPT_FORMAT, "format", "FMT", "format of the file: raw or qcow2 (default: as the image is there)"},
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

struct download_args {
	struct cli_store store;
	const char *image, *file, *format, *spool_dir;
	unsigned threads;
	int stream_fd; /* "-" */
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

static int fetch_into(struct download_args *a, const struct store_image *image, struct io *io, struct error *e)
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
	int r = fetch_into(a, image, target_io(t), e);
	if (r == 0)
		r = target_commit(t, e);
	target_close(t);
	return r;
}

static int convert_spool(struct download_args *a, const char *spool, const char *format, struct error *e)
{
	struct convert_source from = {.name = spool, .open = {.untrusted = true, .lock = IO_LOCK_NONE}};
	struct convert_result result;
	struct convert_opts o;
	enum image_format to;

	if (image_format_parse(format, &from.open.format, e) < 0 || image_format_parse(a->format, &to, e) < 0)
		return -1;
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

/* A file without a name, as a path. */
static int open_spool(const char *dir, char path[40], struct error *e)
{
	const char *tmp = getenv("TMPDIR");
	AUTO_FREE char *name = mem_printf(e, "%s/qsnap-download.XXXXXX", dir ? dir : tmp ? tmp : "/var/tmp");
	int fd = name ? mkostemp(name, O_CLOEXEC) : -1;
	if (name && fd < 0)
		return err_sys(e, errno, "%s", name);
	if (!name)
		return -1;
	unlink(name);
	snprintf(path, 40, "/proc/self/fd/%d", fd);
	return fd;
}

static int converted(struct download_args *a, const struct store_image *image, struct error *e)
{
	char path[40];
	struct io *io;
	int fd = open_spool(a->spool_dir, path, e);
	if (fd < 0)
		return -1;
	int r = io_file_open(&io, path, IO_OPEN_WRITE, e);
	if (r == 0) {
		io->caps |= IO_READS_ZERO; /* it is new */
		r = fetch_into(a, image, io, e);
		io_close(io);
	}
	if (r == 0)
		r = convert_spool(a, path, image->format, e);
	close(fd);
	return r;
}

/* ---- the verb ---- */

static int download(struct download_args *a, struct store_image *image, struct error *e)
{
	if (cli_store_begin(&a->store, e) < 0 || store_find(a->store.store, a->image, image, e) < 0)
		return -1;
	const bool pipe = strcmp(a->file, "-") == 0;
	const bool other = a->format && (!image->format || strcmp(a->format, image->format) != 0);
	if (other && !image->format)
		return err_set(e, ERR_UNSUPPORTED, "image %s has no format to convert from", image->id);
	if (pipe && cli_take_stdout(&a->stream_fd, e) < 0)
		return -1;
	return other ? converted(a, image, e) : pipe ? to_stream(a, image, e) : to_file(a, image, e);
}

static void print(const struct download_args *a, const struct store_image *image)
{
	struct json j;
	char size[32];

	if (a->store.json) {
		json_init(&j, stdout, false);
		cli_store_json(&j, NULL, image);
		putchar('\n');
	} else if (!a->store.quiet) {
		printf("%s  %s: %s\n", image->id, image->name ? image->name : "", size_format(image->size, size));
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

static int run(struct cli *c, int argc, char **argv)
{
	struct download_args a = {.threads = pool_cpu_count(), .stream_fd = -1};
	struct store_image image = {0};
	struct error e;

	cli_store_init(&a.store, c);
	parse(&a, argc, argv);
	int failed = download(&a, &image, &e);
	if (a.stream_fd >= 0 && close(a.stream_fd) < 0 && !failed)
		failed = err_sys(&e, errno, "standard output");
	cli_progress_break(&a.store.progress);
	if (!failed)
		print(&a, &image);
	store_image_free(&image);
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

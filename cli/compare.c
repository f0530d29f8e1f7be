/* SPDX-License-Identifier: Apache-2.0
 *
 * `compare`: whether two images read the same. Exit status 0 same, 1 different, 2 not to be opened, 4 not to be read.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

enum { EXIT_OPEN = 2, EXIT_READ = 4 };
enum { COMPARE_THREADS = CLI_OWN };

struct compare_args {
	struct cli_source source[2];
	enum cli_progress_kind progress;
	unsigned threads;
	bool strict, quiet;
};

static void parse(const struct cli *c, int argc, char **argv, struct compare_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'F':
			a->source[1].format = arg;
			break;
		case 's':
			a->strict = true;
			break;
		case 'q':
			a->quiet = true;
			break;
		case 'p':
			a->progress = cli_parse_progress(c, arg);
			break;
		case COMPARE_THREADS:
			a->threads = cli_parse_number(c, "number of threads", arg, 0, 1024);
			break;
		default:
			cli_source_option(&a->source[0], id, arg);
		}
	}
	a->source[1].cache = a->source[0].cache;
	a->source[1].force_share = a->source[0].force_share;
	if (argc - optind != 2)
		cli_usage_error(c, "Expecting two image file names");
}

static void print_verdict(const struct compare_result *r, const struct chain *const images[2])
{
	uint64_t common = min_u64(images[0]->size, images[1]->size);
	/* the warning comes once the common part turned out to be the same */
	if (r->size_mismatch && (r->verdict == COMPARE_SAME || (r->verdict == COMPARE_DIFFERENT && r->at >= common)))
		printf("Warning: Image size mismatch!\n");
	switch (r->verdict) {
	case COMPARE_SAME:
		printf("Images are identical.\n");
		break;
	case COMPARE_DIFFERENT:
		printf("Content mismatch at offset %" PRIu64 "!\n", r->at);
		break;
	case COMPARE_SIZE_DIFFERENT:
		printf("Strict mode: Image size mismatch!\n");
		break;
	case COMPARE_STATUS_DIFFERENT:
		printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", r->at);
		break;
	}
}

static int compare_images(const struct cli *c, const struct compare_args *a, char **names, struct chain *images[2])
{
	struct error e;
	struct cli_progress progress;
	struct compare_result result;

	cli_progress_begin(&progress, c, a->quiet ? CLI_PROGRESS_NONE : a->progress);
	int r = convert_compare(images[0], images[1], a->strict, a->threads, &progress.base, &result, &e);
	cli_progress_end(&progress, r == 0);
	if (r < 0) {
		if (e.code == ERR_CANCELLED)
			return cli_status_after_signal(EXIT_READ);
		cli_error(c, "Error while reading '%s': %s", names[result.failed_image], e.msg);
		return EXIT_READ;
	}
	if (!a->quiet)
		print_verdict(&result, (const struct chain *const *)images);
	return result.verdict == COMPARE_SAME ? 0 : 1;
}

static int compare_run(struct cli *c, int argc, char **argv)
{
	struct compare_args a = {.threads = pool_cpu_count()};
	struct chain *images[2] = {NULL, NULL};
	int status = 0;

	parse(c, argc, argv, &a);
	char **names = argv + optind;
	struct cli_access access[2] = {{.path = names[0]}, {.path = names[1]}};
	if (cli_confine(c, access, 2) < 0)
		return EXIT_OPEN;
	for (unsigned i = 0; i < 2 && status == 0; i++) {
		struct chain_opts opts;
		if (cli_source_opts(c, &a.source[i], names[i], NULL, &opts) < 0 ||
			cli_open(c, names[i], &opts, &images[i]) < 0 || cli_check_expansion(c, names[i], images[i]) < 0)
			status = EXIT_OPEN;
	}
	if (status == 0)
		status = compare_images(c, &a, names, images);
	chain_close(images[0]);
	chain_close(images[1]);
	return status;
}

static const struct cli_option compare_options[] = {
	CLI_ROW_HELP,
	{'f', "a-format", "FMT", "format of FILENAME1: raw or qcow2 (default: probe)"},
	{'F', "b-format", "FMT", "format of FILENAME2: raw or qcow2 (default: probe)"},
	{'s', "strict", NULL, "sizes and what is allocated must be the same, too"},
	{'T', "cache", "CACHE",
		"cache mode of both images: writeback (default), none, directsync, writethrough, unsafe"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	{COMPARE_THREADS, "threads", "N",
		"threads that read and compare (default: one for each processor; 0: none but the first)"},
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_compare = {
	.name = "compare",
	.summary = "Tell whether two images read the same",
	.arguments = "FILENAME1 FILENAME2",
	.options = compare_options,
	.run = compare_run,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * What `io` can be told to do: bytes read, written, compared; zeros, discards, compressed clusters; flush, size, what is
 * allocated.
 */
#include "cli/io_commands.h"

#include <ctype.h>
#include <limits.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_PATTERN = 0xcd, DUMP_COLUMNS = 16 };

static int fail(const struct io_session *s, const char *what, const struct error *e)
{
	return cli_error(s->c, "%s failed: %s", what, e->msg);
}

static int parse_number(const struct io_session *s, const char *text, const char *what, uint64_t max, uint64_t *out)
{
	struct error e;

	if (size_parse(text, out, &e) < 0)
		return cli_error(s->c, "%s: %s", what, e.msg);
	if (*out > max)
		return cli_error(s->c, "%s %s is more than %llu", what, text, (unsigned long long)max);
	return 0;
}

/* Offset and length; `max` is for the length. */
static int parse_range(const struct io_session *s, const struct io_words *w, uint64_t max, uint64_t *guest,
	uint64_t *len)
{
	uint64_t size = s->d.io->size;

	if (parse_number(s, w->operands[0], "offset", INT64_MAX, guest) ||
		parse_number(s, w->operands[1], "length", max, len))
		return 1;
	if (*guest > size || *len > size - *guest)
		return cli_error(s->c, "%llu bytes at offset %llu are not within the disk of %llu bytes",
			(unsigned long long)*len, (unsigned long long)*guest, (unsigned long long)size);
	return 0;
}

static int parse_pattern(const struct io_session *s, const struct io_words *w, uint8_t *out)
{
	uint64_t value = DEFAULT_PATTERN;

	if (w->pattern && parse_number(s, w->pattern, "pattern", UINT8_MAX, &value))
		return 1;
	*out = (uint8_t)value;
	return 0;
}

static int need_buffer(struct io_session *s, uint64_t len)
{
	struct error e;

	if (len <= s->buf_bytes)
		return 0;
	free(s->buf);
	s->buf_bytes = 0;
	s->buf = mem_alloc_pages((size_t)len, "buffer", &e);
	if (!s->buf)
		return cli_fail(s->c, &e);
	s->buf_bytes = (size_t)len;
	return 0;
}

static int told(const struct io_session *s, const struct io_words *w, const char *what, uint64_t guest, uint64_t len)
{
	if (!s->quiet && !w->set['q'])
		printf("%s %llu/%llu bytes at offset %llu\n", what, (unsigned long long)len, (unsigned long long)len,
			(unsigned long long)guest);
	return 0;
}

/* ---- read ---- */

static void dump(const uint8_t *p, uint64_t len, uint64_t guest)
{
	for (uint64_t i = 0; i < len; i += DUMP_COLUMNS) {
		uint64_t n = min_u64(DUMP_COLUMNS, len - i);

		printf("%08llx: ", (unsigned long long)(guest + i));
		for (uint64_t k = 0; k < DUMP_COLUMNS; k++)
			if (k < n)
				printf(" %02x", p[i + k]);
			else
				fputs("   ", stdout);
		fputs("  ", stdout);
		for (uint64_t k = 0; k < n; k++)
			putchar(isprint(p[i + k]) ? p[i + k] : '.');
		putchar('\n');
	}
}

/* Where the bytes begin to differ from the pattern; `len`: nowhere. */
static uint64_t first_other(const uint8_t *p, uint64_t len, uint8_t pattern)
{
	uint64_t i = 0;

	/* equal to its first byte, and then each byte to the one before */
	if (len && p[0] == pattern && memcmp(p, p + 1, (size_t)len - 1) == 0)
		return len;
	while (i < len && p[i] == pattern)
		i++;
	return i;
}

static int run_read(struct io_session *s, const struct io_words *w)
{
	uint64_t guest, len, at;
	uint8_t pattern;
	struct error e;
	int status = 0;

	if (parse_range(s, w, INT_MAX, &guest, &len) || parse_pattern(s, w, &pattern) || need_buffer(s, len))
		return 1;
	if (io_read(s->d.io, s->buf, (size_t)len, guest, &e))
		return fail(s, "read", &e);
	at = w->pattern ? first_other(s->buf, len, pattern) : len;
	if (at < len)
		status = cli_error(s->c,
			"Pattern verification failed at offset %llu, %llu bytes: 0x%02x instead of 0x%02x at offset "
			"%llu",
			(unsigned long long)guest, (unsigned long long)len, s->buf[at], pattern,
			(unsigned long long)(guest + at));
	if (w->set['v'])
		dump(s->buf, len, guest);
	told(s, w, "read", guest, len);
	return status;
}

/* ---- write ---- */

static int write_zeros(struct io_session *s, const struct io_words *w)
{
	uint64_t guest, len;
	struct error e;

	if (w->pattern)
		return cli_error(s->c, "-z and -P do not go together");
	if (parse_range(s, w, INT64_MAX, &guest, &len))
		return 1;
	if (len && io_zero(s->d.io, guest, len, w->set['u'] ? IO_ZERO_UNMAP : 0, &e))
		return fail(s, "write", &e);
	return told(s, w, "wrote", guest, len);
}

/* Cluster by cluster; the editor takes no more at once. */
static int write_compressed(struct io_session *s, uint64_t guest, uint64_t len, struct error *e)
{
	uint64_t size;

	if (!s->d.top.ed)
		return err_set(e, ERR_UNSUPPORTED, "a raw image has no compressed clusters");
	size = s->d.image->layers[0].q->g.cluster_size;
	for (uint64_t done = 0; done < len;) {
		uint64_t n = min_u64(size, len - done);

		if (edit_write_compressed(s->d.top.ed, s->buf + done, (size_t)n, guest + done, e))
			return -1;
		done += n;
	}
	return 0;
}

static int run_write(struct io_session *s, const struct io_words *w)
{
	uint64_t guest, len;
	uint8_t pattern;
	struct error e;
	int failed;

	if (w->set['z'] && !w->set['c'])
		return write_zeros(s, w);
	if (w->set['u'] || w->set['z'])
		return cli_error(s->c, "-u goes with -z only, and -c not with -z");
	if (parse_range(s, w, INT_MAX, &guest, &len) || parse_pattern(s, w, &pattern) || need_buffer(s, len))
		return 1;
	memset(s->buf, pattern, (size_t)len);
	failed = w->set['c'] ? write_compressed(s, guest, len, &e) : io_write(s->d.io, s->buf, (size_t)len, guest, &e);
	if (failed)
		return fail(s, "write", &e);
	return told(s, w, "wrote", guest, len);
}

static int run_discard(struct io_session *s, const struct io_words *w)
{
	uint64_t guest, len;
	struct error e;
	int failed;

	if (parse_range(s, w, INT64_MAX, &guest, &len))
		return 1;
	failed = s->d.top.ed ? edit_discard(s->d.top.ed, guest, len, &e)
			     : len && io_zero(s->d.io, guest, len, IO_ZERO_UNMAP, &e);
	if (failed)
		return fail(s, "discard", &e);
	return told(s, w, "discard", guest, len);
}

static int run_flush(struct io_session *s, const struct io_words *w)
{
	struct error e;

	(void)w;
	return io_flush(s->d.io, &e) ? fail(s, "flush", &e) : 0;
}

/* ---- size ---- */

static int run_truncate(struct io_session *s, const struct io_words *w)
{
	uint64_t size;
	struct error e;

	if (parse_number(s, w->operands[0], "size", INT64_MAX, &size))
		return 1;
	return io_truncate(s->d.io, size, &e) ? fail(s, "truncate", &e) : 0;
}

static int run_length(struct io_session *s, const struct io_words *w)
{
	char text[32];

	(void)w;
	printf("%s\n", size_format(s->d.io->size, text));
	return 0;
}

/* ---- what is allocated ---- */

/* A range that is wholly in the image itself, or wholly not. */
static int allocation(struct io_session *s, uint64_t guest, uint64_t end, uint64_t *len, bool *allocated,
	struct error *e)
{
	*len = 0;
	while (guest + *len < end) {
		struct extent x;
		bool here;

		if (io_extent(s->d.io, guest + *len, end - guest - *len, &x, e))
			return -1;
		here = x.kind != EXTENT_ABSENT && x.depth == 0;
		if (*len && here != *allocated)
			break;
		*allocated = here;
		*len += x.len;
	}
	return 0;
}

static int run_map(struct io_session *s, const struct io_words *w)
{
	uint64_t size = s->d.io->size, len;
	char offset[32], length[32];
	struct error e;
	bool here = false;

	(void)w;
	for (uint64_t guest = 0; guest < size; guest += len) {
		if (allocation(s, guest, size, &len, &here, &e))
			return fail(s, "map", &e);
		printf("%s (0x%llx) bytes %s allocated at offset %s (0x%llx)\n", size_format(len, length),
			(unsigned long long)len, here ? "   " : "not", size_format(guest, offset),
			(unsigned long long)guest);
	}
	return 0;
}

static int run_alloc(struct io_session *s, const struct io_words *w)
{
	uint64_t guest, len = 1, sum = 0, n;
	char text[32];
	struct error e;
	bool here = false;

	if (parse_number(s, w->operands[0], "offset", INT64_MAX, &guest) ||
		(w->count > 1 && parse_number(s, w->operands[1], "length", INT64_MAX, &len)))
		return 1;
	if (guest > s->d.io->size || len > s->d.io->size - guest)
		return cli_error(s->c, "%llu bytes at offset %llu are not within the disk", (unsigned long long)len,
			(unsigned long long)guest);
	for (uint64_t at = guest; at < guest + len; at += n) {
		if (allocation(s, at, guest + len, &n, &here, &e))
			return fail(s, "alloc", &e);
		sum += here ? n : 0;
	}
	printf("%llu/%llu bytes allocated at offset %s\n", (unsigned long long)sum, (unsigned long long)len,
		size_format(guest, text));
	return 0;
}

/* ---- the session ---- */

static int run_reopen(struct io_session *s, const struct io_words *w)
{
	(void)w;
	if (io_session_close(s) == 0 && io_session_open(s) == 0)
		return 0;
	s->quit = true;
	return 1;
}

static int run_sleep(struct io_session *s, const struct io_words *w)
{
	uint64_t ms;
	struct timespec t;

	if (parse_number(s, w->operands[0], "milliseconds", INT_MAX, &ms))
		return 1;
	fflush(stdout);
	t = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&t, NULL);
	return 0;
}

/* What is in memory only is lost, as when the machine had failed. */
static int run_abort(struct io_session *s, const struct io_words *w)
{
	(void)s;
	(void)w;
	fflush(stdout);
	kill(getpid(), SIGKILL);
	return 1;
}

static int run_quit(struct io_session *s, const struct io_words *w)
{
	(void)w;
	s->quit = true;
	return 0;
}

static int run_help(struct io_session *s, const struct io_words *w)
{
	(void)s;
	(void)w;
	for (const struct io_command *cmd = io_commands; cmd->name; cmd++)
		printf("%s %s%s-- %s\n", cmd->name, cmd->usage, *cmd->usage ? " " : "", cmd->help);
	return 0;
}

const struct io_command io_commands[] = {
	{"abort", 0, 0, 0, "", false, "", "end at once, as a crash would", run_abort},
	{"alloc", 0, 1, 2, "", false, "off [len]", "tell how much of a range this image itself holds", run_alloc},
	{"discard", 'd', 2, 2, "q", true, "[-q] off len", "give up whole clusters, which read as zeros then",
		run_discard},
	{"flush", 'f', 0, 0, "", false, "", "put everything on stable storage", run_flush},
	{"help", '?', 0, 0, "", false, "", "list the commands", run_help},
	{"length", 'l', 0, 0, "", false, "", "tell the size of the disk", run_length},
	{"map", 0, 0, 0, "", false, "", "tell which ranges this image itself holds", run_map},
	{"quit", 'q', 0, 0, "", false, "", "end, with all on stable storage", run_quit},
	{"read", 'r', 2, 2, "P:qv", false, "[-qv] [-P pattern] off len",
		"read, compare each byte with the pattern, show with -v", run_read},
	{"reopen", 0, 0, 0, "", false, "", "close the image and open it again", run_reopen},
	{"sleep", 0, 1, 1, "", false, "milliseconds", "wait", run_sleep},
	{"truncate", 't', 1, 1, "", true, "size", "change the size of the disk", run_truncate},
	{"write", 'w', 2, 2, "P:cquz", true, "[-cquz] [-P pattern] off len",
		"write the pattern (0xcd); -c compressed, -z zeros, -u unmapping", run_write},
	{0},
};

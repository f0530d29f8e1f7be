/* SPDX-License-Identifier: Apache-2.0
 *
 * Progress of long verbs, and the signals that end them early. Handlers only set flags; the operation looks at `cancel` once a
 * job, and report() (called once a job too) sees the SIGUSR1 flag.
 */
#include "cli/cli.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { SHOW_EVERY_MS = 100, BAR_WIDTH = 40, GRACE_SECONDS = 2 };

static atomic_bool cancel_flag;
static volatile sig_atomic_t cancel_signal, show_wanted;

static void on_cancel(int sig)
{
	if (cancel_signal) { /* the second one: no more patience */
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	cancel_signal = sig;
	atomic_store_explicit(&cancel_flag, true, memory_order_relaxed);
}

static void on_time_limit(int sig)
{
	static const char text[] = "the time limit of --max-seconds is over\n";
	(void)sig;
	if (cancel_signal) /* nobody listened */
		_exit(1);
	cancel_signal = SIGALRM;
	atomic_store_explicit(&cancel_flag, true, memory_order_relaxed);
	ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
	(void)ignored;
	alarm(GRACE_SECONDS);
}

static void on_show(int sig)
{
	(void)sig;
	show_wanted = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int hundredths(const struct cli_progress *p)
{
	return p->total ? (int)((double)p->done * 10000.0 / (double)p->total) : 0;
}

/* Which step it is; false: nothing more is known of it. */
static bool show_step(FILE *out, const struct cli_progress *p)
{
	if (p->step[0])
		fprintf(out, "%-10s %-5s", p->step, p->disk);
	return !p->step[0] || p->total;
}

/* The line qemu-img prints; also what SIGUSR1 gives. */
static void show_plain(FILE *out, const struct cli_progress *p, char end)
{
	int h = hundredths(p);
	if (show_step(out, p))
		fprintf(out, "    (%d.%02d/100%%)", h / 100, h % 100);
	fputc(end, out);
	fflush(out);
}

static void show_bar(const struct cli_progress *p)
{
	fputc('\r', p->out);
	if (!show_step(p->out, p))
		return;
	char bar[BAR_WIDTH + 1], size[32];
	int h = hundredths(p);
	int filled = h * BAR_WIDTH / 10000;
	double seconds = (double)(now_ns() - p->started_ns) / 1e9;

	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', (size_t)filled);
	bar[BAR_WIDTH] = 0;
	fprintf(p->out, "[%s] %3d.%02d%%", bar, h / 100, h % 100);
	if (seconds > 0.2)
		fprintf(p->out, "  %s/s   ", size_format((uint64_t)((double)p->done / seconds), size));
	fflush(p->out);
}

static void show_json(const struct cli_progress *p, const char *event, bool counted)
{
	struct cli_event v;
	cli_event_begin(&v, event);
	if (p->step[0])
		json_string(&v.json, "step", p->step);
	if (p->disk[0])
		json_string(&v.json, "disk", p->disk);
	if (counted) {
		json_uint(&v.json, "done", p->done);
		json_uint(&v.json, "total", p->total);
	}
	cli_event_end(&v);
}

static void show(struct cli_progress *p)
{
	switch (p->kind) {
	case CLI_PROGRESS_NONE:
		break;
	case CLI_PROGRESS_BAR:
		if (p->terminal && !p->cli->drop_in)
			show_bar(p);
		else
			show_plain(p->out, p, '\r');
		p->line = true;
		break;
	case CLI_PROGRESS_JSON:
		show_json(p, "progress", true);
		break;
	}
}

static void on_report(void *ctx, uint64_t done, uint64_t total)
{
	struct cli_progress *p = ctx;
	p->done = done;
	p->total = total;
	if (show_wanted) {
		show_wanted = 0;
		show_plain(stderr, p, '\n');
	}
	if (p->kind == CLI_PROGRESS_NONE || p->shown == hundredths(p))
		return;
	uint64_t now = now_ns();
	if (p->shown >= 0 && now - p->shown_ns < SHOW_EVERY_MS * 1000000ull)
		return;
	p->shown = hundredths(p);
	p->shown_ns = now;
	show(p);
}

/* A wait for a pipe's reader is to end when the signal cancels, and only then. */
static void catch_signal(int sig, void (*handler)(int))
{
	struct sigaction old, sa = {.sa_handler = handler, .sa_flags = handler == on_show ? SA_RESTART : 0};
	sigemptyset(&sa.sa_mask);
	/* What the caller told us to ignore (nohup) stays ignored. */
	if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
		return;
	sigaction(sig, &sa, NULL);
}

enum cli_progress_kind cli_parse_progress(const struct cli *c, const char *text)
{
	if (!text || strcmp(text, "bar") == 0)
		return CLI_PROGRESS_BAR;
	if (strcmp(text, "json") != 0)
		cli_usage_error(c, "--progress expects 'bar' or 'json' not '%s'", text);
	return CLI_PROGRESS_JSON;
}

static void begin(struct cli_progress *p, const struct cli *c, enum cli_progress_kind kind, FILE *out)
{
	*p = (struct cli_progress){
		.base = {.report = on_report, .ctx = p, .cancel = &cancel_flag},
		.kind = kind,
		.cli = c,
		.out = out,
		.terminal = isatty(fileno(out)),
		.started_ns = now_ns(),
		.shown = -1,
	};
	catch_signal(SIGINT, on_cancel);
	catch_signal(SIGTERM, on_cancel);
	catch_signal(SIGHUP, on_cancel);
	catch_signal(SIGUSR1, on_show);
	signal(SIGPIPE, SIG_IGN);
}

void cli_progress_begin(struct cli_progress *p, const struct cli *c, enum cli_progress_kind kind)
{
	begin(p, c, kind, stdout);
	show(p);
}

void cli_progress_begin_steps(struct cli_progress *p, const struct cli *c, enum cli_progress_kind kind)
{
	begin(p, c, kind, stderr);
	p->steps = true;
}

void cli_progress_break(struct cli_progress *p)
{
	if (p->line) {
		fputc('\n', p->out);
		fflush(p->out);
	}
	p->line = false;
}

void cli_progress_step(struct cli_progress *p, const char *step, const char *disk)
{
	if (p->kind == CLI_PROGRESS_BAR && p->total)
		show(p); /* the last report may not have been shown */
	cli_progress_break(p);
	snprintf(p->step, sizeof p->step, "%s", step);
	snprintf(p->disk, sizeof p->disk, "%s", disk ? disk : "");
	p->done = p->total = 0;
	p->started_ns = now_ns();
	p->shown = -1;
	if (p->kind == CLI_PROGRESS_JSON)
		show_json(p, "step", false);
	else
		show(p);
}

void cli_progress_end(struct cli_progress *p, bool finished)
{
	if (finished && !p->steps)
		p->done = p->total = max_u64(p->total, 1);
	if (p->kind == CLI_PROGRESS_JSON && !p->steps)
		show_json(p, finished ? "done" : "failed", true);
	if (p->kind == CLI_PROGRESS_BAR && !p->steps)
		show(p);
	cli_progress_break(p);
	if (!cancel_signal) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
	}
}

int cli_status_after_signal(int status)
{
	return cancel_signal && cancel_signal != SIGALRM ? 128 + cancel_signal : status;
}

void cli_time_limit(uint64_t seconds)
{
	catch_signal(SIGALRM, on_time_limit);
	alarm((unsigned)min_u64(seconds, INT32_MAX));
}

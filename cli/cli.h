/* SPDX-License-Identifier: Apache-2.0
 *
 * cli: argv, printing, exit status. One file per verb, each a `struct cli_command`; the program itself is one, whose verbs are
 * the table in main.c, and a verb may have verbs, too. An option is a row; from the rows the parser, `VERB --help`, the bash
 * completion and the test that the man page mentions every option are made.
 *
 * Texts on stdout are qemu-img's wherever programs read them. Messages on stderr begin with the name the program was called
 * by. Usage errors end the process at once (cli_usage_error); nothing is open then.
 */
#ifndef QSNAP_CLI_H
#define QSNAP_CLI_H

#include "convert/convert.h"
#include "qcow2/check.h"
#include "qcow2/edit.h"

/* ---- the program and its subcommands (cli/main.c) ---- */

struct cli_option {
	int id;           /* the short letter, or one of enum cli_long_only for options without one; 0 ends a list */
	const char *name; /* long name; NULL: none */
	const char *arg;  /* the argument's name; NULL: takes none; "[X]": optional, long form only */
	const char
		*help; /* one sentence; lines are broken by the printer; NULL: another name of a row above, not told */
};

/* What is common to several verbs and has no letter; a verb's own long-only options begin at CLI_OWN. */
enum cli_long_only {
	CLI_HEADING = -1, /* no option: `help` is a heading of the help text */
	CLI_OUTPUT = 0x100,
	CLI_IMAGE_OPTS,
	CLI_OBJECT,
	CLI_STATE, /* of vm, as those below it */
	CLI_JSON,
	CLI_WAIT,
	CLI_MAX_PAUSE,
	CLI_OWN,
};

struct cli;
struct cli_command {
	const char *name;
	const char *summary;   /* one line for `--help` */
	const char *arguments; /* the operands' names, for the usage line */
	const struct cli_option *options;
	int (*run)(struct cli *c, int argc, char **argv); /* argv[0]: "PROGRAM VERB"; returns the exit status */
	const struct cli_command *const
		*verbs;   /* sorted by name, ends with NULL; NULL: `run` does not call cli_run_verb */
	const char *more; /* what ends its help; NULL: nothing */
	int usage_status; /* of usage errors of it and its verbs; 0: as above it */
	bool own_name;    /* not there when called as qemu-img */
};
extern const struct cli_command cli_amend, cli_bitmap, cli_check, cli_commit, cli_compare, cli_completion, cli_convert,
	cli_create, cli_dd, cli_diff, cli_download, cli_images, cli_info, cli_io, cli_map, cli_measure, cli_rebase,
	cli_resize, cli_snapshot, cli_trim, cli_upload, cli_vm;
extern const struct cli_command cli_program;

struct cli_limits { /* of --untrusted; options set them */
	uint64_t virtual_size;
	uint64_t memory;    /* address space, bytes */
	uint64_t seconds;   /* of wall-clock time */
	uint64_t expansion; /* how many times more data than its own length an image may hold */
};

/* One run of the program. */
struct cli {
	const char *program; /* basename of argv[0]; begins each message */
	char called[96];     /* the program and the verbs so far */
	bool drop_in;        /* called as qemu-img */
	bool untrusted;
	unsigned verbose;
	const char *connect, *state_dir; /* of vm */
	struct cli_limits limits;
	const struct cli_command *command;
	int usage_status; /* the exit status when the command line makes no sense */
};

/* Runs the verb argv[optind] of the command that runs now; usage error when there is none of that name. */
int cli_run_verb(struct cli *c, int argc, char **argv);

/* ---- messages (cli/message.c) ---- */

/* "PROGRAM: text" on stderr; returns 1, the exit status of nearly every failure. */
int cli_error(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same with " [context: ]e->msg". */
int cli_fail(const struct cli *c, const struct error *e);
/* As cli_error, but for things to know; with -v only. */
void cli_verbose(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "PROGRAM: text" and "Try 'PROGRAM VERB --help' for more information", then exit(c->usage_status), as all that finds fault
 * with the command line. */
_Noreturn void cli_usage_error(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- standard output (cli/output.c) ---- */

/* fflush(stdout); a full disk or closed pipe turns status 0 into 1 with a message. */
int cli_finish_output(const struct cli *c, int status);
/* Standard output is an image: *fd is for its bytes, and whatever else is printed goes to standard error. */
int cli_take_stdout(int *fd, struct error *e);

/* ---- options (cli/options.c) ---- */

/* The next option's id of the running command, its argument in *arg (may be NULL for options without one); -1 at the end, operands
 * are then argv[optind..]. Does --help, and refuses what is not supported anywhere (--image-opts, --object), by itself. */
int cli_next_option(const struct cli *c, int argc, char **argv, const char **arg);
void cli_print_help(const struct cli *c, FILE *out);

/* Rows that several verbs share. */
#define CLI_ROW_HELP                                                                                                   \
	{                                                                                                              \
		'h', "help", NULL, "show this help and exit"                                                           \
	}
#define CLI_ROW_FORMAT                                                                                                 \
	{                                                                                                              \
		'f', "format", "FMT", "format of the image: raw or qcow2 (default: probe)"                             \
	}
#define CLI_ROW_FORCE_SHARE                                                                                            \
	{                                                                                                              \
		'U', "force-share", NULL, "open the image although others may write to it"                             \
	}
#define CLI_ROW_QUIET                                                                                                  \
	{                                                                                                              \
		'q', "quiet", NULL, "print nothing on standard output"                                                 \
	}
#define CLI_ROW_PROGRESS                                                                                               \
	{                                                                                                              \
		'p', "progress", "[HOW]", "show progress: bar (default) or json (events on standard error)"            \
	}
#define CLI_ROW_OUTPUT                                                                                                 \
	{                                                                                                              \
		CLI_OUTPUT, "output", "OFMT", "format of the output: human (default) or json"                          \
	}
#define CLI_ROW_IMAGE_OPTS                                                                                             \
	{                                                                                                              \
		CLI_IMAGE_OPTS, "image-opts", NULL, "not supported"                                                    \
	}
#define CLI_ROW_OBJECT                                                                                                 \
	{                                                                                                              \
		CLI_OBJECT, "object", "OBJDEF", "not supported"                                                        \
	}
#define CLI_ROW_END                                                                                                    \
	{                                                                                                              \
		0, NULL, NULL, NULL                                                                                    \
	}

/* ---- values of options (cli/values.c) ---- */

bool cli_parse_output(const struct cli *c, const char *text); /* true: json; usage error on anything but human, json */
/* A number of bytes with suffix; message "Invalid `what` specified: ..." and exit when it is none. */
uint64_t cli_parse_size(const struct cli *c, const char *what, const char *text);
uint64_t cli_parse_size_between(const struct cli *c, const char *what, const char *text, uint64_t min, uint64_t max);
unsigned cli_parse_number(const struct cli *c, const char *what, const char *text, unsigned min, unsigned max);
/* The path of a target, without "file:"; message and exit for other protocols. Points into `name`. */
const char *cli_target_path(const struct cli *c, const char *name);

struct cli_cache { /* -t, -T */
	bool direct, dsync, no_sync;
};
/* none|off, directsync, writeback, writethrough, unsafe; false: there is no such mode. */
bool cli_parse_cache(const char *text, struct cli_cache *out);

/* ---- many lines (cli/lines.c) ---- */

/* Lines put together in one buffer by hand: an image may have ten million extents. */
struct cli_lines {
	char *buf;
	size_t used;
};
int cli_lines_init(struct cli_lines *l, struct error *e);
void cli_lines_next(struct cli_lines *l); /* makes room for the next line, of 256 bytes at most */
void cli_lines_end(struct cli_lines *l);  /* writes what is left to stdout, frees the buffer */
void cli_put(struct cli_lines *l, const char *text, size_t len);
#define CLI_PUT(l, literal) cli_put(l, literal, sizeof literal - 1)
void cli_put_number(struct cli_lines *l, uint64_t v);
void cli_put_bool(struct cli_lines *l, bool v);
void cli_put_hex(struct cli_lines *l, uint64_t v); /* "%#-16x" */

/* ---- opening a source (cli/source.c) ---- */

/* How a source is to be opened, as the options said it. */
struct cli_source {
	const char *format;   /* -f; NULL: probe */
	const char *cache;    /* -T; NULL: writeback */
	bool force_share;     /* -U */
	const char *snapshot; /* -l; NULL: the active state */
};
/* Takes -f, -T, -U and -l for the verbs whose rows have them so; false: another option. */
bool cli_source_option(struct cli_source *s, int id, const char *arg);
/* Fills chain options, --untrusted included. `query` receives the parsed -l. Prints and returns -1 on a bad value. */
int cli_source_opts(const struct cli *c, const struct cli_source *s, const char *name, struct snapshot_query *query,
	struct chain_opts *out);
/* The same for an image that is to be changed, the active state, with all that lies below it. */
int cli_write_opts(const struct cli *c, const struct cli_source *s, const char *name, struct chain_opts *out);
/* To stderr: the top was taken for raw by its first bytes, which a guest may have written. */
void cli_warn_probed(const struct chain *image);
/* Opens; prints what went wrong, "Could not open 'NAME': ...", and returns -1. `opts` from cli_source_opts. */
int cli_open(const struct cli *c, const char *name, const struct chain_opts *opts, struct chain **out);
/* How a snapshot is named everywhere: "id=X", "name=X", or X for either; two candidates are an error then. Called as qemu-img: X,
 * and the first that fits. *query points into `text`. */
void cli_snapshot_name(const struct cli *c, const char *text, struct snapshot_query *query);
/* The same and "snapshot.id=X,snapshot.name=Y" of -l; the strings of *query live until the next call. */
int cli_parse_snapshot(const struct cli *c, const char *text, struct snapshot_query *query, struct error *e);

/* ---- opening an image to change it (cli/edited.c) ---- */

struct cli_edited {
	bool write, owns_io;
	struct chain *image;
	struct edited top; /* its editor is NULL: raw, or read-only */
	struct io *io;     /* the disk's bytes */
};
/* Opens with all that lies below. Prints what went wrong and returns -1. */
int cli_edited_open(const struct cli *c, const char *name, const struct cli_source *source, bool write,
	struct cli_edited *d);
/* Flushes and closes; -1 after a message when something may not have reached the file. */
int cli_edited_close(const struct cli *c, struct cli_edited *d);

/* ---- an image's internal snapshots, as info and snapshot -l tell of them (cli/snapshot.c) ---- */

/* `usage`: one for each, or NULL: what they take is not told. */
void cli_print_snapshots(const struct qcow2 *q, const struct snapshot_usage *usage);
void cli_json_snapshots(struct json *j, const char *key, const struct qcow2 *q, const struct snapshot_usage *usage);
/* Owned by the caller. NULL where it is not to be told (qemu-img does not, --untrusted), not known, or more than `most_bytes`
 * of tables might have to be read. */
struct snapshot_usage *cli_snapshots_usage(const struct cli *c, struct layer *l, uint64_t most_bytes);

/* ---- -o lists (cli/image_options.c) ---- */

struct cli_option_list { /* what all -o together said, in order */
	struct cli_key_value {
		char *key, *value; /* a key alone has the value "on" */
	} * items;
	unsigned count;
	bool help; /* "help" or "?" was among them */
};
int cli_option_list_add(struct cli_option_list *l, const char *text, struct error *e);
void cli_option_list_free(struct cli_option_list *l);
/* The last value of `key`, NULL when there is none. */
const char *cli_option_list_get(const struct cli_option_list *l, const char *key);
/* Sets what the list says in *create, whose format is known and defaults are in. Strings stay owned by the list. *size_set
 * (may be NULL) tells whether "size" was there. Texts of errors are qemu-img's. */
int cli_option_list_apply(const struct cli_option_list *l, struct image_create *create, bool *size_set,
	struct error *e);
/* The answer to `-o help`. */
void cli_option_list_help(enum image_format format, FILE *out);
/* The same for amend, which takes fewer keys: ERR_USAGE for the others. */
void cli_option_list_help_amend(FILE *out);
int cli_option_list_check_amend(const struct cli_option_list *l, struct error *e);
/* "Formatting 'F', fmt=qcow2 cluster_size=..." as create prints it. */
void cli_print_formatting(const char *name, const struct image_create *create, const struct cli_option_list *l,
	FILE *out);

/* --format (NULL: qcow2) and --compress (zlib or zstd, a level behind a colon; NULL: none), as options of *create, whose strings stay
 * owned by the list (cli/image_format.c). */
int cli_image_format(const char *format_name, const char *compress, struct cli_option_list *list,
	struct image_create *create, struct error *e);

/* ---- events for programs (cli/event.c) ---- */

/* A JSON object on one line of standard error, written at once; its first member is "event". */
struct cli_event {
	struct json json; /* for its other members */
	FILE *stream;
	char *text;
	size_t len;
};
void cli_event_begin(struct cli_event *v, const char *event);
void cli_event_end(struct cli_event *v);

/* ---- progress and signals (cli/progress.c) ---- */

enum cli_progress_kind { CLI_PROGRESS_NONE, CLI_PROGRESS_BAR, CLI_PROGRESS_JSON };

struct cli_progress {
	struct progress base; /* pass &p.base down */
	enum cli_progress_kind kind;
	const struct cli *cli;
	FILE *out; /* of bars */
	bool terminal;
	bool steps;              /* the operation tells its steps; events of its end are the caller's */
	char step[24], disk[64]; /* the one that runs; "": none, of no disk */
	bool line;               /* of the bar, and not yet ended */
	uint64_t done, total;
	uint64_t started_ns, shown_ns;
	int shown; /* hundredths of a percent last shown, -1: nothing yet */
};
/* NULL, "bar" or "json"; usage error else. */
enum cli_progress_kind cli_parse_progress(const struct cli *c, const char *text);
/* From here SIGINT, SIGTERM and SIGHUP set base.cancel (a second one kills at once), SIGUSR1 prints where the work is, SIGPIPE is
 * ignored. For one operation at a time. */
void cli_progress_begin(struct cli_progress *p, const struct cli *c, enum cli_progress_kind kind);
/* The same for an operation of several steps; bars go to standard error, and there is none before the first step. */
void cli_progress_begin_steps(struct cli_progress *p, const struct cli *c, enum cli_progress_kind kind);
/* What is counted from here belongs to this step; `disk` may be NULL. */
void cli_progress_step(struct cli_progress *p, const char *step, const char *disk);
/* Ends the line of a bar, so that something else can be said. */
void cli_progress_break(struct cli_progress *p);
/* Ends the line; `finished`: all was done. Signals go back to what they were. */
void cli_progress_end(struct cli_progress *p, bool finished);
/* `status`, or 128 + the signal that cancelled the work. */
int cli_status_after_signal(int status);
/* After `seconds` the work is cancelled as by a signal, with a message and status 1; a few seconds later the process ends. */
void cli_time_limit(uint64_t seconds);

/* ---- confinement (cli/sandbox.c) ---- */

struct cli_access {
	const char *path; /* an image; for writing, a target (its folder, too) or a folder */
	bool write;
};
/* With --untrusted: from here the process reaches these files only, makes only the system calls it needs, and keeps to the limits.
 * The first call counts; cli_open makes it for its image, so a verb with several files calls this before. -1 after a message. */
int cli_confine(const struct cli *c, const struct cli_access *access, unsigned n);
/* With --untrusted: -1 and a message when the image holds more data than limits.expansion allows. For verbs that read all of it. */
int cli_check_expansion(const struct cli *c, const char *name, struct chain *image);
/* Both at once for a verb that copies `sources` and touches `others`; nothing without --untrusted. */
int cli_admit(const struct cli *c, const struct convert_source *sources, unsigned n, const struct cli_access *others,
	unsigned other_count);

#endif

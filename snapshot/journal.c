/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal of a domain: STATE/UUID.journal. One JSON object a line, appended and made durable before what it tells of is
 * done; the file goes when nothing is left in it. STATE/UUID.lock is what commands on the domain take turns by; it stays.
 *
 *   {"version": 1, "domain": NAME, "was": "running" | "paused" | "shut off"}
 *   {"put": ID, "kind": KIND, "target": ..., "path": ..., "name": ..., "dev": N, "ino": N, ...}
 *   {"put": [{"put": ID, ...}, ...]}
 *   {"know": ID, "dev": N, "ino": N, ...}
 *   {"drop": ID} or {"drop": [ID, ...]}
 */
#include "snapshot/journal_line.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_BYTES = 16 << 20, MAX_TRACES = 10000 };

struct journal {
	char *folder, *path, *domain;
	int lock_fd, fd; /* fd -1: there is no file */
	enum driver_state was;
	struct trace *traces;
	unsigned count, room, last_id;
	uint64_t bytes;   /* of whole lines */
	bool tail;        /* behind them may be what is left of a line that failed */
	bool begun;       /* the file and its first line are durable */
	json_t *together; /* lines of what is put, until they are written as one; NULL: each is written at once */
};

/* ---- writing ---- */

static int write_line(struct journal *j, const char *text, size_t len, struct error *e)
{
	ssize_t n;

	if (j->tail && ftruncate(j->fd, (off_t)j->bytes))
		return err_sys(e, errno, "%s", j->path);
	j->tail = true;
	n = pwrite(j->fd, text, len, (off_t)j->bytes);
	if (n < 0 || (size_t)n != len)
		return err_sys(e, n < 0 ? errno : ENOSPC, "%s", j->path);
	if (fdatasync(j->fd))
		return err_sys(e, errno, "%s", j->path);
	j->tail = false;
	j->bytes += len;
	return 0;
}

/* A line that failed is taken out at once, or before the next one: what it tells of is not done, and its number may come again. */
static int append(struct journal *j, json_t *line, struct error *e)
{
	AUTO_FREE char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	size_t len;

	json_decref(line);
	if (!text)
		return err_set(e, ERR_UNSUPPORTED, "%s: no memory for a line, or a name in it is not UTF-8", j->path);
	len = strlen(text);
	text[len++] = '\n'; /* over the NUL */
	if (!write_line(j, text, len, e))
		return 0;
	j->tail = ftruncate(j->fd, (off_t)j->bytes) != 0;
	return -1;
}

int journal_begin(struct journal *j, const char *domain, enum driver_state was, struct error *e)
{
	if (j->count) /* something is left: what was before that counts */
		return 0;
	if (was > DRIVER_SHUT_OFF)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is neither running, paused nor shut off", domain);
	free(j->domain);
	j->domain = mem_strdup(domain, e);
	j->was = was;
	return j->domain ? 0 : -1;
}

static int start(struct journal *j, struct error *e)
{
	if (j->fd < 0)
		j->fd = open(j->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (j->fd < 0)
		return err_sys(e, errno, "%s", j->path);
	if (!j->bytes && append(j, journal_line_first(j->domain, j->was), e))
		return -1;
	if (folder_sync(j->folder, e))
		return -1;
	j->begun = true;
	return 0;
}

enum driver_state journal_was(const struct journal *j)
{
	return j->was;
}

/* Room in memory first: a line that is durable must not be forgotten. */
static int remember(struct journal *j, const struct trace *t, struct error *e)
{
	if (j->count == j->room) {
		unsigned room = j->room ? 2 * j->room : 16;
		struct trace *more = room > MAX_TRACES ? NULL : realloc(j->traces, room * sizeof *more);

		if (!more)
			return err_set(e, ERR_NO_MEMORY, "%s: no memory for %u traces", j->path, room);
		j->traces = more;
		j->room = room;
	}
	if (trace_copy(&j->traces[j->count], t, e))
		return -1;
	j->count++;
	j->last_id = t->id;
	return 0;
}

/* Takes `line`. */
static int gather(struct journal *j, json_t *line, struct error *e)
{
	if (!json_array_append_new(j->together, line))
		return 0;
	return err_set(e, ERR_UNSUPPORTED, "%s: no memory for a line, or a name in it is not UTF-8", j->path);
}

/* Nothing is left. If the file comes back after a crash it says so, too; where it cannot go it stays for the next trace, or for
 * the next command to remove. */
static void end(struct journal *j)
{
	if (unlink(j->path)) {
		j->tail = true;
	} else {
		close(j->fd);
		j->fd = -1;
	}
	j->bytes = 0;
	j->begun = false;
}

int journal_put(struct journal *j, const struct trace *t, unsigned *id, struct error *e)
{
	struct trace mine = *t;

	mine.id = j->last_id + 1;
	if (!j->begun && start(j, e))
		return -1;
	if (remember(j, &mine, e))
		return -1;
	json_t *line = journal_line_put(&mine);

	if (j->together ? gather(j, line, e) : append(j, line, e)) {
		trace_free(&j->traces[--j->count]);
		return -1;
	}
	*id = mine.id;
	return 0;
}

int journal_together(struct journal *j, struct error *e)
{
	j->together = json_array();
	return j->together ? 0 : err_set(e, ERR_NO_MEMORY, "%s: no memory for a line", j->path);
}

int journal_together_end(struct journal *j, bool forget, struct error *e)
{
	json_t *lines = STEAL(j->together);
	size_t count = json_array_size(lines);

	if (forget || !count)
		json_decref(lines);
	else if (!append(j, json_pack("{so}", "put", lines), e))
		return 0;
	for (size_t i = 0; i < count; i++)
		trace_free(&j->traces[--j->count]);
	if (count && !j->count)
		end(j);
	return forget || !count ? 0 : -1;
}

static struct trace *find(struct journal *j, unsigned id)
{
	for (unsigned i = 0; i < j->count; i++)
		if (j->traces[i].id == id)
			return &j->traces[i];
	return NULL;
}

int journal_know(struct journal *j, unsigned id, const struct trace *t, struct error *e)
{
	struct trace known = *t;

	known.id = id;
	return append(j, journal_line_know(&known), e) || trace_learn(find(j, id), &known, e) ? -1 : 0;
}

static bool forget(struct journal *j, unsigned id)
{
	for (unsigned i = 0; i < j->count; i++) {
		if (j->traces[i].id != id)
			continue;
		trace_free(&j->traces[i]);
		memmove(&j->traces[i], &j->traces[i + 1], (j->count - i - 1) * sizeof *j->traces);
		j->count--;
		return true;
	}
	return false;
}

static int drop(struct journal *j, json_t *line, const unsigned *ids, unsigned count, struct error *e)
{
	if (append(j, line, e))
		return -1;
	for (unsigned i = 0; i < count; i++)
		forget(j, ids[i]);
	if (!j->count)
		end(j);
	return 0;
}

int journal_drop(struct journal *j, unsigned id, struct error *e)
{
	return drop(j, json_pack("{si}", "drop", (int)id), &id, 1, e);
}

int journal_drop_all(struct journal *j, const unsigned *ids, unsigned count, struct error *e)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_integer((json_int_t)ids[i]));
	return drop(j, json_array_size(list) == count ? json_pack("{so}", "drop", list) : NULL, ids, count, e);
}

const struct trace *journal_traces(const struct journal *j, unsigned *count)
{
	*count = j->count;
	return j->traces;
}

/* ---- reading what was left ---- */

static int read_one_put(struct journal *j, json_t *line, struct error *e)
{
	struct trace t;
	int failed = journal_line_read(&t, line, json_object_get(line, "put"), true, e);

	if (!failed && t.id <= j->last_id)
		failed = err_set(e, ERR_CORRUPT, "number %u after %u", t.id, j->last_id);
	failed = failed || remember(j, &t, e);
	free(t.images); /* the strings are the line's */
	return failed ? -1 : 0;
}

static int read_put(struct journal *j, json_t *line, struct error *e)
{
	const json_t *several = json_object_get(line, "put");

	if (!json_is_array(several))
		return read_one_put(j, line, e);
	for (size_t i = 0; i < json_array_size(several); i++)
		if (read_one_put(j, json_array_get(several, i), e))
			return -1;
	return 0;
}

static int read_know(struct journal *j, json_t *line, struct error *e)
{
	struct trace t;

	int failed = journal_line_read(&t, line, json_object_get(line, "know"), false, e);
	struct trace *of = find(j, t.id);

	if (!failed)
		failed = of ? trace_learn(of, &t, e)
			    : err_set(e, ERR_CORRUPT, "something is known of number %u, which is not there", t.id);
	free(t.images);
	return failed ? -1 : 0;
}

static int read_drop(struct journal *j, const json_t *drop, struct error *e)
{
	bool several = json_is_array(drop);

	for (size_t i = 0; i < (several ? json_array_size(drop) : 1); i++)
		if (!forget(j, (unsigned)json_integer_value(several ? json_array_get(drop, i) : drop)))
			return err_set(e, ERR_CORRUPT, "neither put nor a drop of what is there");
	return 0;
}

static int read_line(struct journal *j, const char *text, size_t len, bool first, struct error *e)
{
	json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	int failed = 0;

	if (!json_is_object(line))
		failed = err_set(e, ERR_CORRUPT, "not a JSON object");
	else if (first)
		failed = journal_line_read_first(&j->was, line, e);
	else if (json_object_get(line, "put"))
		failed = read_put(j, line, e);
	else if (json_object_get(line, "know"))
		failed = read_know(j, line, e);
	else
		failed = read_drop(j, json_object_get(line, "drop"), e);
	json_decref(line);
	return failed;
}

static int read_lines(struct journal *j, const char *text, size_t len, struct error *e)
{
	const char *nl;

	for (unsigned n = 1; (nl = memchr(text + j->bytes, '\n', len - j->bytes)); n++) {
		const char *line = text + j->bytes;

		if (read_line(j, line, (size_t)(nl - line), n == 1, e))
			return err_prefix(e, "%s: line %u", j->path, n);
		j->bytes = (uint64_t)(nl + 1 - text);
	}
	return 0;
}

static int read_left(struct journal *j, struct error *e)
{
	AUTO_FREE char *text = NULL;
	struct stat st;
	ssize_t n;

	j->fd = open(j->path, O_RDWR | O_CLOEXEC);
	if (j->fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", j->path);
	j->begun = true;
	if (fstat(j->fd, &st))
		return err_sys(e, errno, "%s", j->path);
	if (st.st_size > MAX_BYTES)
		return err_set(e, ERR_LIMIT, "%s: %lld bytes", j->path, (long long)st.st_size);
	text = mem_calloc(1, (size_t)st.st_size + 1, "journal", e);
	if (!text)
		return -1;
	n = pread(j->fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return err_sys(e, errno, "%s", j->path);
	if (read_lines(j, text, (size_t)n, e))
		return -1;
	j->tail = (uint64_t)n > j->bytes;
	if (!j->count)
		end(j);
	return 0;
}

/* ---- one command at a time ---- */

int journal_open(struct journal **out, const char *state_dir, const char *uuid, unsigned wait_seconds,
	const atomic_bool *cancel, struct error *e)
{
	struct journal *j = mem_calloc(1, sizeof *j, "journal", e);
	AUTO_FREE char *lock = NULL;
	int failed;

	if (!j)
		return -1;
	j->lock_fd = j->fd = -1;
	j->folder = mem_strdup(state_dir, e);
	j->path = j->folder ? mem_printf(e, "%s/%s.journal", state_dir, uuid) : NULL;
	lock = j->path ? mem_printf(e, "%s/%s.lock", state_dir, uuid) : NULL;
	failed = !lock;
	if (!failed && folder_make(state_dir, e))
		failed = err_prefix(e, "state folder %s", state_dir);
	failed = failed || lock_wait(&j->lock_fd, lock, wait_seconds, cancel, e);
	if (failed || read_left(j, e)) {
		journal_close(j);
		return -1;
	}
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0 && !j->count && !j->begun) /* its first line failed */
		unlink(j->path);
	for (unsigned i = 0; i < j->count; i++)
		trace_free(&j->traces[i]);
	if (j->fd >= 0)
		close(j->fd);
	if (j->lock_fd >= 0)
		close(j->lock_fd);
	free(j->traces);
	free(j->folder);
	free(j->path);
	free(j->domain);
	free(j);
}

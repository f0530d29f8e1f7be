/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace as a line of the journal, and as a copy; and the journal's first line. A line has only what is known.
 */
#include "snapshot/journal_line.h"

enum { JOURNAL_VERSION = 1, MAX_IMAGES = 1000 };

static const char *const kind_names[TRACE_KINDS] = {
	[TRACE_DEVICE] = "device",
	[TRACE_SAVED] = "saved",
	[TRACE_FROZEN] = "frozen",
	[TRACE_PAUSED] = "paused",
	[TRACE_MEMORY] = "memory",
	[TRACE_INTERNAL] = "internal",
	[TRACE_OVERLAY] = "overlay",
	[TRACE_COPY] = "copy",
	[TRACE_FILE] = "file",
	[TRACE_RECORD] = "record",
	[TRACE_POINT] = "point",
	[TRACE_CURRENT] = "current",
	[TRACE_ENDED] = "ended",
	[TRACE_REVERTED] = "reverted",
	[TRACE_DEFINED] = "defined",
	[TRACE_NVRAM] = "nvram",
	[TRACE_START] = "start",
	[TRACE_UNSAVED] = "unsaved",
	[TRACE_FOLDER] = "folder",
	[TRACE_IMPORT] = "import",
	[TRACE_CATALOG] = "catalog",
};
static const char *const format_names[] =
	{[DRIVER_RAW] = "raw", [DRIVER_QCOW2] = "qcow2", [DRIVER_FORMAT_OTHER] = "other"};
static const char *const state_names[] = {
	[DRIVER_RUNNING] = "running",
	[DRIVER_PAUSED] = "paused",
	[DRIVER_SHUT_OFF] = "shut off",
};

/* ---- copies ---- */

void trace_free(struct trace *t)
{
	for (unsigned i = 0; i < t->image_count; i++)
		free(t->images[i].path);
	free(t->images);
	free(t->target);
	free(t->path);
	free(t->name);
	free(t->to);
	free(t->snapshot);
}

static int dup_to(char **to, const char *from, struct error *e)
{
	*to = from ? mem_strdup(from, e) : NULL;
	return from && !*to ? -1 : 0;
}

static int copy_images(struct trace *to, const struct trace *from, struct error *e)
{
	if (!from->images)
		return 0;
	to->images = mem_calloc(from->image_count, sizeof *to->images, "images of a disk", e);
	if (!to->images)
		return -1;
	for (; to->image_count < from->image_count; to->image_count++) {
		struct driver_image *image = &to->images[to->image_count];

		image->format = from->images[to->image_count].format;
		if (dup_to(&image->path, from->images[to->image_count].path, e))
			return -1;
	}
	return 0;
}

int trace_copy(struct trace *to, const struct trace *from, struct error *e)
{
	*to = (struct trace){.kind = from->kind,
		.dev = from->dev,
		.ino = from->ino,
		.date = from->date,
		.begun = from->begun,
		.id = from->id};
	if (!dup_to(&to->target, from->target, e) && !dup_to(&to->path, from->path, e) &&
		!dup_to(&to->name, from->name, e) && !dup_to(&to->to, from->to, e) &&
		!dup_to(&to->snapshot, from->snapshot, e) && !copy_images(to, from, e))
		return 0;
	trace_free(to);
	return -1;
}

int trace_learn(struct trace *t, const struct trace *known, struct error *e)
{
	char *snapshot = known->snapshot ? mem_strdup(known->snapshot, e) : NULL;

	if (known->snapshot && !snapshot)
		return -1;
	free(t->snapshot);
	t->snapshot = snapshot;
	t->dev = known->dev;
	t->ino = known->ino;
	t->date = known->date;
	t->begun = known->begun;
	return 0;
}

/* ---- writing ---- */

json_t *journal_line_first(const char *domain, enum driver_state was)
{
	return json_pack("{si ss ss}", "version", JOURNAL_VERSION, "domain", domain, "was", state_names[was]);
}

/* Below what is not local there is nothing that could be opened by name. */
static json_t *images_line(const struct trace *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->image_count && t->images[i].path; i++)
		if (json_array_append_new(list, json_pack("{ss ss}", "path", t->images[i].path, "format",
							format_names[t->images[i].format]))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* Takes `line`. */
static json_t *with_known(json_t *line, const struct trace *t)
{
	AUTO_JSON json_t *known = json_pack("{sI sI ss* sI sb}", "dev", (json_int_t)t->dev, "ino", (json_int_t)t->ino,
		"snapshot", t->snapshot, "date", (json_int_t)t->date, "begun", t->begun);

	if (line && known && !json_object_update(line, known))
		return line;
	json_decref(line);
	return NULL;
}

json_t *journal_line_put(const struct trace *t)
{
	json_t *line = json_pack("{si ss ss* ss* ss* ss*}", "put", (int)t->id, "kind", kind_names[t->kind], "target",
		t->target, "path", t->path, "name", t->name, "to", t->to);

	if (line && t->images && json_object_set_new(line, "images", images_line(t))) {
		json_decref(line);
		return NULL;
	}
	return with_known(line, t);
}

json_t *journal_line_know(const struct trace *t)
{
	return with_known(json_pack("{si}", "know", (int)t->id), t);
}

/* ---- reading ---- */

static const char *text_of(const json_t *line, const char *key)
{
	return json_string_value(json_object_get(line, key));
}

static int index_of(const char *const *names, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (name && strcmp(name, names[i]) == 0)
			return (int)i;
	return -1;
}

static int read_images(struct trace *t, const json_t *list, struct error *e)
{
	size_t count = json_array_size(list);

	if (count > MAX_IMAGES)
		return err_set(e, ERR_CORRUPT, "%zu images", count);
	if (!count)
		return 0;
	t->images = mem_calloc(count, sizeof *t->images, "images of a disk", e);
	if (!t->images)
		return -1;
	t->image_count = (unsigned)count;
	for (unsigned i = 0; i < t->image_count; i++) {
		const json_t *image = json_array_get(list, i);
		int format = index_of(format_names, 3, text_of(image, "format"));

		t->images[i].path = (char *)text_of(image, "path");
		if (format < 0 || !t->images[i].path)
			return err_set(e, ERR_CORRUPT, "an image without path or format");
		t->images[i].format = (enum driver_format)format;
	}
	return 0;
}

int journal_line_read_first(enum driver_state *was, const json_t *line, struct error *e)
{
	int state = index_of(state_names, sizeof state_names / sizeof *state_names, text_of(line, "was"));

	if (json_integer_value(json_object_get(line, "version")) != JOURNAL_VERSION)
		return err_set(e, ERR_CORRUPT, "version is not %d", JOURNAL_VERSION);
	if (state < 0)
		return err_set(e, ERR_CORRUPT, "no state");
	*was = (enum driver_state)state;
	return 0;
}

int journal_line_read(struct trace *t, const json_t *line, const json_t *id, bool put, struct error *e)
{
	json_int_t number = json_integer_value(id);
	const char *name = text_of(line, "kind");
	int kind = index_of(kind_names, TRACE_KINDS, name);

	*t = (struct trace){
		.target = (char *)text_of(line, "target"),
		.path = (char *)text_of(line, "path"),
		.name = (char *)text_of(line, "name"),
		.to = (char *)text_of(line, "to"),
		.dev = (uint64_t)json_integer_value(json_object_get(line, "dev")),
		.ino = (uint64_t)json_integer_value(json_object_get(line, "ino")),
		.snapshot = (char *)text_of(line, "snapshot"),
		.date = json_integer_value(json_object_get(line, "date")),
		.begun = json_is_true(json_object_get(line, "begun")),
	};
	if ((put && kind < 0) || number <= 0 || number > INT32_MAX)
		return err_set(e, ERR_CORRUPT, "kind '%s', number %lld", name ? name : "", (long long)number);
	t->kind = put ? (enum trace_kind)kind : TRACE_KINDS;
	t->id = (unsigned)number;
	return read_images(t, json_object_get(line, "images"), e);
}

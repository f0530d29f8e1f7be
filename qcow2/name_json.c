/* SPDX-License-Identifier: Apache-2.0
 *
 * "json:{...}" names (FORMAT.md §10.3): an object as QEMU's block layer takes it, nested or with dotted keys, of
 * the drivers qcow2 and raw over file and host_device. An option that would change what is read, and is not done
 * here, is refused rather than ignored.
 */
#include "base/json_read.h"
#include "qcow2/internal.h"

enum { MAX_NESTING = 16, MAX_KEY = 200 };

/* Options about how, not what. */
static const char *const harmless[] = {"node-name", "read-only", "auto-read-only", "discard", "detect-zeroes", "aio",
	"cache.direct", "cache.no-flush", "force-share", "locking", "lazy-refcounts", "drop-cache"};

/* All leaves below `from`, named by their dotted keys. */
static int flatten(json_t *out, const char *prefix, json_t *from, unsigned nesting, struct error *e)
{
	const char *key;
	json_t *value;

	if (nesting > MAX_NESTING)
		return err_set(e, ERR_LIMIT, "json: name is nested more than %d deep", MAX_NESTING);
	json_object_foreach(from, key, value)
	{
		char full[MAX_KEY];

		if ((size_t)snprintf(full, sizeof full, "%s%s%s", prefix, *prefix ? "." : "", key) >= sizeof full)
			return err_set(e, ERR_LIMIT, "json: name has a key of more than %d bytes", MAX_KEY);
		if (json_is_object(value)) {
			if (flatten(out, full, value, nesting + 1, e))
				return -1;
			continue;
		}
		if (json_is_array(value) || json_object_get(out, full))
			return err_set(e, ERR_USAGE, "json: name: option '%s' is there twice or a list", full);
		if (json_object_set(out, full, value))
			return err_set(e, ERR_NO_MEMORY, "no memory for a json: name");
	}
	return 0;
}

/* Takes the string at prefix.key out of the flat object; NULL where there is none. The value lives as long as *keep. */
static int take_string(json_t *flat, const char *prefix, const char *key, json_t **keep, const char **out,
	struct error *e)
{
	char full[MAX_KEY + 20];
	json_t *value;

	*out = NULL;
	snprintf(full, sizeof full, "%s%s", prefix, key);
	value = json_object_get(flat, full);
	if (!value)
		return 0;
	*out = json_string_value(value);
	if (!*out)
		return err_set(e, ERR_USAGE, "json: name: option '%s' is no string", full);
	json_decref(*keep);
	*keep = json_incref(value);
	json_object_del(flat, full);
	return 0;
}

/* The keys that begin with `prefix`, without it, taken out of `flat`; NULL if there are none. */
static json_t *take_prefixed(json_t *flat, const char *prefix)
{
	json_t *out = NULL, *value;
	const char *key;
	void *next;

	json_object_foreach_safe(flat, next, key, value)
	{
		if (strncmp(key, prefix, strlen(prefix)) != 0)
			continue;
		if (!out)
			out = json_object();
		json_object_set(out, key + strlen(prefix), value);
		json_object_del(flat, key);
	}
	return out;
}

/* "backing": null, or an image's options, which become a json: name of their own. */
static int take_backing(struct image_name *n, json_t *flat, struct error *e)
{
	json_t *backing = json_object_get(flat, "backing");
	char *text;

	if (json_is_null(backing) || (json_is_string(backing) && !*json_string_value(backing))) {
		n->no_backing = true;
		json_object_del(flat, "backing");
		return 0;
	}
	if (backing)
		return err_set(e, ERR_UNSUPPORTED, "json: name: option 'backing' as a node name is not supported");
	backing = take_prefixed(flat, "backing.");
	if (!backing)
		return 0;
	text = json_dumps(backing, JSON_COMPACT);
	json_decref(backing);
	n->backing = text ? mem_printf(e, "json:%s", text) : NULL;
	free(text);
	return n->backing ? 0 : -1;
}

/* The chain of drivers from the format down to the file: driver, file.driver, file.file.driver, ... */
static int take_drivers(struct image_name *n, json_t *flat, struct error *e)
{
	char prefix[MAX_KEY] = "";
	const char *text;
	json_t *keep = NULL;
	int failed = 0;

	for (unsigned i = 0; !failed && !n->path && i < MAX_NESTING; i++) {
		enum image_format f = IMAGE_AUTO;

		failed = take_string(flat, prefix, "driver", &keep, &text, e) ||
			 (text && image_driver_parse(text, &f, e));
		if (failed)
			break;
		if (n->format == IMAGE_RAW && f == IMAGE_QCOW2)
			failed = err_set(e, ERR_UNSUPPORTED, "json: name: qcow2 beneath raw is not supported");
		else if (n->format == IMAGE_AUTO)
			n->format = i == 0 ? f : IMAGE_AUTO;
		failed = failed || take_string(flat, prefix, "filename", &keep, &text, e);
		if (!failed && text && *text)
			failed = !(n->path = mem_strdup(text, e));
		strncat(prefix, "file.", sizeof prefix - strlen(prefix) - 1);
	}
	json_decref(keep);
	if (!failed && !n->path)
		failed = err_set(e, ERR_USAGE, "json: name: no file name");
	return failed ? -1 : 0;
}

static int take_data_file(struct image_name *n, json_t *flat, struct error *e)
{
	json_t *data = take_prefixed(flat, "data-file.");
	struct image_name file = {0};
	int failed;

	if (!data)
		return 0;
	failed = take_drivers(&file, data, e);
	json_decref(data);
	n->data_file = STEAL(file.path);
	return failed;
}

static bool is_harmless(const char *key)
{
	while (strncmp(key, "file.", 5) == 0)
		key += 5;
	for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
		if (strcmp(harmless[i], key) == 0)
			return true;
	return false;
}

static int refuse_rest(json_t *flat, struct error *e)
{
	const char *key;
	json_t *value;

	json_object_foreach(flat, key, value)
	{
		if (!is_harmless(key))
			return err_set(e, ERR_UNSUPPORTED, "json: name: option '%s' is not supported", key);
	}
	return 0;
}

int image_name_parse_json(struct image_name *out, const char *text, struct error *e)
{
	json_error_t where;
	json_t *parsed = json_loads(text, JSON_REJECT_DUPLICATES, &where), *flat;
	int failed;

	*out = (struct image_name){0};
	if (!parsed)
		return err_set(e, ERR_USAGE, "Could not parse the JSON options: %s at column %d", where.text,
			where.column);
	flat = json_object();
	failed = !json_is_object(parsed) ? err_set(e, ERR_USAGE, "Invalid JSON object given")
					 : flatten(flat, "", parsed, 0, e);
	failed = failed || take_backing(out, flat, e) || take_data_file(out, flat, e) || take_drivers(out, flat, e) ||
		 refuse_rest(flat, e);
	json_decref(flat);
	json_decref(parsed);
	if (failed)
		image_name_clear(out);
	return failed ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * An image's record of Glance's v2 API as JSON: decoded from answers, and as the bodies that make one or fill in one.
 */
#include "store/internal.h"

static int take_text(const json_t *j, const char *key, char **out, struct error *e)
{
	const char *text = json_string_value(json_object_get(j, key));
	*out = text ? mem_strdup(text, e) : NULL;
	return text && !*out ? -1 : 0;
}

static bool take_number(const json_t *j, const char *key, uint64_t *out)
{
	const json_t *v = json_object_get(j, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return false;
	*out = (uint64_t)json_integer_value(v);
	return true;
}

struct text {
	const char *key;
	char **to;
};

static bool is_known(const char *key, const struct text *texts, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(key, texts[i].key) == 0)
			return true;
	return false;
}

/* As many as the answer, which has a limit, has room for. */
static int take_properties(const json_t *j, const struct text *known, unsigned known_count, struct store_image *out,
	struct error *e)
{
	const char *key;
	json_t *v;

	out->properties = mem_calloc(json_object_size(j) + 1, sizeof *out->properties, "properties", e);
	if (!out->properties)
		return -1;
	json_object_foreach((json_t *)j, key, v)
	{
		struct store_property *p = &out->properties[out->property_count];

		if (!json_is_string(v) || is_known(key, known, known_count))
			continue;
		out->property_count++;
		p->key = mem_strdup(key, e);
		p->value = mem_strdup(json_string_value(v), e);
		if (!p->key || !p->value)
			return -1;
	}
	return 0;
}

int record_decode(const json_t *j, struct store_image *out, struct error *e)
{
	*out = (struct store_image){0};
	const struct text texts[] = {{"id", &out->id}, {"name", &out->name}, {"status", &out->status},
		{"disk_format", &out->format}, {"container_format", &out->container}, {"visibility", &out->visibility},
		{"created_at", &out->created}, {"checksum", &out->checksum}, {"os_hash_algo", &out->hash_algorithm},
		{"os_hash_value", &out->hash}};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < sizeof texts / sizeof *texts; i++)
		r = take_text(j, texts[i].key, texts[i].to, e);
	if (r == 0 && (!out->id || !out->status))
		r = err_set(e, ERR_CORRUPT, "the image service's answer is no image record");
	if (r == 0)
		r = take_properties(j, texts, sizeof texts / sizeof *texts, out, e);
	out->has_size = take_number(j, "size", &out->size);
	out->has_virtual_size = take_number(j, "virtual_size", &out->virtual_size);
	out->hidden = json_is_true(json_object_get(j, "os_hidden"));
	take_number(j, "min_disk", &out->min_disk);
	take_number(j, "min_ram", &out->min_ram);
	if (r < 0)
		store_image_free(out);
	return r;
}

int record_parse(const struct http_answer *a, struct store_image *out, struct error *e)
{
	json_t *j = json_loadb(a->body, a->body_len, 0, NULL);
	int r = record_decode(j, out, e);
	json_decref(j);
	return r;
}

static char *dump(json_t *j, struct error *e)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!text)
		err_fill(e, ERR_USAGE, "a name or a property is no UTF-8 text");
	return text;
}

/* What both bodies say; NULL: a text is none. */
static json_t *fields(const struct store_record *r, const char *visibility)
{
	json_t *j = json_pack("{ss* ss ss ss*}", "name", r->name, "disk_format", r->format, "container_format", "bare",
		"visibility", visibility);
	if (j && r->hidden)
		json_object_set_new(j, "os_hidden", json_true());
	if (j && r->has_min_disk)
		json_object_set_new(j, "min_disk", json_integer(r->min_disk));
	if (j && r->has_min_ram)
		json_object_set_new(j, "min_ram", json_integer(r->min_ram));
	for (unsigned i = 0; j && i < r->property_count; i++) {
		json_t *value = json_pack("s", r->properties[i].value);
		if (!value || json_object_set_new(j, r->properties[i].key, value) < 0) {
			json_decref(j);
			return NULL;
		}
	}
	return j;
}

char *record_new(const struct store_record *r, const char *id, struct error *e)
{
	json_t *j = fields(r, r->visibility ? r->visibility : "private");
	if (j)
		json_object_set_new(j, "id", json_pack("s", id));
	return dump(j, e);
}

/* A JSON pointer's part: ~ and / have other names in it (RFC 6901). */
static char *pointer(const char *key, struct error *e)
{
	char *out = mem_calloc(2, strlen(key) + 1, "a key", e), *p = out;
	if (!out)
		return NULL;
	*p++ = '/';
	for (; *key; key++) {
		*p++ = *key == '~' || *key == '/' ? '~' : *key;
		if (*key == '~' || *key == '/')
			*p++ = *key == '~' ? '0' : '1';
	}
	return out;
}

/* "add" also replaces what is there. */
char *record_patch(const struct store_record *r, struct error *e)
{
	json_t *j = fields(r, r->visibility), *list = j ? json_array() : NULL, *value;
	const char *key;

	json_object_foreach(j, key, value)
	{
		AUTO_FREE char *path = pointer(key, e);
		if (!path)
			break;
		json_array_append_new(list, json_pack("{ss ss sO}", "op", "add", "path", path, "value", value));
	}
	if (list && json_array_size(list) != json_object_size(j)) {
		json_decref(list);
		list = NULL;
	}
	json_decref(j);
	return dump(list, e);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of a JSON object that somebody else may have written, each checked where it is read; and what a catalog and a bundle both
 * tell of a point.
 */
#include "snapshot/member.h"

#include <ctype.h>

/* A text of at most `most` bytes; NULL in *out where there is none and `must` is not set. */
int get_text(char **out, const json_t *of, const char *key, size_t most, bool must, struct error *e)
{
	const json_t *v = json_object_get(of, key);

	*out = NULL;
	if (!v && !must)
		return 0;
	if (!json_is_string(v))
		return err_set(e, ERR_CORRUPT, "'%s' is no text", key);
	if (json_string_length(v) > most || (must && !json_string_length(v)))
		return err_set(e, ERR_CORRUPT, "'%s' has %zu bytes, not 1 to %zu", key, json_string_length(v), most);
	*out = mem_strdup(json_string_value(v), e);
	return *out ? 0 : -1;
}

/* What is printed in one line. */
int get_word(char **out, const json_t *of, const char *key, size_t most, bool must, struct error *e)
{
	if (get_text(out, of, key, most, must, e))
		return -1;
	for (const char *p = *out; p && *p; p++)
		if (iscntrl((unsigned char)*p))
			return err_set(e, ERR_CORRUPT, "'%s' has a control character", key);
	return 0;
}

int get_number(int64_t *out, const json_t *of, const char *key, int64_t min, int64_t max, struct error *e)
{
	const json_t *v = json_object_get(of, key);

	*out = json_integer_value(v);
	if (!json_is_integer(v) || *out < min || *out > max)
		return err_set(e, ERR_CORRUPT, "'%s' is no number from %lld to %lld", key, (long long)min,
			(long long)max);
	return 0;
}

int get_list(const json_t **out, size_t *count, const json_t *of, const char *key, size_t most, struct error *e)
{
	*out = json_object_get(of, key);
	*count = json_array_size(*out);
	if (*out && !json_is_array(*out))
		return err_set(e, ERR_CORRUPT, "'%s' is no list", key);
	return *count <= most ? 0 : err_set(e, ERR_LIMIT, "'%s' has %zu members, more than %zu", key, *count, most);
}

int get_choice(unsigned *out, const json_t *of, const char *key, const char *const *names, unsigned count,
	struct error *e)
{
	const char *text = json_string_value(json_object_get(of, key));

	for (*out = 0; text && *out < count; ++*out)
		if (strcmp(text, names[*out]) == 0)
			return 0;
	return err_set(e, ERR_CORRUPT, "'%s' is none of those known here", key);
}

/* ---- points ---- */

int point_head_read(struct vm_point *p, const json_t *v, struct error *e)
{
	static const char *const modes[] = {"auto", "cold", "live", "instant"},
				 *const vias[] = {"any", "internal", "overlay"},
				 *const states[] = {"running", "paused", "shut off"};
	unsigned mode, via, was;

	if (get_word(&p->name, v, "name", MAX_WORD, true, e) || get_word(&p->parent, v, "parent", MAX_WORD, false, e) ||
		get_number(&p->created, v, "created", 0, INT64_MAX, e) || get_choice(&mode, v, "mode", modes, 4, e) ||
		get_choice(&via, v, "via", vias, 3, e) || get_choice(&was, v, "was", states, 3, e))
		return -1;
	p->mode = (enum vm_mode)mode;
	p->via = (enum vm_via)via;
	p->was = (enum driver_state)was;
	p->quiesced = json_is_true(json_object_get(v, "quiesced"));
	return 0;
}

int point_disk_read(struct vm_point_disk *d, const json_t *v, struct error *e)
{
	int64_t size, nsec;

	if (get_word(&d->target, v, "target", MAX_WORD, true, e) ||
		get_number(&size, v, "virtual-size", 0, INT64_MAX, e) ||
		get_number(&d->date_sec, v, "date", 0, UINT32_MAX, e) ||
		get_number(&nsec, v, "date-nsec", 0, UINT32_MAX, e))
		return -1;
	d->size = (uint64_t)size;
	d->date_nsec = (uint32_t)nsec;
	return 0;
}

void put_optional(struct json *j, const char *key, const char *value)
{
	if (value)
		json_string(j, key, value);
}

static const char *was_name(enum driver_state s)
{
	return s == DRIVER_RUNNING ? "running" : s == DRIVER_PAUSED ? "paused" : "shut off";
}

void point_head_put(struct json *j, const struct vm_point *p)
{
	json_string(j, "name", p->name);
	put_optional(j, "parent", p->parent);
	json_int(j, "created", p->created);
	json_string(j, "mode", vm_mode_name(p->mode));
	json_string(j, "via", vm_via_name(p->via));
	json_bool(j, "quiesced", p->quiesced);
	json_string(j, "was", was_name(p->was));
}

void point_disk_put(struct json *j, const struct vm_point_disk *d)
{
	json_string(j, "target", d->target);
	json_uint(j, "virtual-size", d->size);
	json_int(j, "date", d->date_sec);
	json_uint(j, "date-nsec", d->date_nsec);
}

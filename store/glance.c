/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenStack's image service (Glance, API v2): opening it, looking an image up, listing them.
 */
#include "store/internal.h"

enum { PAGE = 100 };
#define HIDDEN "&os_hidden=true" /* without it a list has only what is not */

/* 8-4-4-4-12 hex digits: what an id of Glance is, and all of one that gets into a url. */
static bool is_id(const char *text)
{
	unsigned i = 0;
	for (; text[i]; i++) {
		const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]))
			return false;
	}
	return i == 36;
}

int glance_get(struct glance *g, const char *id, struct store_image *out, struct error *e)
{
	struct http_answer a;
	if (!is_id(id))
		return err_set(e, ERR_USAGE, "'%s' is no id of an image", id);
	AUTO_FREE char *path = mem_printf(e, "/v2/images/%s", id);
	if (!path || session_call(&g->session, &(struct http_request){.method = "GET", .url = path}, NULL, &a, e) < 0)
		return -1;
	int r = record_parse(&a, out, e);
	http_answer_free(&a);
	if (r == 0 && strcasecmp(out->id, id) != 0) {
		store_image_free(out);
		r = err_set(e, ERR_CORRUPT, "the image service answered with another image than %s", id);
	}
	return r;
}

/* ---- lists ---- */

static char *encoded(const char *text, struct error *e)
{
	char *out = mem_calloc(3, strlen(text) + 1, "a url", e), *p = out;
	for (; out && *text; text++) {
		if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *text))
			*p++ = *text;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*text);
	}
	return out;
}

/* One page; *last: the id it ends with, for the next one, or NULL when it is the last page. */
static int one_page(const json_t *root, store_image_fn *each, void *ctx, char **last, struct error *e)
{
	const json_t *images = json_object_get(root, "images"), *j;
	size_t i;
	int r = json_is_array(images) ? 0 : err_set(e, ERR_CORRUPT, "the image service's answer is no list of images");

	*last = NULL;
	json_array_foreach(images, i, j)
	{
		struct store_image image;
		if (r == 0)
			r = record_decode(j, &image, e);
		if (r < 0)
			break;
		r = each(ctx, &image, e);
		free(*last);
		*last = STEAL(image.id);
		store_image_free(&image);
	}
	const bool more = r == 0 && json_object_get(root, "next") && *last && is_id(*last);
	if (!more) {
		free(*last);
		*last = NULL;
	}
	return r;
}

static int list_where(struct glance *g, const char *filter, store_image_fn *each, void *ctx, struct error *e)
{
	AUTO_FREE char *last = NULL;
	int r = 0;
	do {
		struct http_answer a;
		AUTO_FREE char *path = mem_printf(e, "/v2/images?limit=%d%s%s%s", PAGE, filter, last ? "&marker=" : "",
			last ? last : "");
		const struct http_request q = {.method = "GET", .url = path};
		if (!path || session_call(&g->session, &q, NULL, &a, e) < 0)
			return -1;
		json_t *root = json_loadb(a.body, a.body_len, 0, NULL);
		free(last);
		r = one_page(root, each, ctx, &last, e);
		json_decref(root);
		http_answer_free(&a);
	} while (r == 0 && last);
	return r;
}

int glance_list(struct store *s, bool hidden, store_image_fn *each, void *ctx, struct error *e)
{
	return list_where((struct glance *)s, hidden ? HIDDEN : "", each, ctx, e);
}

/* ---- by name ---- */

struct search {
	const char *name;
	char *found; /* its id */
	unsigned count;
};

static int look_at(void *ctx, const struct store_image *image, struct error *e)
{
	struct search *s = ctx;
	if (!image->name || strcmp(image->name, s->name) != 0 || s->count++)
		return 0;
	s->found = mem_strdup(image->id, e);
	return s->found ? 0 : -1;
}

int glance_find(struct store *s, const char *id_or_name, struct store_image *out, struct error *e)
{
	struct glance *g = (struct glance *)s;
	if (is_id(id_or_name)) {
		int r = glance_get(g, id_or_name, out, e);
		if (r == 0 || e->code != ERR_NOT_FOUND)
			return r;
	}
	struct search search = {.name = id_or_name};
	AUTO_FREE char *name = encoded(id_or_name, e), *filter = name ? mem_printf(e, "&name=%s", name) : NULL;
	AUTO_FREE char *hidden = filter ? mem_printf(e, "%s" HIDDEN, filter) : NULL;
	int r = hidden ? list_where(g, filter, look_at, &search, e) : -1;
	if (r == 0 && search.count == 0)
		r = list_where(g, hidden, look_at, &search, e);
	if (r == 0 && search.count == 0)
		r = err_set(e, ERR_NOT_FOUND, "there is no image '%s'", id_or_name);
	if (r == 0 && search.count > 1)
		r = err_set(e, ERR_USAGE, "%u images have the name '%s': say which by its id", search.count,
			id_or_name);
	if (r == 0)
		r = glance_get(g, search.found, out, e);
	free(search.found);
	return r;
}

/* ---- opening ---- */

static int get(struct store *s, const char *id, struct store_image *out, struct error *e)
{
	return glance_get((struct glance *)s, id, out, e);
}

static void glance_close(struct store *s)
{
	struct glance *g = (struct glance *)s;
	session_close(&g->session);
	free(g);
}

int qsnap_glance_open(struct store **out, const struct store_opts *o, struct error *e)
{
	static const struct store_ops ops = {
		.list = glance_list,
		.find = glance_find,
		.get = get,
		.upload = glance_upload,
		.download = glance_download,
		.close = glance_close,
	};
	struct glance *g = mem_calloc(1, sizeof *g, "a store", e);
	if (!g)
		return -1;
	g->store = (struct store){.ops = &ops, .opts = *o};
	if (session_open(&g->session, &g->store, e) < 0) {
		glance_close(&g->store);
		return -1;
	}
	*out = &g->store;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Interoperable import: what was staged is taken over by a task of the service, which may look at it and change it. A failed
 * task leaves the image "importing", so the task is asked, too.
 */
#include <time.h>

#include "store/internal.h"

enum { POLL_NS = 500000000, POLLS_MAX = 7200 };

static int begin(struct glance *g, const char *id, struct error *e)
{
	struct http_answer a;
	AUTO_FREE char *path = mem_printf(e, "/v2/images/%s/import", id);
	const struct http_request q = {.method = "POST",
		.url = path,
		.type = "application/json",
		.body = "{\"method\":{\"name\":\"glance-direct\"}}"};
	/* a lost answer to an import that began: the next try is told that the image is importing */
	static const unsigned begun[] = {409, 0};
	if (!path || session_call(&g->session, &q, begun, &a, e) < 0)
		return -1;
	http_answer_free(&a);
	return 0;
}

/* ERR_CHANGED: a task has failed. */
static int look_at_tasks(struct glance *g, const char *id, struct error *e)
{
	struct http_answer a;
	AUTO_FREE char *path = mem_printf(e, "/v2/images/%s/tasks", id);
	if (!path || session_call(&g->session, &(struct http_request){.method = "GET", .url = path}, NULL, &a, e) < 0)
		return -1;
	json_t *root = json_loadb(a.body, a.body_len, 0, NULL);
	const json_t *task;
	size_t i;
	int r = 0;
	json_array_foreach(json_object_get(root, "tasks"), i, task)
	{
		const char *status = json_string_value(json_object_get(task, "status"));
		const char *message = json_string_value(json_object_get(task, "message"));
		if (r == 0 && status && strcmp(status, "failure") == 0)
			r = err_set(e, ERR_CHANGED, "the import failed: %.400s",
				message ? message : "no reason is given");
	}
	json_decref(root);
	http_answer_free(&a);
	return r;
}

int glance_import(struct glance *g, const char *id, struct error *e)
{
	if (begin(g, id, e) < 0)
		return -1;
	for (unsigned i = 0; i < POLLS_MAX; i++) {
		struct store_image image;
		if (glance_get(g, id, &image, e) < 0)
			return -1;
		const bool active = strcmp(image.status, "active") == 0;
		store_image_free(&image);
		if (active)
			return 0;
		if (look_at_tasks(g, id, e) < 0)
			return -1;
		nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
	}
	return err_set(e, ERR_IO, "the import of image %s does not end", id);
}

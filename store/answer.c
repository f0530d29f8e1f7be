/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of a session and what their answers mean: which may be asked again, and the words for those that are errors. Glance's
 * bodies of errors are HTML for people with a browser; the request's id leads to them in the service's log.
 */
#include "store/internal.h"

static const struct meaning {
	unsigned status;
	enum err_code code;
	const char *text;
} meanings[] = {
	{400, ERR_USAGE, "the request is not accepted: a property, a name or an option that this cloud does not take"},
	{401, ERR_DENIED, "who asks was not proven, or not for this project"},
	{403, ERR_DENIED, "not allowed: a protected or somebody else's image, or what only others may set"},
	{404, ERR_NOT_FOUND, "there is no such image"},
	{409, ERR_BUSY, "the image has data already, or somebody else is giving it some"},
	{410, ERR_NOT_FOUND, "the image was deleted meanwhile"},
	{413, ERR_LIMIT, "more than a quota or a limit of size allows"},
	{415, ERR_UNSUPPORTED, "the service does not take an image like that"},
	{429, ERR_PASSING, "too many requests"},
	{500, ERR_PASSING, "the service failed"},
	{502, ERR_PASSING, "the service was not reached"},
	{503, ERR_PASSING, "the service is not available"},
	{504, ERR_PASSING, "the service did not answer in time"},
};

int answer_error(const struct http_answer *a, const char *what, struct error *e)
{
	const char *text = a->status >= 300 && a->status < 400 ? "it points elsewhere, which is not followed"
							       : "not an answer that was expected";
	enum err_code code = ERR_UNSUPPORTED;
	for (unsigned i = 0; i < sizeof meanings / sizeof *meanings; i++)
		if (meanings[i].status == a->status) {
			text = meanings[i].text;
			code = meanings[i].code;
		}
	return err_set(e, code, "%s: HTTP %u%s%s: %s", what, a->status, a->request_id[0] ? ", " : "", a->request_id,
		text);
}

static bool is_accepted(unsigned status, const unsigned *accepted)
{
	for (; accepted && *accepted; accepted++)
		if (*accepted == status)
			return true;
	return status >= 200 && status < 300;
}

/* One try. 1: with another token, perhaps. */
static int call(struct session *n, const struct http_request *q, const unsigned *accepted, struct http_answer *a,
	struct error *e)
{
	if (session_fresh(n, e) < 0)
		return -1;
	AUTO_FREE char *url = mem_printf(e, "%s%s", n->image_url, q->url);
	struct http_request whole = *q;
	char what[300];

	if (!url)
		return -1;
	snprintf(what, sizeof what, "%s %s", q->method, url);
	whole.url = url;
	whole.token = n->token;
	if (http_call(n->http, &whole, a, e) < 0)
		return -1;
	store_tell(n->store, false, "%s: %u%s%s", what, a->status, a->request_id[0] ? ", " : "", a->request_id);
	if (is_accepted(a->status, accepted))
		return 0;
	const bool refused = a->status == 401 && n->token;
	answer_error(a, what, e);
	http_answer_free(a);
	return refused ? 1 : -1;
}

int session_call(struct session *n, const struct http_request *q, const unsigned *accepted, struct http_answer *a,
	struct error *e)
{
	bool renewed = false;

	for (unsigned failed = 0;;) {
		int r = call(n, q, accepted, a, e);
		if (r == 1 && !renewed) {
			renewed = true;
			if (session_renew(n, e) < 0)
				return -1;
			continue;
		}
		if (r == 1)
			e->code = ERR_PASSING; /* a good token is refused when Glance does not reach Keystone */
		if (r == 0 || e->code != ERR_PASSING || failed++ == n->store->opts.retries)
			return r ? -1 : 0;
		if (store_wait(n->store, failed, e, e) < 0)
			return -1;
	}
}

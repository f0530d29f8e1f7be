/* SPDX-License-Identifier: Apache-2.0
 *
 * One exchange of HTTP by libcurl. Redirects are not followed (the token would go with them). A connection on which nothing moved for
 * the time of `timeout_seconds` is given up, whichever side is to speak.
 */
#include "store/http_internal.h"

enum { TICK_MS = 200 };

time_t http_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* ---- what libcurl calls ---- */

static size_t on_read(char *buf, size_t size, size_t count, void *ctx)
{
	struct http *h = ctx;
	size_t n = (size_t)min_u64(size * count, h->out_len);

	h->wanted = true;
	if (!n && !h->ended) {
		h->paused = true;
		return CURL_READFUNC_PAUSE;
	}
	if (h->out)
		memcpy(buf, h->out, n);
	else
		memset(buf, 0, n);
	h->out = h->out ? h->out + n : NULL;
	h->out_len -= n;
	return n;
}

unsigned http_status(const struct http *h)
{
	long status = 0;
	curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
	return (unsigned)status;
}

static bool keep(struct http *h, const char *bytes, size_t n)
{
	struct http_answer *a = &h->answer;
	if (n > HTTP_BODY_MAX - a->body_len)
		return err_set(&h->piece_error, ERR_LIMIT, "the answer is longer than %d bytes", HTTP_BODY_MAX) == 0;
	char *body = realloc(a->body, a->body_len + n + 1);
	if (!body)
		return err_set(&h->piece_error, ERR_NO_MEMORY, "out of memory for an answer") == 0;
	memcpy(body + a->body_len, bytes, n);
	a->body = body;
	a->body_len += n;
	body[a->body_len] = 0;
	return true;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
	struct http *h = ctx;
	const unsigned status = http_status(h);
	const size_t n = size * count;

	if (h->piece && status >= 200 && status < 300)
		h->piece_failed = h->piece(h->piece_ctx, bytes, n, &h->piece_error) < 0;
	else
		h->piece_failed = !keep(h, bytes, n);
	return h->piece_failed ? CURL_WRITEFUNC_ERROR : n;
}

/* The value of a header line of that name, without the spaces around it. */
static const char *header_value(const char *line, size_t len, const char *name, size_t *value_len)
{
	const size_t n = strlen(name);
	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return NULL;
	const char *p = line + n + 1, *end = line + len;
	while (p < end && *p == ' ')
		p++;
	while (end > p && strchr("\r\n ", end[-1]))
		end--;
	*value_len = (size_t)(end - p);
	return p;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
	struct http *h = ctx;
	struct http_answer *a = &h->answer;
	const size_t len = size * count;
	size_t n;
	const char *value = header_value(line, len, "X-Openstack-Request-Id", &n);

	if (value)
		snprintf(a->request_id, sizeof a->request_id, "%.*s", (int)n, value);
	value = header_value(line, len, "X-Subject-Token", &n);
	if (value) {
		free(a->subject_token);
		a->subject_token = strndup(value, n);
	}
	return len;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
	struct http *h = ctx;
	(void)down_total;
	(void)up_total;
	if (down + up != h->moved) {
		h->moved = down + up;
		h->moved_at = http_now();
	}
	return 0;
}

/* ---- one exchange ---- */

void http_forget(struct http *h)
{
	if (h->added)
		curl_multi_remove_handle(h->multi, h->easy);
	curl_slist_free_all(h->headers);
	http_answer_free(&h->answer);
	h->headers = NULL;
	h->added = h->done = h->piece_failed = h->wanted = h->paused = h->ended = false;
	h->piece = NULL;
	h->out = NULL;
	h->out_len = 0;
	h->why[0] = 0;
}

int http_add_header(struct http *h, const char *name, const char *value, struct error *e)
{
	if (!value)
		return 0;
	AUTO_FREE char *line = mem_printf(e, "%s: %s", name, value);
	struct curl_slist *list = line ? curl_slist_append(h->headers, line) : NULL;
	if (line)
		explicit_bzero(line, strlen(line)); /* it may be a token */
	if (!list)
		return err_set(e, ERR_NO_MEMORY, "out of memory for a request");
	h->headers = list;
	return 0;
}

static void set_options(struct http *h, const struct http_request *q)
{
	CURL *c = h->easy;

	curl_easy_reset(c);
	curl_easy_setopt(c, CURLOPT_URL, q->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "qsnap/" QSNAP_VERSION);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->why);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)h->opts.timeout_seconds);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, h->opts.insecure ? 0L : 1L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, h->opts.insecure ? 0L : 2L);
	if (h->opts.cacert)
		curl_easy_setopt(c, CURLOPT_CAINFO, h->opts.cacert);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(c, CURLOPT_READDATA, h);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, h);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)UPLOAD_BUFFER);
	if (q->body) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(q->body));
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body);
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

/* "http://user:secret@host": urls are told in messages. */
static bool names_a_user(const char *url)
{
	const char *host = strstr(url, "://");
	host = host ? host + 3 : url;
	return memchr(host, '@', strcspn(host, "/?#")) != NULL;
}

int http_prepare(struct http *h, const struct http_request *q, struct error *e)
{
	char range[40];

	http_forget(h);
	if (names_a_user(q->url))
		return err_set(e, ERR_USAGE,
			"a url of this cloud has a user in it: secrets have variables of their own");
	set_options(h, q);
	snprintf(range, sizeof range, "bytes=%llu-", (unsigned long long)q->range_from);
	if (http_add_header(h, "X-Auth-Token", q->token, e) < 0 || http_add_header(h, "Content-Type", q->type, e) < 0 ||
		http_add_header(h, "Range", q->range_from ? range : NULL, e) < 0)
		return -1;
	h->moved = 0;
	h->moved_at = http_now();
	return 0;
}

int http_start(struct http *h, struct error *e)
{
	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers);
	if (curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
		return err_set(e, ERR_NO_MEMORY, "libcurl takes no request");
	h->added = true;
	return 0;
}

static int step(struct http *h, struct error *e)
{
	int running, left;
	CURLMcode code = curl_multi_perform(h->multi, &running);

	if (code == CURLM_OK && running) {
		if (h->opts.cancel && atomic_load_explicit(h->opts.cancel, memory_order_relaxed))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (http_now() - h->moved_at > (time_t)h->opts.timeout_seconds)
			return err_set(e, ERR_PASSING, "nothing moved on the connection for %u seconds",
				h->opts.timeout_seconds);
	}
	if (code != CURLM_OK)
		return err_set(e, ERR_IO, "libcurl: %s", curl_multi_strerror(code));
	for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &left));) {
		if (m->msg != CURLMSG_DONE)
			continue;
		h->done = true;
		h->result = m->data.result;
	}
	return 0;
}

/* Runs until the exchange is done, or the server asks for more of the body than there is. */
int http_pump(struct http *h, bool until_paused, struct error *e)
{
	while (1) {
		if (step(h, e) < 0)
			return -1;
		if (h->done || (until_paused && h->paused && !h->out_len))
			return 0;
		curl_multi_poll(h->multi, NULL, 0, TICK_MS, NULL);
	}
}

static bool may_pass(CURLcode code)
{
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CIPHER:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_OUT_OF_MEMORY:
		return false;
	default:
		return true;
	}
}

/* An answer counts even when the rest of the request could not be sent: it may say why. */
int http_finish(struct http *h, struct http_answer *a, struct error *e)
{
	const unsigned status = http_status(h);
	char *url = NULL;

	curl_easy_getinfo(h->easy, CURLINFO_EFFECTIVE_URL, &url);
	if (h->piece_failed)
		*e = h->piece_error;
	if (h->piece_failed)
		return -1;
	const bool sending = h->result == CURLE_SEND_ERROR || h->result == CURLE_RECV_ERROR;
	if (h->result != CURLE_OK && !(sending && status >= 300))
		return err_set(e, may_pass(h->result) ? ERR_PASSING : ERR_IO, "%s: %s", url ? url : "",
			h->why[0] ? h->why : curl_easy_strerror(h->result));
	h->answer.status = status;
	if (!h->answer.body && !keep(h, "", 0))
		return err_set(e, ERR_NO_MEMORY, "out of memory for an answer");
	*a = h->answer;
	h->answer = (struct http_answer){0};
	return 0;
}

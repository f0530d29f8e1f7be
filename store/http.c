/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP, one exchange at a time on one kept connection: whole, or with a body that comes or goes piecewise.
 */
#include "store/http_internal.h"

enum { EXPECT_MS = 10000 };

static int whole(struct http *h, struct http_answer *a, struct error *e)
{
	int r = http_start(h, e);
	if (r == 0)
		r = http_pump(h, false, e);
	if (r == 0)
		r = http_finish(h, a, e);
	http_forget(h);
	return r;
}

/* ---- for the rest of store/ ---- */

int http_call(struct http *h, const struct http_request *q, struct http_answer *a, struct error *e)
{
	*a = (struct http_answer){0};
	return http_prepare(h, q, e) < 0 ? -1 : whole(h, a, e);
}

int http_receive(struct http *h, const struct http_request *q, http_piece_fn *piece, void *ctx, struct http_answer *a,
	struct error *e)
{
	*a = (struct http_answer){0};
	if (http_prepare(h, q, e) < 0)
		return -1;
	h->piece = piece;
	h->piece_ctx = ctx;
	curl_easy_setopt(h->easy, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)h->opts.rate);
	if (h->opts.rate)
		curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, (long)SLOW_BUFFER);
	return whole(h, a, e);
}

int http_send_begin(struct http *h, const struct http_request *q, uint64_t len, struct error *e)
{
	if (http_prepare(h, q, e) < 0 || http_add_header(h, "Expect", "100-continue", e) < 0)
		return -1;
	curl_easy_setopt(h->easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h->easy, CURLOPT_CUSTOMREQUEST, q->method);
	curl_easy_setopt(h->easy, CURLOPT_INFILESIZE_LARGE, len == http_length_unknown ? -1 : (curl_off_t)len);
	curl_easy_setopt(h->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)EXPECT_MS);
	curl_easy_setopt(h->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)(h->opts.rate ? SLOW_BUFFER : UPLOAD_BUFFER));
	curl_easy_setopt(h->easy, CURLOPT_MAX_SEND_SPEED_LARGE, (curl_off_t)h->opts.rate);
	if (http_start(h, e) < 0 || http_pump(h, true, e) < 0)
		return -1;
	return h->done;
}

static void resume(struct http *h)
{
	h->moved_at = http_now(); /* until here it was the source that was waited for */
	if (h->paused) {
		h->paused = false;
		curl_easy_pause(h->easy, CURLPAUSE_CONT);
	}
}

int http_send(struct http *h, const void *bytes, size_t len, struct error *e)
{
	if (h->done)
		return 1;
	h->out = bytes;
	h->out_len = len;
	resume(h);
	if (http_pump(h, true, e) < 0)
		return -1;
	return h->done && h->out_len ? 1 : 0;
}

int http_send_end(struct http *h, struct http_answer *a, struct error *e)
{
	*a = (struct http_answer){0};
	h->ended = true;
	int r = 0;
	if (!h->done) {
		resume(h);
		r = http_pump(h, false, e);
	}
	if (r == 0)
		r = http_finish(h, a, e);
	http_forget(h);
	return r;
}

void http_send_abort(struct http *h)
{
	http_forget(h);
}

void http_set_cancel(struct http *h, const atomic_bool *cancel)
{
	h->opts.cancel = cancel;
}

void http_answer_free(struct http_answer *a)
{
	if (a->subject_token)
		explicit_bzero(a->subject_token, strlen(a->subject_token));
	free(a->subject_token);
	free(a->body);
	*a = (struct http_answer){0};
}

int http_new(struct http **out, const struct http_opts *o, struct error *e)
{
	struct http *h = mem_calloc(1, sizeof *h, "a connection", e);
	if (!h)
		return -1;
	h->opts = *o;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
		h->multi = curl_multi_init();
		h->easy = curl_easy_init();
	}
	if (!h->multi || !h->easy) {
		http_free(h);
		return err_set(e, ERR_NO_MEMORY, "libcurl does not start");
	}
	*out = h;
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	http_forget(h);
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	free(h);
}

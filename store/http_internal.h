/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two files of HTTP share: http_curl.c, one exchange as libcurl makes it; http.c, the kinds of exchanges made of that.
 */
#ifndef QSNAP_STORE_HTTP_INTERNAL_H
#define QSNAP_STORE_HTTP_INTERNAL_H

#include <curl/curl.h>
#include <time.h>

#include "store/internal.h"

enum { UPLOAD_BUFFER = 512 << 10, SLOW_BUFFER = 16 << 10 };

struct http {
	struct http_opts opts;
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	char why[CURL_ERROR_SIZE];

	/* the exchange that runs */
	struct http_answer answer;
	bool added, done;
	CURLcode result;
	http_piece_fn *piece;
	void *piece_ctx;
	bool piece_failed;
	struct error piece_error;
	const uint8_t *out; /* of the body, to be sent; NULL: zeros */
	size_t out_len;
	bool wanted, paused, ended;
	curl_off_t moved;
	time_t moved_at;
};

time_t http_now(void); /* seconds of a clock that only goes on */
/* Forgets the exchange that ran, wherever it was. */
void http_forget(struct http *h);
int http_add_header(struct http *h, const char *name, const char *value, struct error *e); /* value NULL: none */
/* Prepares an exchange; what is particular can then be set, before http_start. */
int http_prepare(struct http *h, const struct http_request *q, struct error *e);
int http_start(struct http *h, struct error *e);
/* Runs until the exchange is done, or the server asks for more of the body than there is. */
int http_pump(struct http *h, bool until_paused, struct error *e);
/* Takes the answer. */
int http_finish(struct http *h, struct http_answer *a, struct error *e);

#endif

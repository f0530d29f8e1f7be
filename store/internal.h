/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of store/ share: a cloud's description, HTTP, a session with a token, and records as JSON.
 */
#ifndef QSNAP_STORE_INTERNAL_H
#define QSNAP_STORE_INTERNAL_H

#include "base/json_read.h"

#include "store/store.h"

/* ---- the operations of a kind of store (store/store.c calls them) ---- */

struct store_ops {
	int (*list)(struct store *s, bool hidden, store_image_fn *each, void *ctx, struct error *e);
	int (*find)(struct store *s, const char *id_or_name, struct store_image *out, struct error *e);
	int (*get)(struct store *s, const char *id, struct store_image *out, struct error *e);
	int (*upload)(struct store_upload **out, struct store *s, const struct store_record *r, struct error *e);
	int (*download)(struct store *s, const struct store_image *image, struct io_stream *out, struct progress *p,
		struct error *e);
	void (*close)(struct store *s);
};
struct store {
	const struct store_ops *ops;
	struct store_opts opts;
};
struct store_upload_ops {
	int (*verify)(struct store_upload *u, uint64_t virtual_size, struct store_image *out, struct error *e);
	void (*close)(struct store_upload *u, bool keep, char **left);
};
struct store_upload {
	const struct store_upload_ops *ops;
	struct io_stream stream;
};

void store_tell(const struct store *s, bool important, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* What the module shows (store/glance.c). */
typedef int store_open_fn(struct store **out, const struct store_opts *o, struct error *e);
#define STORE_GLANCE_SYMBOL "qsnap_glance_open"
__attribute__((visibility("default"))) store_open_fn qsnap_glance_open;

/* ---- YAML, as much of it as clouds.yaml is (store/conf.c, libyaml) ---- */

struct conf;
/* ERR_NOT_FOUND: there is no such file. */
int conf_load(struct conf **out, const char *path, struct error *e);
void conf_free(struct conf *y); /* NULL is allowed */
/* The scalar below these keys (the list ends with NULL), of mappings with their merge keys; NULL: none. Borrowed. */
const char *conf_get(const struct conf *y, const char *const *keys);
bool conf_has(const struct conf *y, const char *const *keys);
/* The only key of the mapping below `keys`; NULL when there is another number of them. Borrowed. */
const char *conf_only_key(const struct conf *y, const char *const *keys);

/* ---- where the cloud is and who asks (store/cloud.c) ---- */

enum cloud_auth { CLOUD_PASSWORD, CLOUD_APPLICATION_CREDENTIAL, CLOUD_TOKEN, CLOUD_NONE };
enum cloud_key {
	CLOUD_AUTH_TYPE,
	CLOUD_AUTH_URL,
	CLOUD_USERNAME,
	CLOUD_USER_ID,
	CLOUD_USER_DOMAIN_NAME,
	CLOUD_USER_DOMAIN_ID,
	CLOUD_SECRET_PASSWORD,
	CLOUD_PROJECT_NAME,
	CLOUD_PROJECT_ID,
	CLOUD_PROJECT_DOMAIN_NAME,
	CLOUD_PROJECT_DOMAIN_ID,
	CLOUD_CREDENTIAL_ID,
	CLOUD_CREDENTIAL_NAME,
	CLOUD_SECRET_CREDENTIAL,
	CLOUD_SECRET_TOKEN,
	CLOUD_ENDPOINT,
	CLOUD_REGION,
	CLOUD_INTERFACE,
	CLOUD_CACERT,
	CLOUD_VERIFY,
	CLOUD_KEYS
};
struct cloud {
	enum cloud_auth auth;
	char *values[CLOUD_KEYS]; /* NULL: not said */
	bool insecure;
};
/* The variables (OS_...) go before what clouds.yaml and secure.yaml say of the cloud `name`. */
int cloud_read(struct cloud *c, const char *name, struct error *e);
void cloud_free(struct cloud *c); /* secrets are wiped */

/* ---- HTTP (store/http.c, libcurl) ---- */

struct http_opts {
	const char *cacert; /* NULL: the system's */
	bool insecure;
	unsigned timeout_seconds;
	uint64_t rate;
	const atomic_bool *cancel;
};
struct http_request {
	const char *method, *url, *token, *type; /* token, type (of the body): NULL: none */
	const char *body;                        /* NULL: none */
	uint64_t range_from;                     /* GET: from this byte on */
};
struct http_answer {
	unsigned status;
	char *body; /* ends with 0; "" when there was none */
	size_t body_len;
	char request_id[80]; /* "" when it has none */
	char *subject_token;
};
enum { HTTP_BODY_MAX = 8 << 20 };
static const uint64_t http_length_unknown = UINT64_MAX;

struct http;
int http_new(struct http **out, const struct http_opts *o, struct error *e);
void http_free(struct http *h); /* NULL is allowed */
void http_answer_free(struct http_answer *a);
/* A whole exchange. ERR_PASSING: no answer came, and the next one may. */
int http_call(struct http *h, const struct http_request *q, struct http_answer *a, struct error *e);
/* Receives the body piecewise when the answer is a success; else it is in *a. */
typedef int http_piece_fn(void *ctx, const void *bytes, size_t len, struct error *e);
int http_receive(struct http *h, const struct http_request *q, http_piece_fn *piece, void *ctx, struct http_answer *a,
	struct error *e);
/* A request whose body comes piecewise: begin waits until the server wants it or has answered without it. A function that returns 1
 * says that the answer is there: http_send_end. */
int http_send_begin(struct http *h, const struct http_request *q, uint64_t len, struct error *e);
int http_send(struct http *h, const void *bytes, size_t len, struct error *e); /* bytes NULL: zeros */
int http_send_end(struct http *h, struct http_answer *a, struct error *e);
void http_send_abort(struct http *h);
unsigned http_status(const struct http *h); /* of the answer that is coming */
void http_set_cancel(struct http *h, const atomic_bool *cancel);

/* ---- a session with Keystone (store/keystone.c) ---- */

struct session {
	struct store *store; /* who is told */
	struct cloud cloud;
	struct http *http;
	char *token;     /* NULL: auth is none */
	char *image_url; /* of the image service, without a slash at its end */
	int64_t expires; /* seconds since 1970; 0: not known */
};
int session_open(struct session *n, struct store *s, struct error *e);
void session_close(struct session *n);
/* Another token. Where none can be had (a token was given) the old one is all there is: ERR_DENIED. */
int session_renew(struct session *n, struct error *e);
/* Renews a token that is about to expire. */
int session_fresh(struct session *n, struct error *e);
/* A call with the session's token to the image service's `path`, made again after a renewal when the token is refused, and when the
 * failure may pass. Answers that are no success are errors but those in `accepted` (ends with 0; may be NULL). */
int session_call(struct session *n, const struct http_request *q, const unsigned *accepted, struct http_answer *a,
	struct error *e);
/* The error that an answer is. */
int answer_error(const struct http_answer *a, const char *what, struct error *e);
/* Seconds since 1970 of "2026-11-23T01:52:38.000000Z"; 0: it is no time. */
int64_t time_parse(const char *text);

/* The url of the image service in a catalog; the caller's. */
char *catalog_image_url(const json_t *catalog, const char *region, const char *interface, struct error *e);

/* ---- records (store/glance_record.c) ---- */

/* Of an answer's JSON; ERR_CORRUPT when it is none. */
int record_decode(const json_t *j, struct store_image *out, struct error *e);
int record_parse(const struct http_answer *a, struct store_image *out, struct error *e);
/* The body of a POST with this id, and of a PATCH; the caller's. */
char *record_new(const struct store_record *r, const char *id, struct error *e);
char *record_patch(const struct store_record *r, struct error *e);

/* ---- Glance (store/glance.c) ---- */

struct glance {
	struct store store;
	struct session session;
};
int glance_get(struct glance *g, const char *id, struct store_image *out, struct error *e);
int glance_find(struct store *s, const char *id_or_name, struct store_image *out, struct error *e);
int glance_list(struct store *s, bool hidden, store_image_fn *each, void *ctx, struct error *e);
int glance_upload(struct store_upload **out, struct store *s, const struct store_record *r, struct error *e);
int glance_download(struct store *s, const struct store_image *image, struct io_stream *out, struct progress *p,
	struct error *e);

/* Imports what was staged, and waits for it. */
int glance_import(struct glance *g, const char *id, struct error *e);

/* Of what was sent: what the store must say of it. */
struct sent {
	uint64_t bytes, virtual_size;
	char md5[129], sha512[129];
	const char *format;
	bool imported;
};
/* ERR_CHANGED with what differs. *other: its digest is of another algorithm than those of *sent. */
int sent_compare(const struct sent *sent, const struct store_image *image, bool *other, struct error *e);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * One image into Glance: its record, its bytes as they come, and the proof that they arrived. The record's id is ours, so that it can
 * be deleted even when the answer to its making was lost. Nothing is retried here once bytes were sent.
 *
 * order: record, bytes but the last ones, (finish) the last ones, verification; without it the record is deleted.
 */

#include "store/internal.h"

enum { HELD_BACK = 512 };

struct glance_upload {
	struct store_upload base;
	struct glance *g;
	struct store_record record;
	char id[UUID_CHARS];
	bool made, begun, whole, good;
	struct hash *md5, *sha512;
	uint8_t tail[HELD_BACK];
	size_t tail_len;
	struct sent sent;
};

static struct glance_upload *of_stream(struct io_stream *s)
{
	return (struct glance_upload *)((char *)s - offsetof(struct glance_upload, base.stream));
}

/* ---- the record ---- */

/* An answer that was lost leaves the record there: the next try is told of a conflict, and it is ours as long as it is empty. */
static int make_record(struct glance_upload *u, struct error *e)
{
	static const unsigned conflict[] = {409, 0};
	struct store_image image = {0};
	struct http_answer a;

	if (uuid_new(u->id, e) < 0)
		return -1;
	AUTO_FREE char *body = record_new(&u->record, u->id, e);
	if (!body)
		return -1;
	u->made = true;
	const struct http_request q = {.method = "POST", .url = "/v2/images", .type = "application/json", .body = body};
	if (session_call(&u->g->session, &q, conflict, &a, e) < 0)
		return -1;
	int r = a.status == 409 ? glance_get(u->g, u->id, &image, e) : record_parse(&a, &image, e);
	http_answer_free(&a);
	if (r == 0 && (strcasecmp(image.id, u->id) != 0 || strcmp(image.status, "queued") != 0))
		r = err_set(e, ERR_CORRUPT, "the image service made another record than was asked for");
	store_image_free(&image);
	return r;
}

static int fill_record(struct glance_upload *u, struct error *e)
{
	struct store_image image;
	struct http_answer a;

	if (glance_get(u->g, u->record.id, &image, e) < 0)
		return -1;
	snprintf(u->id, sizeof u->id, "%s", image.id);
	int r = strcmp(image.status, "queued") == 0
			? 0
			: err_set(e, ERR_BUSY, "image %s is %s: only one without data can be filled", image.id,
				  image.status);
	store_image_free(&image);
	AUTO_FREE char *body = r == 0 ? record_patch(&u->record, e) : NULL;
	AUTO_FREE char *path = body ? mem_printf(e, "/v2/images/%s", u->id) : NULL;
	if (!path)
		return -1;
	const struct http_request q = {
		.method = "PATCH", .url = path, .type = "application/openstack-images-v2.1-json-patch", .body = body};
	if (session_call(&u->g->session, &q, NULL, &a, e) < 0)
		return -1;
	http_answer_free(&a);
	return 0;
}

/* ---- the bytes ---- */

/* The answer to the bytes; 1: the token was refused. */
static int take_answer(struct glance_upload *u, struct error *e)
{
	struct http_answer a;
	char what[120];

	if (http_send_end(u->g->session.http, &a, e) < 0)
		return -1;
	snprintf(what, sizeof what, "the bytes of image %s", u->id);
	store_tell(&u->g->store, false, "%s: %u%s%s", what, a.status, a.request_id[0] ? ", " : "", a.request_id);
	const bool refused = a.status == 401 && u->g->session.token;
	int r = a.status >= 200 && a.status < 300 ? 0 : answer_error(&a, what, e);
	http_answer_free(&a);
	return refused ? 1 : r;
}

static int start_sending(struct glance_upload *u, uint64_t len, struct error *e)
{
	struct session *n = &u->g->session;

	if (session_fresh(n, e) < 0)
		return -1;
	AUTO_FREE char *url = mem_printf(e, "%s/v2/images/%s/%s", n->image_url, u->id,
		u->record.via == STORE_IMPORT ? "stage" : "file");
	const struct http_request q = {
		.method = "PUT", .url = url, .token = n->token, .type = "application/octet-stream"};
	int r = url ? http_send_begin(n->http, &q, len, e) : -1;
	if (r != 1)
		return r;
	r = take_answer(u, e);
	return r == 0 ? err_set(e, ERR_CORRUPT, "the image service answered before it had the image") : r;
}

static int begin(struct glance_upload *u, uint64_t len, struct error *e)
{
	if ((u->record.id ? fill_record(u, e) : make_record(u, e)) < 0)
		return -1;
	int r = start_sending(u, len, e);
	if (r == 1)
		r = session_renew(&u->g->session, e) < 0 ? -1 : start_sending(u, len, e);
	if (r == 1) /* a good token is refused when Glance does not reach Keystone */
		r = (e->code = ERR_PASSING, -1);
	u->begun = r == 0;
	return r;
}

static int on_expect(struct io_stream *s, uint64_t len, struct error *e)
{
	return begin(of_stream(s), len, e);
}

static int send_bytes(struct glance_upload *u, const void *bytes, size_t len, struct error *e)
{
	int r = len ? http_send(u->g->session.http, bytes, len, e) : 0;
	if (r == 1)
		r = take_answer(u, e) < 0
			    ? -1
			    : err_set(e, ERR_PASSING, "the image service took only a part of image %s", u->id);
	return r;
}

static int hash_both(struct glance_upload *u, const void *buf, size_t len, struct error *e)
{
	return hash_update(u->md5, buf, len, e) < 0 ? -1 : hash_update(u->sha512, buf, len, e);
}

/* The last HELD_BACK bytes so far stay here. */
static int on_append(struct io_stream *s, const void *buf, size_t len, struct error *e)
{
	struct glance_upload *u = of_stream(s);
	const uint8_t *bytes = buf;

	if ((!u->begun && begin(u, http_length_unknown, e) < 0) || hash_both(u, buf, len, e) < 0)
		return -1;
	u->sent.bytes += len;
	const size_t direct = len > HELD_BACK ? len - HELD_BACK : 0, rest = len - direct;
	const size_t old = u->tail_len + rest > HELD_BACK ? u->tail_len + rest - HELD_BACK : 0;
	if (send_bytes(u, u->tail, old, e) < 0 || send_bytes(u, bytes, direct, e) < 0)
		return -1;
	memmove(u->tail, u->tail + old, u->tail_len - old);
	u->tail_len -= old;
	if (bytes)
		memcpy(u->tail + u->tail_len, bytes + direct, rest);
	else
		memset(u->tail + u->tail_len, 0, rest);
	u->tail_len += rest;
	return 0;
}

static int on_finish(struct io_stream *s, struct error *e)
{
	struct glance_upload *u = of_stream(s);

	if ((!u->begun && begin(u, 0, e) < 0) || send_bytes(u, u->tail, u->tail_len, e) < 0)
		return -1;
	int r = take_answer(u, e);
	if (r == 1)
		e->code = ERR_PASSING;
	if (r != 0)
		return -1;
	u->whole = true;
	return hash_finish(u->md5, u->sent.md5, e) < 0 ? -1 : hash_finish(u->sha512, u->sent.sha512, e);
}

static void on_stream_close(struct io_stream *s)
{
	(void)s; /* store_upload_close does it */
}

/* ---- the proof ---- */

static int swallow(struct io_stream *s, const void *buf, size_t len, struct error *e)
{
	(void)s, (void)buf, (void)len, (void)e;
	return 0;
}

/* The store has a digest that was not made while sending: what it has is read back, and its own digest proven on the way. */
static int read_back(struct glance_upload *u, const struct store_image *image, struct error *e)
{
	static const struct io_stream_ops ops = {.append = swallow};
	struct io_stream nowhere = {.ops = &ops, .name = (char *)"the image read back"}, *hashed = NULL;
	struct hash *h = NULL;
	char digest[129] = "";

	store_tell(&u->g->store, true, "the store's digest is a %s: the image is read back to compare it",
		image->hash_algorithm);
	int r = hash_new(&h, "sha512", e);
	if (r == 0)
		r = hash_stream_new(&hashed, &nowhere, h, e);
	if (r == 0)
		r = glance_download(&u->g->store, image, hashed, NULL, e);
	if (r == 0)
		r = hash_finish(h, digest, e);
	if (r == 0 && strcmp(digest, u->sent.sha512) != 0)
		r = err_set(e, ERR_CHANGED, "what is read back from the store is not what was sent");
	io_stream_close(hashed);
	hash_free(h);
	return r;
}

static int on_verify(struct store_upload *base, uint64_t virtual_size, struct store_image *out, struct error *e)
{
	struct glance_upload *u = (struct glance_upload *)base;
	bool other;

	u->sent.virtual_size = virtual_size;
	u->sent.format = u->record.format;
	u->sent.imported = u->record.via == STORE_IMPORT;
	if (u->sent.imported && glance_import(u->g, u->id, e) < 0)
		return -1;
	if (glance_get(u->g, u->id, out, e) < 0)
		return -1;
	int r = sent_compare(&u->sent, out, &other, e);
	if (r == 0 && other)
		r = read_back(u, out, e);
	u->good = r == 0;
	if (r < 0)
		store_image_free(out);
	return r < 0 ? err_prefix(e, "image %s", u->id) : 0;
}

/* ---- beginning and end ---- */

/* Also after a cancel: a record that claims nothing is better than none, but none is best. */
static int delete_record(struct glance_upload *u)
{
	static const unsigned gone[] = {404, 0};
	struct glance *g = u->g;
	const atomic_bool *cancel = g->store.opts.cancel;
	struct http_answer a;
	struct error e;
	AUTO_FREE char *path = mem_printf(&e, "/v2/images/%s", u->id);

	g->store.opts.cancel = NULL;
	http_set_cancel(g->session.http, NULL);
	int r = path ? session_call(&g->session, &(struct http_request){.method = "DELETE", .url = path}, gone, &a, &e)
		     : -1;
	if (r == 0)
		http_answer_free(&a);
	else
		store_tell(&g->store, true, "image %s could not be deleted: %s", u->id, e.msg);
	g->store.opts.cancel = cancel;
	http_set_cancel(g->session.http, cancel);
	return r;
}

static void on_close(struct store_upload *base, bool keep, char **left)
{
	struct glance_upload *u = (struct glance_upload *)base;
	struct error e;

	if (u->begun && !u->whole)
		http_send_abort(u->g->session.http);
	if (u->made && !(u->good && keep) && delete_record(u) < 0 && left)
		*left = mem_strdup(u->id, &e);
	hash_free(u->md5);
	hash_free(u->sha512);
	free(u->base.stream.name);
	free(u);
}

int glance_upload(struct store_upload **out, struct store *s, const struct store_record *r, struct error *e)
{
	static const struct store_upload_ops ops = {.verify = on_verify, .close = on_close};
	static const struct io_stream_ops stream_ops = {
		.expect = on_expect, .append = on_append, .finish = on_finish, .close = on_stream_close};
	struct glance_upload *u = mem_calloc(1, sizeof *u, "an upload", e);
	if (!u)
		return -1;
	u->base = (struct store_upload){.ops = &ops, .stream = {.ops = &stream_ops, .cancel = s->opts.cancel}};
	u->g = (struct glance *)s;
	u->record = *r;
	u->base.stream.name = mem_strdup("the image service", e);
	if (!u->base.stream.name || hash_new(&u->md5, "md5", e) < 0 || hash_new(&u->sha512, "sha512", e) < 0) {
		on_close(&u->base, false, NULL);
		return -1;
	}
	*out = &u->base;
	return 0;
}

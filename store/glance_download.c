/* SPDX-License-Identifier: Apache-2.0
 *
 * One image out of Glance, as its bytes are there. What came is kept when a connection breaks: the next one begins behind it. The
 * digest is of all.
 */
#include "store/internal.h"

struct download {
	struct glance *g;
	const struct store_image *image;
	struct io_stream *out;
	struct progress *progress;
	struct hash *hash;   /* NULL: the store says none that is known here */
	const char *wanted;  /* its value, hex */
	uint64_t pos, asked; /* bytes that came; where this answer was asked to begin */
	uint64_t skip;       /* of this answer, which begins at 0 all the same */
	bool first;
};

/* Python's names of algorithms, and libcrypto's. */
static int start_hash(struct download *d, struct error *e)
{
	const struct store_image *i = d->image;
	struct error why;

	d->wanted = i->hash;
	if (i->hash && i->hash_algorithm) {
		AUTO_FREE char *name = mem_strdup(i->hash_algorithm, e);
		for (char *p = name; p && *p; p++)
			*p = *p == '_' ? '-' : *p;
		if (!name)
			return -1;
		const char *known = strcmp(name, "blake2b") == 0   ? "blake2b512"
				    : strcmp(name, "blake2s") == 0 ? "blake2s256"
								   : name;
		if (hash_known(known, &why) == 0)
			return hash_new(&d->hash, known, e);
	}
	d->wanted = i->checksum;
	if (i->checksum)
		return hash_new(&d->hash, "md5", e);
	store_tell(&d->g->store, true, "the store has no digest of image %s that could be compared", i->id);
	return 0;
}

static int on_piece(void *ctx, const void *bytes, size_t len, struct error *e)
{
	struct download *d = ctx;

	if (d->first) /* a server that takes no ranges sends all */
		d->skip = d->asked && http_status(d->g->session.http) == 200 ? d->asked : 0;
	d->first = false;
	const size_t drop = (size_t)min_u64(d->skip, len);
	d->skip -= drop;
	bytes = (const char *)bytes + drop;
	len -= drop;
	if (!len)
		return 0;
	if (d->image->has_size && len > d->image->size - d->pos)
		return err_set(e, ERR_CHANGED, "more bytes come than the image has");
	if (d->hash && hash_update(d->hash, bytes, len, e) < 0)
		return -1;
	if (io_stream_append(d->out, bytes, len, e) < 0)
		return -1;
	d->pos += len;
	progress_report(d->progress, d->pos, d->image->has_size ? d->image->size : 0);
	return 0;
}

/* 1: with another token. */
static int one_try(struct download *d, const char *path, struct error *e)
{
	struct session *n = &d->g->session;
	struct http_answer a;

	if (session_fresh(n, e) < 0)
		return -1;
	AUTO_FREE char *url = mem_printf(e, "%s%s", n->image_url, path);
	if (!url)
		return -1;
	const struct http_request q = {.method = "GET", .url = url, .token = n->token, .range_from = d->pos};
	d->asked = d->pos;
	d->first = true;
	if (http_receive(n->http, &q, on_piece, d, &a, e) < 0)
		return -1;
	store_tell(&d->g->store, false, "GET %s: %u", url, a.status);
	const unsigned status = a.status;
	const bool ok = status == 200 || status == 206;
	if (!ok)
		answer_error(&a, "the image's data", e);
	http_answer_free(&a);
	return ok ? 0 : status == 401 && n->token ? 1 : -1;
}

static int fetch(struct download *d, struct error *e)
{
	AUTO_FREE char *path = mem_printf(e, "/v2/images/%s/file", d->image->id);
	const unsigned retries = d->g->store.opts.retries;
	bool renewed = false;

	if (!path)
		return -1;
	for (unsigned failed = 0;;) {
		const uint64_t before = d->pos;
		int r = one_try(d, path, e);
		if (r == 1 && !renewed) {
			renewed = true;
			if (session_renew(&d->g->session, e) < 0)
				return -1;
			continue;
		}
		if (r == 1)
			e->code = ERR_PASSING;
		if (d->pos > before)
			failed = 0, renewed = false;
		if (r == 0 || e->code != ERR_PASSING || failed++ == retries)
			return r ? -1 : 0;
		if (store_wait(&d->g->store, failed, e, e) < 0)
			return -1;
	}
}

static int compare(struct download *d, struct error *e)
{
	char digest[129];
	if (d->image->has_size && d->pos != d->image->size)
		return err_set(e, ERR_CHANGED, "%llu bytes came, the image has %llu", (unsigned long long)d->pos,
			(unsigned long long)d->image->size);
	if (!d->hash)
		return 0;
	if (hash_finish(d->hash, digest, e) < 0)
		return -1;
	return strcasecmp(digest, d->wanted) == 0
		       ? 0
		       : err_set(e, ERR_CHANGED, "what came has another digest than the store says");
}

int glance_download(struct store *s, const struct store_image *image, struct io_stream *out, struct progress *p,
	struct error *e)
{
	struct download d = {.g = (struct glance *)s, .image = image, .out = out, .progress = p};

	if (strcmp(image->status, "active") != 0)
		return err_set(e, ERR_USAGE, "image %s is %s: it has no data", image->id, image->status);
	int r = start_hash(&d, e);
	if (r == 0)
		r = fetch(&d, e);
	if (r == 0)
		r = compare(&d, e);
	hash_free(d.hash);
	return r < 0 ? err_prefix(e, "image %s", image->id) : 0;
}

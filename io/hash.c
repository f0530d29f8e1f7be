/* SPDX-License-Identifier: Apache-2.0
 *
 * Digests of bytes, by libcrypto: of a stream while it passes, of a file when it is complete. The first cluster
 * of a qcow2 file, which a digest begins with, is the last to be known.
 */
#include <openssl/evp.h>

#include "io/io.h"

struct hash {
	EVP_MD_CTX *ctx;
};

static const EVP_MD *find(const char *algorithm)
{
	const EVP_MD *md = EVP_get_digestbyname(algorithm);
	return md && EVP_MD_size(md) > 0 && EVP_MD_size(md) <= 64 ? md : NULL;
}

int hash_known(const char *algorithm, struct error *e)
{
	return find(algorithm) ? 0 : err_set(e, ERR_USAGE, "Unknown hash algorithm '%s'", algorithm);
}

int hash_new(struct hash **out, const char *algorithm, struct error *e)
{
	const EVP_MD *md = find(algorithm);
	if (!md)
		return hash_known(algorithm, e);
	struct hash *h = mem_calloc(1, sizeof *h, "hash", e);
	if (!h)
		return -1;
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx || EVP_DigestInit_ex(h->ctx, md, NULL) != 1) {
		hash_free(h);
		return err_set(e, ERR_UNSUPPORTED, "Hash algorithm '%s' cannot be used", algorithm);
	}
	*out = h;
	return 0;
}

int hash_update(struct hash *h, const void *bytes, size_t len, struct error *e)
{
	static const uint8_t zeros[64 << 10];
	for (size_t n; len; len -= n) {
		n = bytes ? len : min_u64(len, sizeof zeros);
		if (EVP_DigestUpdate(h->ctx, bytes ? bytes : zeros, n) != 1)
			return err_set(e, ERR_IO, "hashing failed");
	}
	return 0;
}

int hash_finish(struct hash *h, char hex[129], struct error *e)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len;
	if (EVP_DigestFinal_ex(h->ctx, digest, &len) != 1)
		return err_set(e, ERR_IO, "hashing failed");
	for (unsigned i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

void hash_free(struct hash *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

int hash_io(struct io *io, uint64_t len, const char *algorithm, const struct progress *progress, char hex[129],
	struct error *e)
{
	const size_t step = 1 << 20;
	struct hash *h = NULL;
	if (hash_new(&h, algorithm, e) < 0)
		return -1;
	AUTO_FREE uint8_t *buf = mem_alloc_pages(step, "hash buffer", e);
	int r = buf ? 0 : -1;
	for (uint64_t at = 0; r == 0 && at < len; at += step) {
		size_t n = min_u64(step, len - at);
		r = io_read(io, buf, n, at, e) < 0 ? -1 : hash_update(h, buf, n, e);
		progress_report(progress, at + n, len);
		if (r == 0 && progress_cancelled(progress))
			r = err_set(e, ERR_CANCELLED, "cancelled");
	}
	if (r == 0)
		r = hash_finish(h, hex, e);
	hash_free(h);
	return r;
}

struct hash_stream {
	struct io_stream base;
	struct io_stream *below;
	struct hash *hash;
};

static int hash_append(struct io_stream *base, const void *buf, size_t len, struct error *e)
{
	struct hash_stream *s = (struct hash_stream *)base;
	if (hash_update(s->hash, buf, len, e) < 0)
		return -1;
	return io_stream_append(s->below, buf, len, e);
}

static int hash_stream_finish(struct io_stream *base, struct error *e)
{
	return io_stream_finish(((struct hash_stream *)base)->below, e);
}

static int hash_stream_expect(struct io_stream *base, uint64_t len, struct error *e)
{
	return io_stream_expect(((struct hash_stream *)base)->below, len, e);
}

static void hash_stream_close(struct io_stream *base)
{
	free(base->name);
	free(base);
}

int hash_stream_new(struct io_stream **out, struct io_stream *below, struct hash *h, struct error *e)
{
	static const struct io_stream_ops ops = {.append = hash_append,
		.finish = hash_stream_finish,
		.expect = hash_stream_expect,
		.close = hash_stream_close};
	AUTO_FREE struct hash_stream *s = mem_calloc(1, sizeof *s, "stream", e);
	char *name = s ? mem_strdup(below->name, e) : NULL;
	if (!name)
		return -1;
	*s = (struct hash_stream){.base = {.ops = &ops, .name = name}, .below = below, .hash = h};
	*out = &STEAL(s)->base;
	return 0;
}

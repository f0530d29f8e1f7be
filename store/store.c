/* SPDX-License-Identifier: Apache-2.0
 *
 * The interface of store.h over a store's operations. Those of Glance are a module (base/module.c): libcurl and what it needs are
 * loaded when they are asked for only.
 */
#include <stdarg.h>
#include <time.h>

#include "store/internal.h"

enum { WAIT_MAX_SECONDS = 30, TICK_NS = 100000000, TICKS = 10 };

int store_open(struct store **out, const struct store_opts *o, struct error *e)
{
	*out = NULL;
#ifdef HAVE_CURL
	union {
		void *symbol;
		store_open_fn *open;
	} module = {.symbol = module_symbol("glance", STORE_GLANCE_SYMBOL, e)};
	return module.symbol ? module.open(out, o, e) : -1;
#else
	(void)o;
	return err_set(e, ERR_UNSUPPORTED, "this build has no image service: libcurl or libyaml was not there");
#endif
}

void store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
}

int store_list(struct store *s, bool hidden, store_image_fn *each, void *ctx, struct error *e)
{
	return s->ops->list(s, hidden, each, ctx, e);
}

int store_find(struct store *s, const char *id_or_name, struct store_image *out, struct error *e)
{
	return s->ops->find(s, id_or_name, out, e);
}

int store_get(struct store *s, const char *id, struct store_image *out, struct error *e)
{
	return s->ops->get(s, id, out, e);
}

int store_upload_new(struct store_upload **out, struct store *s, const struct store_record *r, struct error *e)
{
	return s->ops->upload(out, s, r, e);
}

struct io_stream *store_upload_stream(struct store_upload *u)
{
	return &u->stream;
}

int store_upload_verify(struct store_upload *u, uint64_t virtual_size, struct store_image *out, struct error *e)
{
	return u->ops->verify(u, virtual_size, out, e);
}

void store_upload_close(struct store_upload *u, bool keep, char **left)
{
	if (left)
		*left = NULL;
	if (u)
		u->ops->close(u, keep, left);
}

int store_download(struct store *s, const struct store_image *image, struct io_stream *out, struct progress *p,
	struct error *e)
{
	return s->ops->download(s, image, out, p, e);
}

void store_image_free(struct store_image *i)
{
	char **const texts[] = {&i->id, &i->name, &i->status, &i->format, &i->container, &i->visibility, &i->created,
		&i->checksum, &i->hash_algorithm, &i->hash};
	for (unsigned t = 0; t < sizeof texts / sizeof *texts; t++)
		free(*texts[t]);
	for (unsigned p = 0; p < i->property_count; p++) {
		free(i->properties[p].key);
		free(i->properties[p].value);
	}
	free(i->properties);
	*i = (struct store_image){0};
}

const char *store_image_property(const struct store_image *i, const char *key)
{
	for (unsigned p = 0; p < i->property_count; p++)
		if (strcmp(i->properties[p].key, key) == 0)
			return i->properties[p].value;
	return NULL;
}

void store_tell(const struct store *s, bool important, const char *fmt, ...)
{
	char text[1200];
	va_list args;

	if (!s->opts.told)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	s->opts.told(s->opts.told_ctx, important, text);
}

int store_wait(struct store *s, unsigned failed, const struct error *why, struct error *e)
{
	const unsigned seconds = failed > 5 ? WAIT_MAX_SECONDS : 1u << (failed - 1);

	store_tell(s, true, "%s; trying again in %u s", why->msg, seconds);
	for (unsigned i = 0; i < seconds * TICKS; i++) {
		if (s->opts.cancel && atomic_load_explicit(s->opts.cancel, memory_order_relaxed))
			return err_set(e, ERR_CANCELLED, "cancelled");
		nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
	}
	return 0;
}

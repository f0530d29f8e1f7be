/* SPDX-License-Identifier: Apache-2.0
 *
 * store: services that keep whole images. Behind this interface is OpenStack's image service (store/glance_*.c), found and
 * spoken to as its own clients do (store/cloud.c, store/keystone.c); another kind of store is another table of operations.
 *
 * An image is streamed in one pass, and what arrived is compared with what was sent before anybody is told that it is there.
 * Requests that can be made again are, a bounded number of times with growing waits, where the failure may pass; what remains
 * then is ERR_PASSING for the caller who can begin anew. Secrets are in no message. All calls of one store are for one thread.
 */
#ifndef QSNAP_STORE_H
#define QSNAP_STORE_H

#include "io/io.h"

/* ---- opening one ---- */

struct store_opts {
	const char *cloud;         /* of clouds.yaml; NULL: OS_CLOUD, else what the variables say */
	bool insecure;             /* whoever answers is believed */
	unsigned timeout_seconds;  /* for a connection on which nothing moves */
	unsigned retries;          /* of one request */
	uint64_t rate;             /* bytes a second of images, 0: as fast as can be */
	const atomic_bool *cancel; /* may be NULL */
	/* Something to know: a try that failed (`important`), or each request. May be NULL. */
	void (*told)(void *ctx, bool important, const char *text);
	void *told_ctx;
};

struct store;
/* Reads where the store is and who asks, and proves it to the service. */
int store_open(struct store **out, const struct store_opts *o, struct error *e);
void store_close(struct store *s); /* NULL is allowed */
/* Waits before the try after `failed` ones, 1 s, 2 s, 4 s, ... 30 s, and tells why. ERR_CANCELLED. */
int store_wait(struct store *s, unsigned failed, const struct error *why, struct error *e);

/* ---- images ---- */

struct store_property {
	char *key, *value;
};

/* What a store tells of one. NULL: it does not say. */
struct store_image {
	char *id, *name, *status, *format, *container, *visibility, *created;
	char *checksum;              /* MD5 */
	char *hash_algorithm, *hash; /* hex */
	bool hidden;                 /* lists do not show it unless asked to */
	bool has_size, has_virtual_size;
	uint64_t size, virtual_size;       /* of the file, of the disk */
	uint64_t min_disk, min_ram;        /* GiB, MiB */
	struct store_property *properties; /* all else that is text, what its maker said of it among it */
	unsigned property_count;
};
/* Its value; NULL: it has none. Borrowed. */
const char *store_image_property(const struct store_image *i, const char *key);
void store_image_free(struct store_image *i); /* what it owns */

/* All that the caller may see and that are hidden or not, in the store's order; called once for each. */
typedef int store_image_fn(void *ctx, const struct store_image *image, struct error *e);
int store_list(struct store *s, bool hidden, store_image_fn *each, void *ctx, struct error *e);
/* By id, else by name, of hidden ones only where no other has it: ERR_NOT_FOUND, ERR_USAGE when several have it. */
int store_find(struct store *s, const char *id_or_name, struct store_image *out, struct error *e);
/* By id alone; ERR_USAGE: it is none. */
int store_get(struct store *s, const char *id, struct store_image *out, struct error *e);

/* ---- giving one ---- */

enum store_via {
	STORE_PUT,    /* straight to where it is kept */
	STORE_IMPORT, /* by a staging area, from where the service takes it when it has looked at it */
};

struct store_record {           /* what is said of a new image; strings are the caller's */
	const char *id;         /* fills this one, which exists and has no data; NULL: a new one */
	const char *name;       /* NULL: with `id`, as it is */
	const char *format;     /* "qcow2", "raw" */
	const char *visibility; /* NULL: private, with `id` as it is */
	bool hidden;            /* lists do not show it unless asked to */
	bool has_min_disk, has_min_ram;
	unsigned min_disk, min_ram;
	const struct store_property *properties;
	unsigned property_count;
	enum store_via via;
};

struct store_upload;
/* Nothing is asked of the store before the length is expected or the first byte comes. */
int store_upload_new(struct store_upload **out, struct store *s, const struct store_record *r, struct error *e);
/* The last bytes leave when it is finished: a source that proves to have changed until then makes no image. Borrowed. */
struct io_stream *store_upload_stream(struct store_upload *u);
/* After the finish: that the store has what was sent, `virtual_size` among it. ERR_CHANGED: it has something else. */
int store_upload_verify(struct store_upload *u, uint64_t virtual_size, struct store_image *out, struct error *e);
/* Unless it was verified and is to be kept, the record that was made is deleted; *left (may be NULL) is then its id if that failed,
 * for the caller to free, else NULL. */
void store_upload_close(struct store_upload *u, bool keep, char **left);

/* ---- taking one ---- */

/* Streams an image that store_find gave, and compares its digest with what the store says of it; where a connection breaks it
 * goes on. `out` is not finished. */
int store_download(struct store *s, const struct store_image *image, struct io_stream *out, struct progress *p,
	struct error *e);

#endif

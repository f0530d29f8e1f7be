/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of the JSON objects that a catalog and a bundle's manifest are: read with limits, ERR_CORRUPT or ERR_LIMIT, and written.
 */
#ifndef QSNAP_SNAPSHOT_MEMBER_H
#define QSNAP_SNAPSHOT_MEMBER_H

#include "base/json_read.h"
#include "snapshot/internal.h"

enum { MAX_WORD = 255, MAX_PATH = 4096, MAX_XML = 16 << 20 };

/* A text of at most `most` bytes; NULL in *out where there is none and `must` is not set. */
int get_text(char **out, const json_t *of, const char *key, size_t most, bool must, struct error *e);
/* The same in one line. */
int get_word(char **out, const json_t *of, const char *key, size_t most, bool must, struct error *e);
int get_number(int64_t *out, const json_t *of, const char *key, int64_t min, int64_t max, struct error *e);
/* *out is NULL where there is none. */
int get_list(const json_t **out, size_t *count, const json_t *of, const char *key, size_t most, struct error *e);
/* The index of the word among `names`. */
int get_choice(unsigned *out, const json_t *of, const char *key, const char *const *names, unsigned count,
	struct error *e);

/* Of a point: name, parent, time, how it was taken. Of a disk of it: target, size, time. */
int point_head_read(struct vm_point *p, const json_t *v, struct error *e);
int point_disk_read(struct vm_point_disk *d, const json_t *v, struct error *e);
void point_head_put(struct json *j, const struct vm_point *p);
void point_disk_put(struct json *j, const struct vm_point_disk *d);
void put_optional(struct json *j, const char *key, const char *value); /* `value` NULL: nothing */

/* Each name is there once, parents and the current point are there, nobody is its own ancestor (snapshot/catalog_read.c). */
int catalog_check_family(const struct vm_catalog *c, struct error *e);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests of internal snapshots: an image that is changed in place beside plain copies of what the disk and every snapshot must
 * show.
 */
#ifndef QSNAP_TESTS_UNIT_SNAPSHOT_MODEL_H
#define QSNAP_TESTS_UNIT_SNAPSHOT_MODEL_H

#include "qcow2/edit_internal.h"
#include "tests/unit/crash.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"

enum { MAX_STATES = 12, DISK = 96 << 10 };

struct kind {
	uint32_t cluster_size, refcount_bits;
	unsigned version;
	bool extended_l2;
	uint32_t size;
};
struct state { /* what a snapshot, or the disk, shows */
	char name[16];
	uint8_t *bytes;
	uint32_t size;
};
struct model {
	struct kind kind; /* its size is the disk's now */
	struct chain *chain;
	struct io *fault;
	struct edit *ed;
	uint8_t *disk;
	struct state snapshots[MAX_STATES];
	unsigned count, named;
	uint64_t random;
};

struct expectation {
	const struct model *before, *after;
	unsigned judged;
};

static inline void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}
uint64_t model_random(struct model *s, uint64_t below);
void model_open(struct model *s, const struct kind *k, uint64_t seed);
/* Goes on with an image in another file. */
void model_reopen(struct model *s, struct io *file);
void model_free(struct model *s);
/* A write of some sort. */
void model_write(struct model *s);
/* In the model alone. */
void model_add(struct model *s);
void model_go_back(struct model *s, unsigned index);
void model_remove(struct model *s, unsigned index);
/* Both in the image and in the model, if the image could. */
int model_create(struct model *s, unsigned threads, struct error *e);
int model_apply(struct model *s, unsigned index, unsigned threads, struct error *e);
int model_switch(struct model *s, unsigned index, unsigned threads, struct error *e);
int model_delete(struct model *s, unsigned index, unsigned threads, struct error *e);
int model_resize(struct model *s, uint32_t size, struct error *e);
/* Closes and opens the editor again; in between the file has all states, and every count and flag is right. */
void model_expect(struct model *s);
/* A copy of what the model says, without the image. */
void model_remember(struct model *to, const struct model *s);
void model_forget(struct model *s);
/* The file's bytes, to be freed; returns the file. */
struct io *model_bytes(struct model *s, uint8_t **bytes);
/* Closes the editor: the file's bytes, to be freed. */
uint8_t *model_take(struct model *s, uint64_t *len);
/* Closes the editor and frees all. */
void model_end(struct model *s);
void model_write_some(struct model *s, unsigned n);
/* For crash_each: the file's disk and each of its snapshots are as in one of the two models. ctx: struct expectation. */
void model_judge(void *ctx, struct io *file, const char *what);

#endif

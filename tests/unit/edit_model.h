/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: an edited image over a backing file beside all that each of its sectors may show after a crash: what it showed at the
 * last flush, and what any operation since then made of it (FORMAT.md §12.4).
 */
#ifndef QSNAP_TESTS_UNIT_EDIT_MODEL_H
#define QSNAP_TESTS_UNIT_EDIT_MODEL_H

#include "qcow2/check.h"
#include "qcow2/edit_internal.h"
#include "tests/unit/crash.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"

enum { VERSIONS = 40, MODEL_SECTOR = 512 };

struct edit_kind {
	const char *name;
	uint32_t cluster_size, refcount_bits;
	unsigned version;
	bool extended_l2, backing, zstd;
	bool lazy;                /* refcounts may lag behind in an image that is marked as dirty */
	bool data_file, data_raw; /* guest data in a second file; which can be read without the image */
	uint32_t size;
};
extern const struct edit_kind edit_kinds[];
extern const unsigned edit_kind_count;

struct edit_model {
	struct edit_kind kind;
	struct chain *chain;
	struct io *fault, *data, *backing; /* data: NULL without a data file */
	struct edit *ed;
	uint8_t *versions[VERSIONS]; /* of the disk; [0] at the last flush, [count - 1] now */
	unsigned count;
	uint8_t *snapshot; /* what the one snapshot shows; NULL: there is none */
	uint64_t random;
	/* Operations keep to it, and a crash leaves each one old or new: a sector, or 1, since the record of two writes to one sector
	 * knows mixtures that no disk makes. */
	unsigned granule;
};

static inline void need(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}
uint64_t edit_random(struct edit_model *m, uint64_t below);
void edit_model_open(struct edit_model *m, const struct edit_kind *k, uint64_t seed);
void edit_model_free(struct edit_model *m);
/* A random operation on the image; the model has one more version, also when it fails: what it would have made. */
int edit_model_step(struct edit_model *m, struct error *e);
/* What was flushed is all there is now. */
void edit_model_flushed(struct edit_model *m);
/* Each granule of `disk` is one of its versions. */
void edit_model_allows(const struct edit_model *m, const uint8_t *disk, const char *what);
/* The same of a data file that is said to be raw; others say nothing by themselves. */
void edit_model_look_at_raw(const struct edit_model *m, struct io *data, const char *what);
/* A copy of the file's bytes as a new memory io. */
struct io *edit_model_copy(struct io *file);
/* Opens the bytes of `file` and `data` (taken over; data NULL: none) for changes; the disk as it reads. */
struct chain *edit_model_look(const struct edit_model *m, struct io *file, struct io *data, struct edit **ed,
	uint8_t *disk);
/* What a crash of another program leaves of lazy refcounts: the dirty bit, and counts that are too low. Between two editors. */
void edit_model_make_dirty(struct edit_model *m);
/* For crash_each_of; ctx is the model. Also goes on writing after the crash, and repairs. */
void edit_model_judge(void *ctx, struct io *const *files, const char *what);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests of repair: small images with data of all kinds and two snapshots, what each state of them reads as, and damages that
 * leave all of that readable in principle.
 */
#ifndef QSNAP_TESTS_UNIT_DAMAGE_H
#define QSNAP_TESTS_UNIT_DAMAGE_H

#include "io/io.h"
#include "qcow2/qcow2.h"

struct damage_kind {
	uint32_t cluster_size, refcount_bits;
	unsigned version;
	bool extended_l2, snapshots;
};
extern const struct damage_kind damage_kinds[];
extern const unsigned damage_kind_count;

enum { SUBJECT_DISK = 200 << 10, SUBJECT_STATES = 3 };

struct damaged {
	uint8_t *bytes; /* of the file */
	size_t len;
	struct header h; /* before the damage */
	uint64_t random;
	unsigned states;                /* the active one, then the snapshots */
	uint8_t *state[SUBJECT_STATES]; /* SUBJECT_DISK bytes each */
};
/* A sound image. */
void damaged_new(struct damaged *d, const struct damage_kind *kind, uint64_t seed);
/* Another one like it. */
void damaged_copy(struct damaged *to, const struct damaged *d);
void damaged_free(struct damaged *d);
uint64_t damaged_random(struct damaged *d, uint64_t below);

struct damage {
	const char *name;
	/* false: this image cannot have it */
	bool (*make)(struct damaged *d);
	unsigned way; /* one of each way can come together, in this order */
};
enum { DAMAGE_WAYS = 4 };
extern const struct damage damages[];
extern const unsigned damage_count;

/* Each state of the file reads as it should; fails the running test otherwise, with `what`. */
void damaged_expect_states(const struct damaged *d, struct io *file, const char *what);

#endif

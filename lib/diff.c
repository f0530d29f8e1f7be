/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade's look at what differs between two states of an image.
 */
#include "lib/internal.h"

_Static_assert((int)QSNAP_DIFFERENCE_GONE == (int)DIFF_GONE, "the two lists of kinds run in step");

struct qsnap_diff {
	const struct layer *top;
	struct qcow2_state from, to;
	struct diff *diff;
	uint64_t at;
};

static int find_state(const struct qcow2 *q, const char *name, struct qcow2_state *out, struct error *e)
{
	const int index = lib_find_snapshot(q, name, e);
	return index < 0 ? -1 : qcow2_state_of_snapshot(q, (uint32_t)index, out, e);
}

static int find_states(struct qsnap_diff *d, const char *from, const char *to, struct error *e)
{
	const struct qcow2 *q = d->top->q;
	if (!q)
		return err_set(e, ERR_UNSUPPORTED, "a raw image has no snapshots and no backing file");
	if (!to)
		qcow2_state_active(q, &d->to);
	else if (find_state(q, to, &d->to, e) < 0)
		return -1;
	d->from = (struct qcow2_state){.size = d->to.size, .snapshot = -1};
	return from ? find_state(q, from, &d->from, e) : 0;
}

int qsnap_diff_open(qsnap_diff **diff, qsnap_image *image, const char *from, const char *to, struct qsnap_error *error)
{
	struct error e;
	*diff = NULL;
	if (image->stale && lib_settle(image, &e) < 0)
		return lib_failed(error, &e);
	struct qsnap_diff *d = mem_calloc(1, sizeof *d, "a comparison", &e);
	if (!d)
		return lib_failed(error, &e);
	d->top = &image->chain->layers[0];
	if (find_states(d, from, to, &e) < 0 || diff_new(&d->diff, image->chain, &d->from, &d->to, &e) < 0) {
		err_prefix(&e, "%s", d->top->path);
		free(d);
		return lib_failed(error, &e);
	}
	*diff = d;
	return 0;
}

int qsnap_diff_next(qsnap_diff *diff, struct qsnap_difference *difference, struct qsnap_error *error)
{
	struct diff_extent x;
	struct error e;
	int more = diff_next(diff->diff, diff->at, UINT64_MAX, &x, &e);
	if (more == 0 && (qcow2_state_verify(diff->top->q, &diff->from, &e) < 0 ||
				 qcow2_state_verify(diff->top->q, &diff->to, &e) < 0)) {
		err_prefix(&e, "%s", diff->top->path);
		more = -1;
	}
	if (more <= 0)
		return more < 0 ? lib_failed(error, &e) : 0;
	const struct qsnap_difference ours = {
		.start = x.start, .length = x.end - x.start, .kind = (int)x.kind, .added = x.added};
	if (lib_give_info(difference, &ours, sizeof ours, error) < 0)
		return -1;
	diff->at = x.end;
	return 1;
}

void qsnap_diff_close(qsnap_diff *diff)
{
	if (!diff)
		return;
	diff_free(diff->diff);
	free(diff);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * One layer of an opened chain with an editor on it, over what lies below it.
 */
#include "qcow2/edit.h"

int edited_open(struct edited *d, const struct chain *c, unsigned layer, struct progress *progress, struct error *e)
{
	*d = (struct edited){.below = {.layers = c->layers + layer + 1, .count = c->count - layer - 1}};
	if (d->below.count) {
		d->below.size = d->below.layers[0].size;
		if (chain_io(&d->backing, &d->below, e))
			return -1;
	}
	if (edit_open(&d->ed, &c->layers[layer], &(struct edit_opts){.backing = d->backing, .progress = progress}, e)) {
		io_close(d->backing);
		*d = (struct edited){0};
		return -1;
	}
	return 0;
}

int edited_close(struct edited *d, struct error *e)
{
	int failed = edit_close(d->ed, e);

	io_close(d->backing);
	*d = (struct edited){0};
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a block job catches up with the guest that it runs beside: what is left to do gets less, if not at once. Where the least
 * that was left has not become less for a while, the guest writes as fast as the job does.
 */
#include "snapshot/internal.h"

enum { PATIENCE_MS = 60000 };

void catch_up_begin(struct catch_up *c, const struct vm *vm)
{
	unsigned ms = vm->opts.patience_ms ? vm->opts.patience_ms : PATIENCE_MS;

	*c = (struct catch_up){.least = UINT64_MAX, .since = take_now_ns(), .patience_ns = ms * 1000000ull};
}

bool catch_up_fails(struct catch_up *c, uint64_t done, uint64_t total)
{
	uint64_t left = total > done ? total - done : 0, now = take_now_ns();

	if (left >= c->least)
		return now - c->since > c->patience_ns;
	c->least = left;
	c->since = now;
	return false;
}

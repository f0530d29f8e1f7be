/* SPDX-License-Identifier: Apache-2.0
 *
 * A limit to the bytes moved in a second (-r).
 */
#include <time.h>

#include "convert/internal.h"

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void rate_begin(struct rate *r, uint64_t limit, const struct progress *progress)
{
	*r = (struct rate){.limit = limit, .started_ns = now_ns(), .progress = progress};
}

void rate_moved(struct rate *r, uint64_t bytes)
{
	if (!r->limit)
		return;
	r->moved += bytes;
	uint64_t due = r->started_ns + (uint64_t)((double)r->moved * 1e9 / (double)r->limit);
	for (uint64_t now = now_ns(); now < due && !progress_cancelled(r->progress); now = now_ns()) {
		uint64_t wait = min_u64(due - now, 100000000);
		nanosleep(&(struct timespec){.tv_nsec = (long)wait}, NULL);
	}
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A look at a few bytes of a cluster before it is compressed (FORMAT.md §6), for encoders that have a faster way for some
 * kinds of data. It takes about one percent of the time of the fastest of them.
 */
#include "qcow2/codec_backend.h"

enum {
	RUN = 32,
	RUNS = 64,
	LONGEST_STEP = 2048, /* from run to run; clusters over 128 KiB get more runs than RUNS */
	SHORTEST = 32768,    /* below it the look would take longer than it saves */
};

/* Counts in two tables, or equal bytes would wait for each other. */
bool codec_sample(struct codec_sample *s, const uint8_t *p, size_t len)
{
	uint32_t even[256] = {0}, odd[256] = {0};
	const size_t step = (size_t)min_u64(len / RUNS, LONGEST_STEP);

	*s = (struct codec_sample){0};
	if (len < SHORTEST)
		return false;
	for (size_t at = 0; at + RUN <= len; at += step, s->bytes += RUN)
		for (size_t i = at; i < at + RUN; i += 2) {
			even[p[i]]++;
			odd[p[i + 1]]++;
		}
	for (unsigned i = 0; i < 256; i++) {
		uint64_t count = even[i] + odd[i];
		s->squares += count * count;
		s->high += i < 128 ? 0 : count;
	}
	return true;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A sweep over refcounts of 16 bits, the usual width (FORMAT.md §7.3), a block of clusters at once. The loops have a fixed length
 * and no branches so that they become vector instructions. Where anything in a block is out of the ordinary, they say so and do
 * nothing.
 */
#include "qcow2/trees.h"

enum { N = SWEEP_BLOCK };

static void load(uint16_t count[N], const uint8_t *stored)
{
	memcpy(count, stored, 2 * N);
	for (int i = 0; i < N; i++)
		count[i] = (uint16_t)(count[i] << 8 | count[i] >> 8);
}

static void store(uint8_t *stored, uint16_t count[N])
{
	for (int i = 0; i < N; i++)
		count[i] = (uint16_t)(count[i] << 8 | count[i] >> 8);
	memcpy(stored, count, 2 * N);
}

/* a - b, or 0. */
static void difference(uint8_t out[N], const uint8_t *a, const uint8_t *b)
{
	for (int i = 0; i < N; i++)
		out[i] = (uint8_t)(a[i] > b[i] ? a[i] - b[i] : 0);
}

static uint8_t highest(const uint8_t *count)
{
	uint8_t most = 0;
	for (int i = 0; i < N; i++)
		most = count[i] > most ? count[i] : most;
	return most;
}

bool sweep16_try(const uint8_t *stored, const uint8_t *up, const uint8_t *down, bool free_matters, uint64_t peak)
{
	uint16_t count[N], most = 0, low = 0, none = 0;
	uint8_t more[N];
	load(count, stored);
	for (int i = 0; i < N; i++) {
		const uint16_t both = (uint16_t)(up[i] + down[i]);
		most = count[i] > most ? count[i] : most;
		low |= (uint16_t) - (count[i] < both);
		none |= (uint16_t) - (count[i] == 0);
	}
	if (low || (none && free_matters) || highest(up) == BIG_COUNT || highest(down) == BIG_COUNT)
		return false;
	difference(more, up, down);
	const uint8_t rise = highest(more);
	return rise == 0 || (uint64_t)most + rise <= peak;
}

bool sweep16_raise(uint8_t *stored, const uint8_t *up, const uint8_t *down, bool *changed)
{
	uint16_t count[N];
	uint8_t more[N];
	if (highest(up) == BIG_COUNT || highest(down) == BIG_COUNT)
		return false;
	difference(more, up, down);
	*changed = highest(more) > 0;
	if (!*changed)
		return true;
	load(count, stored);
	for (int i = 0; i < N; i++)
		count[i] = (uint16_t)(count[i] + more[i]);
	store(stored, count);
	return true;
}

bool sweep16_lower(uint8_t *stored, const uint8_t *up, const uint8_t *down, uint8_t *ones, bool *changed)
{
	uint16_t count[N];
	uint8_t less[N], is_one[N];
	if (highest(up) == BIG_COUNT || highest(down) == BIG_COUNT)
		return false;
	difference(less, down, up);
	*changed = highest(less) > 0;
	load(count, stored);
	for (int i = 0; i < N; i++) {
		count[i] = (uint16_t)(count[i] - less[i]);
		is_one[i] = count[i] == 1;
	}
	for (int i = 0; i < N; i += 8) {
		uint64_t eight;
		memcpy(&eight, is_one + i, 8);
		/* The lowest bits of eight bytes, side by side. */
		ones[i / 8] = (uint8_t)(eight * 0x0102040810204080ull >> 56);
	}
	if (*changed)
		store(stored, count);
	return true;
}

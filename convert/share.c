/* SPDX-License-Identifier: Apache-2.0
 *
 * The states of an image (its snapshots and the active disk) share clusters by host offset. This table keeps that sharing when
 * an image is written anew: from where the source has a cluster's bytes to where the target got them. Open addressing.
 */
#include <openssl/sha.h>

#include "convert/internal.h"

struct share_entry {
	struct share_key key;
	struct share_place place;
};
struct share {
	struct share_entry *entries;
	uint64_t mask, used;
};

int share_new(struct share **out, struct error *e)
{
	struct share *s = mem_calloc(1, sizeof *s, "cluster table", e);
	if (!s)
		return -1;
	s->mask = 4095;
	s->entries = mem_calloc(s->mask + 1, sizeof *s->entries, "cluster table", e);
	if (!s->entries) {
		free(s);
		return -1;
	}
	*out = s;
	return 0;
}

void share_free(struct share *s)
{
	if (!s)
		return;
	free(s->entries);
	free(s);
}

/* One extent that shows all of it is its own key; several are known by a digest chained over their descriptions. */
static struct share_key key_of_parts(const struct extent *x, unsigned count, uint64_t start, uint64_t end)
{
	struct {
		uint8_t before[SHA256_DIGEST_LENGTH];
		uint64_t from, len, kind, depth, host, skip;
	} part = {.from = 0};
	uint8_t digest[SHA256_DIGEST_LENGTH] = {0};
	for (unsigned i = 0; i < count && x[i].start < end; i++) {
		uint64_t from = max_u64(x[i].start, start), cut = from - x[i].start;
		bool plain = x[i].kind == EXTENT_DATA, packed = x[i].kind == EXTENT_COMPRESSED;
		memcpy(part.before, digest, sizeof digest);
		part.from = from - start;
		part.len = min_u64(x[i].start + x[i].len, end) - from;
		part.kind = plain || packed ? x[i].kind : EXTENT_ZERO;
		part.depth = plain || packed ? x[i].depth : 0;
		part.host = plain ? x[i].host + cut : packed ? x[i].host : 0;
		part.skip = packed ? x[i].skip + cut : 0;
		SHA256((const uint8_t *)&part, sizeof part, digest);
	}
	struct share_key key;
	memcpy(&key, digest, sizeof key);
	key.a &= INT64_MAX;
	return key;
}

struct share_key share_key(const struct extent *x, unsigned count, unsigned *first, uint64_t start, uint64_t end)
{
	while (*first < count && x[*first].start + x[*first].len <= start)
		(*first)++;
	bool data = false;
	unsigned last = *first;
	for (; last < count && x[last].start < end; last++)
		data |= x[last].kind == EXTENT_DATA || x[last].kind == EXTENT_COMPRESSED;
	if (!data)
		return (struct share_key){0, 0};
	if (last - *first > 1)
		return key_of_parts(x + *first, last - *first, start, end);
	const struct extent *one = &x[*first];
	uint64_t cut = start - one->start;
	bool packed = one->kind == EXTENT_COMPRESSED;
	/* the last cluster of a disk may be shown only in part: then it is not the same as a whole one */
	uint64_t shown = end - start;
	return (struct share_key){1ull << 63 | (uint64_t)packed << 62 | (uint64_t)one->depth << 46 | shown << 22 |
					  (packed ? one->skip + cut : 0),
		packed ? one->host : one->host + cut};
}

static uint64_t slot_of(const struct share *s, struct share_key key)
{
	uint64_t h = (key.a ^ key.b * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	uint64_t i = (h ^ h >> 32) & s->mask;
	while ((s->entries[i].key.a || s->entries[i].key.b) &&
		(s->entries[i].key.a != key.a || s->entries[i].key.b != key.b))
		i = (i + 1) & s->mask;
	return i;
}

const struct share_place *share_find(const struct share *s, struct share_key key)
{
	const struct share_entry *x = &s->entries[slot_of(s, key)];
	return (key.a || key.b) && (x->key.a || x->key.b) ? &x->place : NULL;
}

static int grow(struct share *s, struct error *e)
{
	struct share bigger = {.mask = 2 * s->mask + 1, .used = s->used};
	bigger.entries = mem_calloc(bigger.mask + 1, sizeof *bigger.entries, "cluster table", e);
	if (!bigger.entries)
		return -1;
	for (uint64_t i = 0; i <= s->mask; i++)
		if (s->entries[i].key.a || s->entries[i].key.b)
			bigger.entries[slot_of(&bigger, s->entries[i].key)] = s->entries[i];
	free(s->entries);
	*s = bigger;
	return 0;
}

int share_add(struct share *s, struct share_key key, struct share_place place, struct error *e)
{
	if (!key.a && !key.b)
		return 0;
	if (s->used > s->mask / 2 && grow(s, e) < 0)
		return -1;
	struct share_entry *x = &s->entries[slot_of(s, key)];
	s->used += !x->key.a && !x->key.b;
	*x = (struct share_entry){key, place};
	return 0;
}

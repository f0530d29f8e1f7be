/* SPDX-License-Identifier: Apache-2.0
 *
 * Random chains against a model that is nothing but an array of sectors per layer (FORMAT.md §5.6, §10.4): what is
 * read, by sweeping extents and by random reads, is what falls through the model; extents cover the disk without
 * gaps and none could be joined with the next.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { SECTOR = 512, MAX_LAYERS = 5, MAX_SECTORS = 1600, ROUNDS = 80 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

/* What a layer says of a sector. */
enum { HOLE, ZEROS, FIRST_VALUE };

struct model {
	unsigned sectors;
	uint16_t says[MAX_SECTORS]; /* HOLE, ZEROS, or the value that fills the sector */
};

static uint32_t random_state;

static unsigned any(unsigned below)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % below;
}

static void fill_sectors(uint8_t *out, const uint16_t *says, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		memset(out + i * SECTOR, says[i] < FIRST_VALUE ? 0 : says[i] & 0xff, SECTOR);
}

/* Sets one cluster of the layer in both. Sectors past the model's end keep a value, which must never be seen. */
static void set_cluster(struct image_builder *b, struct model *m, uint64_t guest, unsigned kind)
{
	unsigned per_cluster = b->g.cluster_size / SECTOR, first = (unsigned)(guest / SECTOR);
	uint8_t *bytes = malloc(b->g.cluster_size);
	uint16_t says[4096];
	uint64_t host;

	for (unsigned i = 0; i < per_cluster; i++)
		says[i] = kind == ZEROS ? ZEROS : (uint16_t)(FIRST_VALUE + any(250));
	fill_sectors(bytes, says, per_cluster);
	if (kind == ZEROS && any(2)) {
		builder_entry(b, guest, ENTRY_ZERO, 0);
	} else if (kind == ZEROS) {
		memset(bytes, 0xee, b->g.cluster_size); /* hidden beneath a zero cluster that keeps its place */
		host = builder_data(b, guest, bytes);
		builder_entry(b, guest, host | ENTRY_ZERO, 0);
	} else if (kind == FIRST_VALUE || b->g.cluster_size < 1024) {
		builder_data(b, guest, bytes);
	} else {
		builder_compressed(b, guest, bytes, any(b->g.cluster_size));
	}
	for (unsigned i = 0; i < per_cluster && first + i < m->sectors; i++)
		m->says[first + i] = says[i];
	free(bytes);
}

static void set_extended_cluster(struct image_builder *b, struct model *m, uint64_t guest)
{
	unsigned per_sub = (b->g.cluster_size / 32) / SECTOR, first = (unsigned)(guest / SECTOR);
	uint8_t *bytes = calloc(1, b->g.cluster_size);
	uint64_t host, bitmap = 0;
	unsigned kind = HOLE;

	for (unsigned sub = 0; sub < 32; sub++) {
		if (any(4) == 0)
			kind = any(3);
		bitmap |= kind == FIRST_VALUE ? 1ull << sub : kind == ZEROS ? 1ull << (32 + sub) : 0;
		for (unsigned i = sub * per_sub; i < (sub + 1) * per_sub; i++) {
			uint16_t says = kind == FIRST_VALUE ? (uint16_t)(FIRST_VALUE + any(250)) : (uint16_t)kind;

			/* what lies beneath holes and zeros must not show */
			memset(bytes + i * SECTOR, kind == FIRST_VALUE ? says & 0xff : 0xee, SECTOR);
			if (first + i < m->sectors)
				m->says[first + i] = says;
		}
	}
	host = builder_data(b, guest, bytes);
	builder_entry(b, guest, (bitmap & UINT32_MAX) || any(2) ? host | ENTRY_COPIED : 0, bitmap);
	free(bytes);
}

static struct io *make_qcow2(struct model *m)
{
	struct image_builder b;
	unsigned extended = any(4) == 0, bits = extended ? 14 + any(3) : 9 + any(9);
	struct io *io;

	builder_init(&b, (uint64_t)m->sectors * SECTOR, bits,
		(extended ? BUILD_EXTENDED : 0) | (any(2) ? BUILD_ZSTD : 0));
	for (uint64_t guest = 0; guest < (uint64_t)m->sectors * SECTOR; guest += b.g.cluster_size) {
		unsigned kind = any(6); /* half of them holes */

		if (kind > FIRST_VALUE + 1)
			continue;
		if (extended && any(3))
			set_extended_cluster(&b, m, guest);
		else if (extended || kind != HOLE)
			set_cluster(&b, m, guest, extended ? FIRST_VALUE + 1 : kind);
	}
	io = builder_finish(&b);
	builder_free(&b);
	return io;
}

static struct io *make_raw(struct model *m)
{
	uint8_t *bytes = malloc(MAX_SECTORS * SECTOR);
	struct io *io;

	for (unsigned i = 0; i < m->sectors; i++)
		m->says[i] = (uint16_t)(FIRST_VALUE + any(250));
	fill_sectors(bytes, m->says, m->sectors);
	MUST(io_memory_new(&io, bytes, (size_t)m->sectors * SECTOR, "raw", &e));
	free(bytes);
	return io;
}

/* What falls through the layers at sector i. */
static uint8_t seen(const struct model *layers, unsigned count, unsigned i)
{
	for (unsigned l = 0; l < count; l++) {
		if (i >= layers[l].sectors || layers[l].says[i] == ZEROS)
			return 0;
		if (layers[l].says[i] >= FIRST_VALUE)
			return layers[l].says[i] & 0xff;
	}
	return 0;
}

/* The disk as the model has it. */
static uint8_t expected[MAX_SECTORS * SECTOR];

static void flatten(const struct model *layers, unsigned count)
{
	for (unsigned i = 0; i < layers[0].sectors; i++)
		memset(expected + i * SECTOR, seen(layers, count, i), SECTOR);
}

static void check_bytes(uint64_t at, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; memcmp(bytes, expected + at, len) != 0; i++)
		ck_assert_msg(bytes[i] == expected[at + i], "byte %llu is %02x, not %02x", (unsigned long long)(at + i),
			bytes[i], expected[at + i]);
}

static bool could_join(const struct extent *a, const struct extent *b)
{
	return a->kind == b->kind && a->kind != EXTENT_COMPRESSED && a->depth == b->depth && a->file == b->file &&
	       a->has_host == b->has_host && (!a->has_host || a->host + a->len == b->host);
}

static void sweep(struct chain *c)
{
	struct extent x, last = {0};
	struct reader *r;
	struct walk *w;
	uint8_t *bytes = malloc(c->size);

	MUST(walk_new(&w, c, c->count, 0, &e));
	MUST(reader_new(&r, &e));
	for (uint64_t p = 0; p < c->size; p += x.len) {
		MUST(walk_extent(w, p, c->size, &x, &e));
		ck_assert(x.start == p && x.len > 0 && x.start + x.len <= c->size);
		ck_assert(p == 0 || !could_join(&last, &x));
		MUST(reader_read(r, &x, 0, bytes + p, x.len, &e));
		last = x;
	}
	check_bytes(0, bytes, c->size);
	reader_free(r);
	walk_free(w);
	free(bytes);
}

static void read_at_random(struct chain *c)
{
	uint8_t *bytes = malloc(c->size);
	struct io *io;

	MUST(chain_io(&io, c, &e));
	for (unsigned i = 0; i < 40; i++) {
		uint64_t at = any((unsigned)c->size);
		size_t len = 1 + any((unsigned)(c->size - at));

		if (any(2))
			len = (size_t)min_u64(len, 5000);
		MUST(io_read(io, bytes, len, at, &e));
		check_bytes(at, bytes, len);
	}
	io_close(io);
	free(bytes);
}

START_TEST(random_chain)
{
	static struct model layers[MAX_LAYERS];
	struct io *files[MAX_LAYERS];
	struct chain *c;
	unsigned count;

	random_state = (uint32_t)_i * 7919 + 1;
	memset(layers, 0, sizeof layers);
	count = 1 + any(MAX_LAYERS);
	for (unsigned l = 0; l < count; l++) {
		layers[l].sectors = 1 + any(MAX_SECTORS);
		files[l] = l == count - 1 && any(3) == 0 ? make_raw(&layers[l]) : make_qcow2(&layers[l]);
	}
	c = chain_of(files, NULL, count);
	flatten(layers, count);
	sweep(c);
	read_at_random(c);
	chain_close(c);
}
END_TEST

Suite *suite_chain_model(void);
Suite *suite_chain_model(void)
{
	Suite *s = suite_create("chain_model");
	TCase *t = tcase_create("chain_model");

	tcase_add_loop_test(t, random_chain, 0, ROUNDS);
	suite_add_tcase(s, t);
	return s;
}

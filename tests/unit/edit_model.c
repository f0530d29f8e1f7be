/* SPDX-License-Identifier: Apache-2.0
 *
 * The edited image and its versions, of tests/unit/edit_model.h.
 */
#include "tests/unit/edit_model.h"

const struct edit_kind edit_kinds[] = {
	{"512", 512, 16, 3, false, false, false, false, false, false, 96 << 10},
	{"512, backing, 64 bits", 512, 64, 3, false, true, false, false, false, false, 64 << 10},
	{"512, 1 bit", 512, 1, 3, false, false, true, false, false, false, 64 << 10},
	{"1k, 8 bits, zstd", 1024, 8, 3, false, true, true, false, false, false, 96 << 10},
	{"4k, version 2", 4096, 16, 2, false, false, false, false, false, false, 192 << 10},
	{"4k, version 2, backing", 4096, 16, 2, false, true, false, false, false, false, 192 << 10},
	{"4k, 2 bits, backing", 4096, 2, 3, false, true, false, false, false, false, (192 << 10) + 512},
	{"16k, extended L2", 16384, 16, 3, true, false, false, false, false, false, 256 << 10},
	{"16k, extended L2, backing", 16384, 16, 3, true, true, false, false, false, false, (256 << 10) - 1024},
	{"64k", 65536, 16, 3, false, false, false, false, false, false, 512 << 10},
	{"512, lazy", 512, 16, 3, false, false, false, true, false, false, 96 << 10},
	{"4k, lazy, backing", 4096, 64, 3, false, true, false, true, false, false, 192 << 10},
	{"16k, lazy, extended L2", 16384, 16, 3, true, false, false, true, false, false, 256 << 10},
	{"512, data file", 512, 16, 3, false, false, false, false, true, false, 96 << 10},
	{"4k, data file, backing", 4096, 16, 3, false, true, false, false, true, false, (192 << 10) + 512},
	{"4k, raw data file", 4096, 16, 3, false, false, false, false, true, true, 192 << 10},
	{"16k, data file, extended L2", 16384, 16, 3, true, false, false, false, true, false, 256 << 10},
};
const unsigned edit_kind_count = sizeof edit_kinds / sizeof *edit_kinds;

uint64_t edit_random(struct edit_model *m, uint64_t below)
{
	m->random = m->random * 6364136223846793005ull + 1442695040888963407ull;
	return (m->random >> 33) % below;
}

static void fill(struct edit_model *m, uint8_t *p, size_t len)
{
	const unsigned range = edit_random(m, 3) ? 255 : 3;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)edit_random(m, range) + 1;
}

static uint8_t *disk_of(const struct edit_model *m, const uint8_t *from)
{
	uint8_t *p = calloc(1, m->kind.size);
	NEED(p);
	return from ? memcpy(p, from, m->kind.size) : p;
}

void edit_model_open(struct edit_model *m, const struct edit_kind *k, uint64_t seed)
{
	struct image_create c;
	struct error e;
	struct io *file, *data = NULL;
	*m = (struct edit_model){.kind = *k, .random = seed, .count = 1, .granule = 1};
	m->versions[0] = disk_of(m, NULL);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = k->size;
	c.cluster_size = k->cluster_size;
	c.refcount_bits = k->refcount_bits;
	c.version = k->version;
	c.extended_l2 = k->extended_l2;
	c.compression = k->zstd ? CODEC_ZSTD : CODEC_DEFLATE;
	c.lazy_refcounts = k->lazy;
	c.data_file_raw = k->data_raw;
	c.data_file = k->data_file ? "data" : NULL;
	if (k->backing) {
		c.backing_name = "base.raw";
		c.backing_format = "raw";
		fill(m, m->versions[0], k->size / 2);
		need(io_memory_new(&m->backing, m->versions[0], k->size / 2, "base.raw", &e), &e);
	}
	if (k->data_file)
		need(io_memory_new(&data, "", 0, "data", &e), &e);
	need(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, data, &e), &e);
	m->fault = io_fault_new(file);
	m->data = data ? io_fault_beside(data, m->fault) : NULL;
	m->chain = chain_of(&m->fault, &m->data, 1);
	need(edit_open(&m->ed, &m->chain->layers[0], &(struct edit_opts){.backing = m->backing}, &e), &e);
}

void edit_model_free(struct edit_model *m)
{
	chain_close(m->chain);
	io_close(m->backing);
	for (unsigned i = 0; i < m->count; i++)
		free(m->versions[i]);
	free(m->snapshot);
}

void edit_model_flushed(struct edit_model *m)
{
	for (unsigned i = 0; i + 1 < m->count; i++)
		free(m->versions[i]);
	m->versions[0] = m->versions[m->count - 1];
	m->count = 1;
}

/* What a discard leaves is ours to say: zeros where whole clusters were, unless version 2 cannot say so. */
static int step_discard(struct edit_model *m, uint8_t *disk, uint64_t guest, uint64_t len, struct error *e)
{
	const uint64_t size = m->kind.cluster_size, first = (guest + size - 1) / size * size;
	uint64_t last = guest + len;
	if (last != m->kind.size)
		last = last / size * size;
	if (first < last && !(m->kind.version == 2 && m->kind.backing))
		memset(disk + first, 0, last - first);
	return edit_discard(m->ed, guest, len, e);
}

static int step_compressed(struct edit_model *m, uint8_t *disk, uint64_t guest, struct error *e)
{
	const uint64_t cluster = guest - guest % m->kind.cluster_size;
	const uint64_t len = min_u64(m->kind.cluster_size, m->kind.size - cluster);
	fill(m, disk + cluster, len);
	return edit_write_compressed(m->ed, disk + cluster, len, cluster, e);
}

int edit_model_step(struct edit_model *m, struct error *e)
{
	const uint64_t most = edit_random(m, 4) ? 6000 : 40000, g = m->granule;
	const uint64_t guest = edit_random(m, m->kind.size) / g * g;
	const uint64_t len = min_u64((edit_random(m, most) / g + 1) * g, m->kind.size - guest);
	uint8_t *disk = disk_of(m, m->versions[m->count - 1]);
	NEED(m->count < VERSIONS);
	m->versions[m->count++] = disk;
	switch (edit_random(m, 8)) {
	case 0:
		memset(disk + guest, 0, len);
		return edit_zero(m->ed, guest, len, edit_random(m, 2) ? EDIT_MAY_UNMAP : 0, e);
	case 1:
		return step_discard(m, disk, guest, len, e);
	case 2:
		if (m->kind.data_file)
			break;
		return step_compressed(m, disk, guest, e);
	default:
		break;
	}
	fill(m, disk + guest, len);
	return edit_write(m->ed, disk + guest, len, guest, e);
}

void edit_model_make_dirty(struct edit_model *m)
{
	struct error e;
	struct image_view v;
	AUTO_FREE uint8_t *bytes = malloc(m->fault->size);
	need(io_read(m->fault, bytes, m->fault->size, 0, &e), &e);
	image_view_open(&v, bytes, m->fault->size);
	struct header h = v.h;
	h.incompatible |= INCOMPAT_DIRTY;
	header_encode(&h, bytes);
	for (uint64_t i = 0; i < (uint64_t)h.reftable_clusters << v.g.cluster_bits >> 3; i++) {
		const uint64_t block = get_be64(bytes + h.reftable_offset + i * 8);
		for (uint64_t k = 0; block && k < 1ull << v.g.refblock_bits; k++)
			if (edit_random(m, 2))
				refcount_put(bytes + block, v.g.refcount_order, k, 0);
	}
	image_view_close(&v);
	need(io_write(m->fault, bytes, m->fault->size, 0, &e), &e);
}

/* ---- what may be ---- */

static bool is_version(const struct edit_model *m, const uint8_t *disk, uint64_t at)
{
	for (unsigned i = 0; i < m->count; i++)
		if (memcmp(disk + at, m->versions[i] + at, m->granule) == 0)
			return true;
	return false;
}

void edit_model_allows(const struct edit_model *m, const uint8_t *disk, const char *what)
{
	for (uint64_t at = 0; at < m->kind.size; at += m->granule)
		if (!is_version(m, disk, at))
			ck_abort_msg("%s: %s: byte 0x%llx (%02x...) is none of %u versions (%02x..., %02x...)",
				m->kind.name, what, (unsigned long long)at, disk[at], m->count, m->versions[0][at],
				m->versions[m->count - 1][at]);
}

void edit_model_look_at_raw(const struct edit_model *m, struct io *data, const char *what)
{
	struct error e;
	AUTO_FREE uint8_t *raw = disk_of(m, NULL);
	if (!m->kind.data_raw)
		return;
	need(io_read(data, raw, min_u64(m->kind.size, data->size), 0, &e), &e);
	edit_model_allows(m, raw, what);
}

struct io *edit_model_copy(struct io *file)
{
	struct error e;
	struct io *out;
	AUTO_FREE uint8_t *bytes = malloc(file->size);
	need(io_read(file, bytes, file->size, 0, &e) || io_memory_new(&out, bytes, file->size, "top", &e), &e);
	return out;
}

struct chain *edit_model_look(const struct edit_model *m, struct io *file, struct io *data, struct edit **ed,
	uint8_t *disk)
{
	struct error e;
	struct chain *c = chain_of(&file, &data, 1);
	need(edit_open(ed, &c->layers[0], &(struct edit_opts){.backing = m->backing}, &e), &e);
	need(edit_read(*ed, disk, m->kind.size, 0, &e), &e);
	return c;
}

static void look_at_snapshot(const struct edit_model *m, struct io *file, const char *what)
{
	struct error e;
	struct reader *r;
	struct io *ios[2] = {edit_model_copy(file), NULL}, *data[2] = {NULL, NULL}, *image;
	AUTO_FREE uint8_t *disk = disk_of(m, NULL);
	if (!m->snapshot) {
		io_close(ios[0]);
		return;
	}
	struct chain *c = chain_of(ios, data, 1);
	need(reader_new(&r, &e) || qcow2_snapshot_select(c->layers[0].q, 0, &e), &e);
	need(chain_io(&image, c, &e), &e);
	for (uint64_t at = 0; at < m->kind.size;) {
		struct extent x;
		need(io_extent(image, at, m->kind.size - at, &x, &e), &e);
		if (x.kind == EXTENT_ABSENT && m->backing)
			need(io_read(m->backing, disk + at, x.len, at, &e), &e);
		else
			need(reader_read(r, &x, 0, disk + at, x.len, &e), &e);
		at += x.len;
	}
	if (memcmp(disk, m->snapshot, m->kind.size) != 0)
		ck_abort_msg("%s: %s: the snapshot has changed", m->kind.name, what);
	reader_free(r);
	io_close(image);
	chain_close(c);
}

static void look_at_counts(struct io *file)
{
	struct image_view v;
	AUTO_FREE uint8_t *bytes = malloc(file->size);
	struct error e;
	need(io_read(file, bytes, file->size, 0, &e), &e);
	image_view_open_crashed(&v, bytes, file->size);
	image_view_close(&v);
}

static void repair_and_look(struct chain *c, const char *what)
{
	struct error e;
	struct check_result r;
	const struct check_opts opts = {.threads = 0};
	need(qcow2_repair(&c->layers[0], REPAIR_ALL, &opts, &r, &e), &e);
	if (r.corruptions || r.check_errors || r.leaks)
		ck_abort_msg("%s: %llu corruptions, %llu leaks are left", what, (unsigned long long)r.corruptions,
			(unsigned long long)r.leaks);
	need(qcow2_check(&c->layers[0], &opts, &r, &e), &e);
	ck_assert_msg(!r.corruptions && !r.check_errors && !r.leaks, "%s: repaired, and not clean", what);
	look_at_counts(c->layers[0].file);
}

static bool is_dirty(const struct io *file)
{
	struct header h;
	struct error e;
	need(header_decode(io_memory_bytes(file), file->size, &h, &e), &e);
	return h.incompatible & INCOMPAT_DIRTY;
}

void edit_model_judge(void *ctx, struct io *const *files, const char *what)
{
	const struct edit_model *m = ctx;
	struct io *file = files[0], *data = m->data ? edit_model_copy(files[1]) : NULL;
	struct edit_model go_on = {
		.kind = m->kind, .backing = m->backing, .snapshot = m->snapshot, .count = 1, .granule = m->granule};
	struct error e;
	go_on.random = m->random + file->size;
	go_on.versions[0] = disk_of(m, NULL);
	if (!is_dirty(file))
		look_at_counts(file);
	edit_model_look_at_raw(m, data, what);
	look_at_snapshot(m, file, what);
	struct chain *c = edit_model_look(m, edit_model_copy(file), data, &go_on.ed, go_on.versions[0]);
	edit_model_allows(m, go_on.versions[0], what);
	for (unsigned i = 0; i < 4; i++) {
		need(edit_model_step(&go_on, &e), &e);
		edit_model_flushed(&go_on);
	}
	need(edit_close(go_on.ed, &e), &e);
	look_at_counts(c->layers[0].file);
	look_at_snapshot(m, c->layers[0].file, "written to after a crash");
	repair_and_look(c, what);
	AUTO_FREE uint8_t *disk = disk_of(m, NULL);
	need(edit_open(&go_on.ed, &c->layers[0], &(struct edit_opts){.backing = m->backing}, &e), &e);
	need(edit_read(go_on.ed, disk, m->kind.size, 0, &e), &e);
	edit_model_allows(&go_on, disk, "written to after a crash, repaired");
	need(edit_close(go_on.ed, &e), &e);
	look_at_snapshot(m, c->layers[0].file, "repaired");
	chain_close(c);
	free(go_on.versions[0]);
}

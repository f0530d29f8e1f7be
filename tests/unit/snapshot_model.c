/* SPDX-License-Identifier: Apache-2.0
 *
 * The image beside copies of its states, of tests/unit/snapshot_model.h.
 */
#include "tests/unit/snapshot_model.h"

uint64_t model_random(struct model *s, uint64_t below)
{
	s->random = s->random * 6364136223846793005ull + 1442695040888963407ull;
	return (s->random >> 33) % below;
}

static uint8_t *copy_of(const uint8_t *bytes, size_t len)
{
	uint8_t *out = malloc(len);
	NEED(out);
	return memcpy(out, bytes, len);
}

void model_reopen(struct model *s, struct io *file)
{
	struct io *none = NULL;
	struct error e;
	s->fault = file;
	s->chain = chain_of(&s->fault, &none, 1);
	must(edit_open(&s->ed, &s->chain->layers[0], NULL, &e), &e);
}

void model_open(struct model *s, const struct kind *k, uint64_t seed)
{
	struct image_create c;
	struct error e;
	struct io *file;
	*s = (struct model){.kind = *k, .random = seed};
	s->disk = calloc(1, k->size);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = k->size;
	c.cluster_size = k->cluster_size;
	c.refcount_bits = k->refcount_bits;
	c.version = k->version;
	c.extended_l2 = k->extended_l2;
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, NULL, &e), &e);
	model_reopen(s, io_fault_new(file));
}

void model_free(struct model *s)
{
	for (unsigned i = 0; i < s->count; i++)
		free(s->snapshots[i].bytes);
	chain_close(s->chain);
	free(s->disk);
}

/* ---- what is done ---- */

static void fill(struct model *s, uint8_t *p, size_t len)
{
	const unsigned range = model_random(s, 3) ? 256 : 4;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)model_random(s, range);
}

void model_write(struct model *s)
{
	uint64_t guest = model_random(s, s->kind.size), len = 1 + model_random(s, 12000);
	const uint64_t cluster = guest - guest % s->kind.cluster_size;
	struct error e;
	len = len < s->kind.size - guest ? len : s->kind.size - guest;
	switch (model_random(s, 5)) {
	case 0:
		must(edit_zero(s->ed, guest, len, EDIT_MAY_UNMAP, &e), &e);
		memset(s->disk + guest, 0, len);
		break;
	case 1:
		len = s->kind.cluster_size < s->kind.size - cluster ? s->kind.cluster_size : s->kind.size - cluster;
		fill(s, s->disk + cluster, len);
		must(edit_write_compressed(s->ed, s->disk + cluster, len, cluster, &e), &e);
		break;
	default:
		fill(s, s->disk + guest, len);
		must(edit_write(s->ed, s->disk + guest, len, guest, &e), &e);
	}
}

void model_add(struct model *s)
{
	struct state *t = &s->snapshots[s->count++];
	snprintf(t->name, sizeof t->name, "s%u", ++s->named);
	t->bytes = copy_of(s->disk, s->kind.size);
	t->size = s->kind.size;
}

void model_go_back(struct model *s, unsigned index)
{
	free(s->disk);
	s->kind.size = s->snapshots[index].size;
	s->disk = copy_of(s->snapshots[index].bytes, s->kind.size);
}

void model_remove(struct model *s, unsigned index)
{
	free(s->snapshots[index].bytes);
	s->count--;
	for (unsigned i = index; i < s->count; i++)
		s->snapshots[i] = s->snapshots[i + 1];
}

static struct snapshot_new next_one(const struct model *s, char name[16], unsigned threads)
{
	snprintf(name, 16, "s%u", s->named + 1);
	return (struct snapshot_new){.name = name,
		.date_sec = 1,
		.icount = UINT64_MAX,
		.threads = threads,
		.widen = s->kind.refcount_bits == 1};
}

int model_create(struct model *s, unsigned threads, struct error *e)
{
	char name[16];
	const struct snapshot_new n = next_one(s, name, threads);
	if (edit_snapshot_create(s->ed, &n, e) < 0)
		return -1;
	model_add(s);
	return 0;
}

int model_apply(struct model *s, unsigned index, unsigned threads, struct error *e)
{
	if (edit_snapshot_apply(s->ed, index, false, threads, e) < 0)
		return -1;
	model_go_back(s, index);
	return 0;
}

int model_switch(struct model *s, unsigned index, unsigned threads, struct error *e)
{
	char name[16];
	const struct snapshot_new n = next_one(s, name, threads);
	if (edit_snapshot_switch(s->ed, index, &n, e) < 0)
		return -1;
	model_add(s);
	model_go_back(s, index);
	return 0;
}

int model_delete(struct model *s, unsigned index, unsigned threads, struct error *e)
{
	if (edit_snapshot_delete(s->ed, index, threads, e) < 0)
		return -1;
	model_remove(s, index);
	return 0;
}

int model_resize(struct model *s, uint32_t size, struct error *e)
{
	if (edit_resize(s->ed, size, PREALLOC_OFF, e) < 0)
		return -1;
	s->disk = realloc(s->disk, size);
	NEED(s->disk);
	if (size > s->kind.size)
		memset(s->disk + s->kind.size, 0, size - s->kind.size);
	s->kind.size = size;
	return 0;
}

/* ---- what must be true ---- */

/* The state as the reading engine shows it; NULL when it is `want`, else where they differ. */
static const char *shows(struct io *file, int snapshot, const uint8_t *want, uint32_t size)
{
	struct io *none = NULL, *image;
	struct error e;
	struct chain *c = chain_of(&file, &none, 1);
	AUTO_FREE uint8_t *bytes = malloc(size);
	if (snapshot >= 0)
		must(qcow2_snapshot_select(c->layers[0].q, (uint32_t)snapshot, &e), &e);
	c->size = c->layers[0].size = c->layers[0].q->size;
	const char *wrong = c->size == size ? NULL : "size";
	must(chain_io(&image, c, &e), &e);
	if (!wrong)
		must(io_read(image, bytes, size, 0, &e), &e);
	if (!wrong && memcmp(bytes, want, size) != 0)
		wrong = "content";
	io_close(image);
	c->layers[0].file = NULL; /* the caller's */
	if (c->layers[0].data == file)
		c->layers[0].data = NULL;
	chain_close(c);
	return wrong;
}

void model_expect(struct model *s)
{
	struct image_view v;
	struct error e;
	must(edit_flush(s->ed, &e), &e);
	must(edit_close(s->ed, &e), &e);
	AUTO_FREE uint8_t *bytes = malloc(s->fault->size);
	must(io_read(s->fault, bytes, s->fault->size, 0, &e), &e);
	image_view_open(&v, bytes, s->fault->size);
	ck_assert_uint_eq(v.h.snapshot_count, s->count);
	image_view_close(&v);
	ck_assert_ptr_null(shows(s->fault, -1, s->disk, s->kind.size));
	for (unsigned i = 0; i < s->count; i++) {
		const char *wrong = shows(s->fault, (int)i, s->snapshots[i].bytes, s->snapshots[i].size);
		ck_assert_msg(!wrong, "snapshot %s: %s", s->snapshots[i].name, wrong);
	}
	must(edit_open(&s->ed, &s->chain->layers[0], NULL, &e), &e);
}

static bool is_state(struct io *file, int snapshot, const struct state *states, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(states[i].name, name) == 0)
			return !shows(file, snapshot, states[i].bytes, states[i].size);
	return false;
}

void model_judge(void *ctx, struct io *file, const char *what)
{
	struct expectation *x = ctx;
	struct image_view v;
	struct error e;
	struct qcow2 *q;
	image_view_open_crashed(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
	if (shows(file, -1, x->before->disk, x->before->kind.size) &&
		shows(file, -1, x->after->disk, x->after->kind.size))
		ck_abort_msg("%s: the disk is neither old nor new", what);
	must(qcow2_open(&q, file, 0, &e), &e);
	const unsigned count = q->snapshot_count;
	if (count != x->before->count && count != x->after->count)
		ck_abort_msg("%s: %u snapshots", what, count);
	for (unsigned i = 0; i < count; i++)
		if (!is_state(file, (int)i, x->before->snapshots, x->before->count, q->snapshots[i].name) &&
			!is_state(file, (int)i, x->after->snapshots, x->after->count, q->snapshots[i].name))
			ck_abort_msg("%s: snapshot %s is neither old nor new", what, q->snapshots[i].name);
	qcow2_close(q);
	x->judged++;
}

/* A copy of what the model says, without the image. */
void model_remember(struct model *to, const struct model *s)
{
	*to = *s;
	to->disk = copy_of(s->disk, s->kind.size);
	for (unsigned i = 0; i < s->count; i++)
		to->snapshots[i].bytes = copy_of(s->snapshots[i].bytes, s->snapshots[i].size);
}

void model_forget(struct model *s)
{
	for (unsigned i = 0; i < s->count; i++)
		free(s->snapshots[i].bytes);
	free(s->disk);
}

struct io *model_bytes(struct model *s, uint8_t **bytes)
{
	struct error e;
	*bytes = malloc(s->fault->size);
	must(io_read(s->fault, *bytes, s->fault->size, 0, &e), &e);
	return s->fault;
}

uint8_t *model_take(struct model *s, uint64_t *len)
{
	struct error e;
	uint8_t *bytes;
	must(edit_close(s->ed, &e), &e);
	*len = model_bytes(s, &bytes)->size;
	return bytes;
}

void model_end(struct model *s)
{
	struct error e;
	must(edit_close(s->ed, &e), &e);
	model_free(s);
}

void model_write_some(struct model *s, unsigned n)
{
	while (n--)
		model_write(s);
}

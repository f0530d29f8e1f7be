/* SPDX-License-Identifier: Apache-2.0
 *
 * The codec against images that qemu-img makes: each structure decodes, and encoding it again gives the same bytes
 * (FORMAT.md §3, §4, §8.2, §9.2). Without qemu-img only a header kept here is looked at.
 */
#include <check.h>
#include <unistd.h>

#include "qcow2/format.h"

/* Made by `qemu-img create -f qcow2 -o compression_type=zstd,extended_l2=on,refcount_bits=32,lazy_refcounts=on F 100M`. */
static const uint8_t kept[112] = {
	'Q',
	'F',
	'I',
	0xfb,
	0,
	0,
	0,
	3,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	16, /* to cluster_bits */
	0,
	0,
	0,
	0,
	6,
	0x40,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	1,
	0,
	0,
	0,
	0,
	0,
	3,
	0,
	0, /* size to l1_offset */
	0,
	0,
	0,
	0,
	0,
	1,
	0,
	0,
	0,
	0,
	0,
	1,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0, /* to snapshots_offset */
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0x18,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	1,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0, /* features */
	0,
	0,
	0,
	5,
	0,
	0,
	0,
	112,
	1,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
};

START_TEST(a_kept_header_is_understood)
{
	struct header h;
	struct error e;
	uint8_t again[112];

	ck_assert_msg(header_decode(kept, sizeof kept, &h, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(h.size, 100 << 20);
	ck_assert_uint_eq(h.l1_entries, 1);
	ck_assert_uint_eq(h.l1_offset, 0x30000);
	ck_assert_uint_eq(h.reftable_offset, 0x10000);
	ck_assert_uint_eq(h.reftable_clusters, 1);
	ck_assert_uint_eq(h.incompatible, INCOMPAT_COMPRESSION | INCOMPAT_EXTENDED_L2);
	ck_assert_uint_eq(h.compatible, COMPAT_LAZY_REFCOUNTS);
	ck_assert_uint_eq(h.refcount_order, 5);
	ck_assert_uint_eq(h.compression_type, QCOW2_COMPRESSION_ZSTD);
	ck_assert_uint_eq(header_encode(&h, again), 112);
	ck_assert_mem_eq(again, kept, 112);
}
END_TEST

static const struct {
	const char *options, *size;
	unsigned cluster_bits, refcount_order;
	bool old;
} images[] = {
	{"cluster_size=64k", "64M", 16, 4, false},
	{"compat=0.10", "64M", 16, 4, true},
	{"compat=0.10,cluster_size=512", "1M", 9, 4, true},
	{"cluster_size=512,refcount_bits=2", "1M", 9, 1, false},
	{"cluster_size=2M,refcount_bits=64", "1G", 21, 6, false},
	{"extended_l2=on,cluster_size=16k,refcount_bits=8", "64M", 14, 3, false},
	{"compression_type=zstd,refcount_bits=32", "64M", 16, 5, false},
	{"lazy_refcounts=on", "10T", 16, 4, false},
};

static void run(const char *format, const char *a, const char *b, const char *c)
{
	char command[1000];

	snprintf(command, sizeof command, format, a, b, c);
	ck_assert_msg(system(command) == 0, "%s", command);
}

/* The image's bytes, metadata only, so it is small; NULL without qemu-img. */
static uint8_t *make_image(int i, size_t *len)
{
	char folder[] = "/tmp/qsnap-format-XXXXXX", path[100];
	uint8_t *bytes;
	FILE *in;

	if (system("command -v qemu-img >/dev/null 2>&1") != 0)
		return NULL;
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/image", folder);
	run("qemu-img create -q -f qcow2 -o %s %s %s", images[i].options, path, images[i].size);
	run("qemu-img snapshot -c 'the first%s' %s%s", "", path, "");
	if (!images[i].old) {
		run("qemu-img bitmap --add -g 64k%s %s short%s", "", path, "");
		run("qemu-img bitmap --add -g 64k --disable%s %s 'a longer name'%s", "", path, "");
	}
	run("qemu-img snapshot -c %s %s%s", "second", path, "");
	in = fopen(path, "rb");
	ck_assert_ptr_nonnull(in);
	fseek(in, 0, SEEK_END);
	*len = (size_t)ftell(in);
	rewind(in);
	bytes = calloc(1, *len + 1024);
	ck_assert_ptr_nonnull(bytes);
	ck_assert_uint_eq(fread(bytes, 1, *len, in), *len);
	fclose(in);
	unlink(path);
	rmdir(folder);
	return bytes;
}

static void check_snapshots(const uint8_t *bytes, const struct header *h, const struct geometry *g)
{
	const uint8_t *at = bytes + h->snapshots_offset;
	struct snapshot_entry s;
	uint8_t again[200];
	struct error e;

	ck_assert_uint_eq(h->snapshot_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(snapshot_entry_decode(at, 200, &s, &e), 0);
		ck_assert_int_eq(l1_table_check(g, s.l1_offset, s.l1_entries, s.disk_size, &e), 0);
		ck_assert_uint_eq(s.disk_size, h->size);
		ck_assert_uint_eq(s.id_len, 1);
		ck_assert_mem_eq(s.name, i == 0 ? "the first" : "second", s.name_len);
		ck_assert_uint_eq(snapshot_entry_encode(&s, again, sizeof again), s.bytes);
		ck_assert_mem_eq(again, at, s.bytes);
		at += s.bytes;
	}
}

static void check_bitmaps(const uint8_t *bytes, const struct header *h, const struct geometry *g,
	const struct extension *x)
{
	struct bitmaps_extension b;
	struct bitmap_entry entry;
	const uint8_t *at;
	size_t left;
	uint8_t again[200], frame[24];
	struct error e;

	ck_assert_msg(bitmaps_extension_decode(x, g->cluster_size, &b, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(b.count, 2);
	bitmaps_extension_encode(&b, frame);
	ck_assert_mem_eq(frame, x->data, 24);
	at = bytes + b.directory_offset;
	left = b.directory_bytes;
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_msg(bitmap_entry_decode(g, at, left, &entry, &e) == 0, "%s", e.msg);
		ck_assert_uint_eq(entry.granularity_bits, 16);
		ck_assert_uint_eq(entry.table_entries, bitmap_table_entries(g, 16, h->size));
		ck_assert_uint_eq(bitmap_entry_encode(&entry, again, sizeof again), entry.bytes);
		ck_assert_mem_eq(again, at, entry.bytes);
		at += entry.bytes;
		left -= entry.bytes;
	}
	ck_assert_uint_eq(left, 0);
}

/* Every name that QEMU gives is the name that we give. */
static void check_names(const struct extension *theirs)
{
	uint8_t buf[1000];
	struct extension ours = {.type = EXT_FEATURE_NAMES, .data = buf};
	char name[47], own[47];
	unsigned found = 0;

	ours.len = (uint32_t)feature_table_encode(buf, sizeof buf);
	for (unsigned kind = 0; kind < 3; kind++)
		for (unsigned bit = 0; bit < 64; bit++)
			if (feature_name(theirs, kind, bit, name)) {
				ck_assert_msg(feature_name(&ours, kind, bit, own), "%s", name);
				ck_assert_str_eq(own, name);
				found++;
			}
	ck_assert_uint_ge(found, 8);
}

START_TEST(an_image_of_qemu_is_understood)
{
	size_t len, pos;
	AUTO_FREE uint8_t *bytes = make_image(_i, &len);
	struct header h;
	struct geometry g;
	struct extension x;
	uint8_t again[112];
	struct error e;
	bool bitmaps = false;
	int rc;

	if (!bytes)
		return;
	ck_assert_msg(header_decode(bytes, len, &h, &e) == 0, "%s", e.msg);
	header_geometry(&h, &g);
	ck_assert_uint_eq(h.cluster_bits, images[_i].cluster_bits);
	ck_assert_uint_eq(h.refcount_order, images[_i].refcount_order);
	ck_assert_mem_eq(again, bytes, header_encode(&h, again));
	check_snapshots(bytes, &h, &g);
	for (pos = h.header_length; (rc = extension_next(bytes, g.cluster_size, &pos, &x, &e)) == 1;) {
		if (x.type == EXT_FEATURE_NAMES)
			check_names(&x);
		if (x.type == EXT_BITMAPS) {
			check_bitmaps(bytes, &h, &g, &x);
			bitmaps = true;
		}
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(bitmaps, !images[_i].old);
}
END_TEST

Suite *suite_format_real(void);
Suite *suite_format_real(void)
{
	Suite *s = suite_create("format_real");
	TCase *t = tcase_create("real");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_kept_header_is_understood);
	tcase_add_loop_test(t, an_image_of_qemu_is_understood, 0, sizeof images / sizeof images[0]);
	suite_add_tcase(s, t);
	return s;
}

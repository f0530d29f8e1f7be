/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of new images and what they demand of each other; preallocation; what a new header says.
 */
#include "qcow2/writer.h"
#include "tests/unit/image_view.h"

#include <check.h>

struct refusal {
	enum image_format format;
	struct image_create change; /* what is set here replaces the default */
	const char *text;
};

static const struct refusal refusals[] = {
	{IMAGE_QCOW2, {.cluster_size = 300}, "Cluster size must be a power of two between 512 and 2048k"},
	{IMAGE_QCOW2, {.cluster_size = 256}, "Cluster size must be a power of two between 512 and 2048k"},
	{IMAGE_QCOW2, {.cluster_size = 4 << 20}, "Cluster size must be a power of two between 512 and 2048k"},
	{IMAGE_QCOW2, {.refcount_bits = 3}, "Refcount width must be a power of two and may not exceed 64 bits"},
	{IMAGE_QCOW2, {.refcount_bits = 128}, "Refcount width must be a power of two and may not exceed 64 bits"},
	{IMAGE_QCOW2, {.extended_l2 = true, .cluster_size = 8192},
		"Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"},
	{IMAGE_QCOW2, {.version = 2, .lazy_refcounts = true}, "Lazy refcounts are only supported with"},
	{IMAGE_QCOW2, {.version = 2, .refcount_bits = 8}, "Refcount widths other than 16 bits are only supported with"},
	{IMAGE_QCOW2, {.version = 2, .extended_l2 = true}, "Extended L2 entries are only supported with compat"},
	{IMAGE_QCOW2, {.version = 2, .data_file = "d"}, "External data files are only supported with"},
	{IMAGE_QCOW2, {.version = 2, .compression = CODEC_ZSTD}, "Compression types other than zlib are only"},
	{IMAGE_QCOW2, {.version = 4}, "qcow2 version 4 does not exist"},
	{IMAGE_QCOW2, {.data_file_raw = true}, "data_file_raw requires data_file"},
	{IMAGE_QCOW2, {.data_file = "d", .data_file_raw = true, .backing_name = "b"},
		"Backing file and data_file_raw cannot be used at the same time"},
	{IMAGE_QCOW2, {.backing_name = "b", .prealloc = PREALLOC_METADATA},
		"Backing file and preallocation can only be used at the same time if extended_l2 is on"},
	{IMAGE_QCOW2, {.size = 129ull << 30, .cluster_size = 512},
		"The image size is too large for file format 'qcow2'"},
	{IMAGE_QCOW2, {.size = 1ull << 60}, "The image size is too large for file format 'qcow2'"},
	{IMAGE_QCOW2, {.size = 33ull << 30, .cluster_size = 512, .refcount_bits = 64, .prealloc = PREALLOC_METADATA},
		"The image size is too large for file format 'qcow2'"},
	{IMAGE_QCOW2, {.size = 1ull << 63}, "Image size must be less than 8 EiB"},
	{IMAGE_RAW, {.backing_name = "b"}, "Backing file not supported for file format 'raw'"},
	{IMAGE_RAW, {.prealloc = PREALLOC_METADATA}, "Unsupported preallocation mode 'metadata'"},
};

static struct image_create changed(enum image_format format, const struct image_create *change)
{
	struct image_create c;
	image_create_defaults(&c, format);
	c.size = change->size;
	c.extended_l2 = change->extended_l2;
	c.lazy_refcounts = change->lazy_refcounts;
	c.data_file_raw = change->data_file_raw;
	c.prealloc = change->prealloc;
	c.compression = change->compression;
	c.backing_name = change->backing_name;
	c.data_file = change->data_file;
	c.version = change->version ? change->version : c.version;
	c.cluster_size = change->cluster_size ? change->cluster_size : c.cluster_size;
	c.refcount_bits = change->refcount_bits ? change->refcount_bits : c.refcount_bits;
	return c;
}

START_TEST(options_that_contradict_each_other)
{
	const struct refusal *r = &refusals[_i];
	struct error e = {0};
	struct image_create c = changed(r->format, &r->change);
	ck_assert(image_create_check(&c, &e) < 0);
	ck_assert_msg(strncmp(e.msg, r->text, strlen(r->text)) == 0, "%s", e.msg);
}
END_TEST

/* The largest of each kind is still good. */
static const struct image_create accepted[] = {
	{.size = 128ull << 30, .cluster_size = 512},
	{.size = 1ull << 60, .cluster_size = 2 << 20},
	{.version = 2, .backing_name = "b"},
	{.extended_l2 = true, .cluster_size = 16384},
	{.backing_name = "b", .extended_l2 = true, .prealloc = PREALLOC_METADATA},
	{.data_file = "d", .data_file_raw = true, .prealloc = PREALLOC_FULL},
	{.size = 31ull << 30, .cluster_size = 512, .refcount_bits = 64, .prealloc = PREALLOC_METADATA},
};

START_TEST(options_at_their_limits)
{
	struct error e = {0};
	struct image_create c = changed(IMAGE_QCOW2, &accepted[_i]);
	ck_assert_msg(image_create_check(&c, &e) == 0, "%s", e.msg);
}
END_TEST

static struct io *memory(void)
{
	struct error e = {0};
	struct io *io;
	ck_assert(io_memory_new(&io, NULL, 0, "image", &e) == 0);
	return io;
}

START_TEST(every_cluster_size_and_refcount_width)
{
	struct error e = {0};
	for (unsigned order = 0; order <= 6; order++) {
		for (unsigned prealloc = 0; prealloc < 4; prealloc++) {
			struct image_create c;
			struct image_view v;
			struct io *file = memory();
			image_create_defaults(&c, IMAGE_QCOW2);
			c.cluster_size = 512u << _i;
			c.refcount_bits = 1u << order;
			c.prealloc = (enum prealloc)prealloc;
			c.size = 7 * c.cluster_size + 1024;
			ck_assert_msg(image_create_run(&c, file, NULL, &e) == 0, "%s", e.msg);
			image_view_open(&v, io_memory_bytes(file), file->size);
			for (uint64_t guest = 0; guest < c.size; guest += c.cluster_size)
				NEED(image_view_entry(&v, v.h.l1_offset, v.h.l1_entries, guest).type ==
					(prealloc ? CLUSTER_NORMAL : CLUSTER_UNALLOCATED));
			image_view_close(&v);
			io_close(file);
		}
	}
}
END_TEST

/* Virtual sizes around the borders of an L2 table; nothing; the largest. */
START_TEST(every_kind_of_size)
{
	static const uint64_t sizes[] = {0, 512, 65536, 512ull << 20, (512ull << 20) + 512, 1ull << 40, 2ull << 50};
	struct error e = {0};
	struct image_create c;
	struct image_view v;
	struct io *file = memory();
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = sizes[_i];
	ck_assert_msg(image_create_run(&c, file, NULL, &e) == 0, "%s", e.msg);
	image_view_open(&v, io_memory_bytes(file), file->size);
	ck_assert_uint_eq(v.h.size, c.size);
	ck_assert_uint_eq(v.h.l1_entries, div_round_up(c.size, 512ull << 20));
	ck_assert_uint_eq(file->size % 512, 0);
	image_view_close(&v);
	io_close(file);
}
END_TEST

struct header_case {
	struct image_create change;
	const char *backing_format;
	uint64_t incompatible, autoclear;
	uint32_t header_length;
	uint32_t extensions[4]; /* in this order, EXT_END last */
};

static const struct header_case headers[] = {
	{{0}, NULL, 0, 0, 112, {EXT_FEATURE_NAMES}},
	{{.version = 2}, NULL, 0, 0, 72, {0}},
	{{.version = 2, .backing_name = "b"}, "raw", 0, 0, 72, {EXT_BACKING_FORMAT}},
	{{.backing_name = "b"}, "qcow2", 0, 0, 112, {EXT_BACKING_FORMAT, EXT_FEATURE_NAMES}},
	{{.backing_name = "b"}, NULL, 0, 0, 112, {EXT_FEATURE_NAMES}},
	{{.compression = CODEC_ZSTD}, NULL, INCOMPAT_COMPRESSION, 0, 112, {EXT_FEATURE_NAMES}},
	{{.extended_l2 = true}, NULL, INCOMPAT_EXTENDED_L2, 0, 112, {EXT_FEATURE_NAMES}},
	{{.data_file = "d"}, NULL, INCOMPAT_DATA_FILE, 0, 112, {EXT_DATA_FILE, EXT_FEATURE_NAMES}},
	{{.data_file = "d", .data_file_raw = true}, NULL, INCOMPAT_DATA_FILE, AUTOCLEAR_DATA_FILE_RAW, 112,
		{EXT_DATA_FILE, EXT_FEATURE_NAMES}},
	/* no room for the names of features: they are left out */
	{{.cluster_size = 512, .backing_name = "a-name-that-takes-the-room-of-the-feature-table"}, "raw", 0, 0, 112,
		{EXT_BACKING_FORMAT}},
};

START_TEST(headers_say_what_was_asked)
{
	const struct header_case *k = &headers[_i];
	struct error e = {0};
	struct image_create c = changed(IMAGE_QCOW2, &k->change);
	struct io *file = memory(), *data = c.data_file ? memory() : NULL;
	struct image_view v;
	struct extension x;
	size_t pos = k->header_length;
	c.size = 1 << 20;
	c.backing_format = k->backing_format;
	ck_assert_msg(image_create_run(&c, file, data, &e) == 0, "%s", e.msg);
	image_view_open(&v, io_memory_bytes(file), file->size);
	ck_assert_uint_eq(v.h.header_length, k->header_length);
	ck_assert_uint_eq(v.h.incompatible, k->incompatible);
	ck_assert_uint_eq(v.h.autoclear, k->autoclear);
	ck_assert_uint_eq(v.h.compression_type, c.compression);
	for (unsigned i = 0; i < 4; i++) {
		int r = extension_next(v.bytes, c.cluster_size, &pos, &x, &e);
		ck_assert_int_eq(r, k->extensions[i] != EXT_END);
		if (!r)
			break;
		ck_assert_uint_eq(x.type, k->extensions[i]);
		if (x.type == EXT_BACKING_FORMAT)
			ck_assert(x.len == strlen(k->backing_format) && !memcmp(x.data, k->backing_format, x.len));
		if (x.type == EXT_DATA_FILE)
			ck_assert(x.len == 1 && x.data[0] == 'd');
	}
	if (data)
		ck_assert_uint_eq(data->size, c.size);
	image_view_close(&v);
	io_close(file);
	io_close(data);
}
END_TEST

START_TEST(a_backing_name_must_fit)
{
	struct error e = {0};
	struct image_create c;
	struct io *file = memory();
	char name[1100];
	memset(name, 'n', sizeof name);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.backing_name = name;
	name[1024] = 0;
	ck_assert(image_create_run(&c, file, NULL, &e) < 0);
	name[1023] = 0;
	c.cluster_size = 1024;
	ck_assert(image_create_run(&c, file, NULL, &e) < 0);
	ck_assert_int_eq(e.code, ERR_USAGE);
	ck_assert_uint_eq(file->size, 0);
	c.cluster_size = 2048;
	ck_assert_msg(image_create_run(&c, file, NULL, &e) == 0, "%s", e.msg);
	io_close(file);
}
END_TEST

START_TEST(raw_images_are_their_size)
{
	struct error e = {0};
	struct image_create c;
	struct io *file = memory();
	image_create_defaults(&c, IMAGE_RAW);
	c.size = 12345;
	c.prealloc = (enum prealloc)(_i == 0 ? PREALLOC_OFF : _i == 1 ? PREALLOC_FALLOC : PREALLOC_FULL);
	ck_assert(image_create_run(&c, file, NULL, &e) == 0);
	ck_assert_uint_eq(file->size, 12345);
	ck_assert(mem_is_zero(io_memory_bytes(file), 12345));
	io_close(file);
}
END_TEST

Suite *suite_create_options(void);
Suite *suite_create_options(void)
{
	Suite *s = suite_create("create_options");
	TCase *t = tcase_create("create");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, options_that_contradict_each_other, 0, sizeof refusals / sizeof *refusals);
	tcase_add_loop_test(t, options_at_their_limits, 0, sizeof accepted / sizeof *accepted);
	tcase_add_loop_test(t, every_cluster_size_and_refcount_width, 0, 13);
	tcase_add_loop_test(t, every_kind_of_size, 0, 7);
	tcase_add_loop_test(t, headers_say_what_was_asked, 0, sizeof headers / sizeof *headers);
	tcase_add_test(t, a_backing_name_must_fit);
	tcase_add_loop_test(t, raw_images_are_their_size, 0, 3);
	suite_add_tcase(s, t);
	return s;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: the first cluster of an image, header and extensions (FORMAT.md §3, §4). What is accepted keeps the limits of
 * §14 and survives encoding and decoding.
 */
#include "qcow2/format.h"
#include "tests/fuzz/fuzz.h"

static void check_accepted(const struct header *h)
{
	struct header back;
	uint8_t buf[QCOW2_HEADER_V3_BYTES];
	struct geometry g;
	struct error e;

	header_geometry(h, &g);
	FUZZ_CHECK(h->cluster_bits >= 9 && h->cluster_bits <= 21 && h->refcount_order <= 6);
	FUZZ_CHECK(g.subcluster_bits >= 9);
	FUZZ_CHECK(h->header_length <= g.cluster_size);
	FUZZ_CHECK(geometry_l1_entries(&g, h->size) <= h->l1_entries);
	FUZZ_CHECK(h->l1_entries <= 4u << 20);
	FUZZ_CHECK(h->l1_offset + h->l1_entries * 8ull <= INT64_MAX);
	FUZZ_CHECK((uint64_t)h->reftable_clusters << h->cluster_bits <= 8 << 20);
	FUZZ_CHECK(h->size <= 1ull << 61);
	memset(buf, 0, sizeof buf);
	FUZZ_CHECK(header_decode(buf, header_encode(h, buf), &back, &e) == 0);
	FUZZ_CHECK(back.size == h->size && back.l1_offset == h->l1_offset && back.incompatible == h->incompatible);
	FUZZ_CHECK(back.header_length == h->header_length && back.compression_type == h->compression_type);
}

static void check_extension(const struct extension *x, uint32_t cluster_size)
{
	struct bitmaps_extension bitmaps;
	char name[47];
	struct error e;

	if (x->type == EXT_FEATURE_NAMES)
		for (unsigned kind = 0; kind < 4; kind++)
			for (unsigned bit = 0; bit < 64; bit++)
				if (feature_name(x, kind, bit, name))
					FUZZ_CHECK(strlen(name) < sizeof name);
	if (x->type != EXT_BITMAPS)
		return;
	if (bitmaps_extension_decode(x, cluster_size, &bitmaps, &e))
		fuzz_check_error(&e);
	else
		FUZZ_CHECK(bitmaps.directory_offset + bitmaps.directory_bytes <= INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct header h;
	struct extension x;
	struct error e = {.msg = ""};
	size_t pos, end;
	int rc;

	if (header_decode(data, len, &h, &e)) {
		fuzz_check_error(&e);
		return 0;
	}
	check_accepted(&h);
	pos = h.header_length;
	end = min_u64(len, 1u << h.cluster_bits);
	if (h.backing_offset)
		end = min_u64(end, h.backing_offset);
	for (;;) {
		size_t before = pos;

		rc = extension_next(data, end, &pos, &x, &e);
		if (rc != 1)
			break;
		FUZZ_CHECK(pos > before && x.data >= data + before && x.data + x.len <= data + end);
		check_extension(&x, 1u << h.cluster_bits);
	}
	if (rc < 0)
		fuzz_check_error(&e);
	return 0;
}

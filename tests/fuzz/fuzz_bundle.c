/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a bundle's manifest. What is taken can be written, and is the same when it is read again; its names fit into a folder.
 */
#include "snapshot/bundle.h"
#include "tests/fuzz/fuzz.h"

static void check_names(const struct bundle *b)
{
	FUZZ_CHECK(bundle_domain_fits(b->domain) && !strchr(b->domain, '/'));
	FUZZ_CHECK(bundle_point(b, b->catalog.current) != BUNDLE_NONE);
	for (unsigned i = 0; i < b->file_count; i++)
		FUZZ_CHECK(!strchr(b->files[i].name, '/') && b->files[i].name[0] != '.');
	for (unsigned i = 0; i < b->catalog.count; i++)
		for (unsigned k = 0; k < b->catalog.points[i].disk_count; k++) {
			const struct bundle_image *image = &b->points[i].images[k];

			FUZZ_CHECK(!strchr(b->catalog.points[i].disks[k].target, '/'));
			FUZZ_CHECK(image->file < b->file_count);
			FUZZ_CHECK(image->since == BUNDLE_NONE || image->since < b->catalog.count);
		}
}

static void check_again(const struct bundle *b)
{
	struct bundle again;
	struct error e;
	char *text;
	size_t len;

	FUZZ_CHECK(!bundle_text(b, &text, &len, &e));
	FUZZ_CHECK(!bundle_parse(text, len, &again, &e));
	FUZZ_CHECK(again.catalog.count == b->catalog.count && again.file_count == b->file_count);
	FUZZ_CHECK(!strcmp(again.uuid, b->uuid) && !strcmp(again.catalog.current, b->catalog.current));
	bundle_free(&again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct error e = {.msg = ""};
	AUTO_FREE unsigned *order = NULL;
	struct bundle b;

	if (bundle_parse((const char *)data, len, &b, &e)) {
		fuzz_check_error(&e);
		return 0;
	}
	check_names(&b);
	check_again(&b);
	FUZZ_CHECK(!bundle_order(&b, &order, &e));
	bundle_free(&b);
	return 0;
}

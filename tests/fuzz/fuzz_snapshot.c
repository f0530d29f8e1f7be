/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a snapshot table (FORMAT.md §8). Asking for more bytes must come to an end, and an entry without unknown extra
 * data survives encoding and decoding.
 */
#include "qcow2/format.h"
#include "tests/fuzz/fuzz.h"

static void check_round_trip(const struct snapshot_entry *in)
{
	uint8_t *buf = malloc(in->bytes + 24);
	struct snapshot_entry out;
	struct error e;
	size_t len;

	if (!buf)
		abort();
	len = snapshot_entry_encode(in, buf, in->bytes + 24);
	FUZZ_CHECK(len != 0 && len % 8 == 0);
	FUZZ_CHECK(snapshot_entry_decode(buf, len, &out, &e) == 0);
	FUZZ_CHECK(out.bytes == len && out.vm_state_bytes == in->vm_state_bytes && out.disk_size == in->disk_size);
	FUZZ_CHECK(out.l1_offset == in->l1_offset && out.l1_entries == in->l1_entries && out.icount == in->icount);
	FUZZ_CHECK(out.id_len == in->id_len && memcmp(out.id, in->id, in->id_len) == 0);
	FUZZ_CHECK(out.name_len == in->name_len && memcmp(out.name, in->name, in->name_len) == 0);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct snapshot_entry entry;
	struct error e = {.msg = ""};
	size_t at = 0;

	while (at < len) {
		int rc = snapshot_entry_decode(data + at, len - at, &entry, &e);

		if (rc < 0)
			fuzz_check_error(&e);
		if (rc == 1)
			FUZZ_CHECK(entry.bytes > len - at && entry.bytes <= 40 + 1024 + 2 * 65535 + 7);
		if (rc != 0)
			return 0;
		FUZZ_CHECK(entry.bytes % 8 == 0 && entry.bytes >= 40 && entry.bytes - 7 <= len - at);
		FUZZ_CHECK(entry.name + entry.name_len <= (const char *)data + len);
		check_round_trip(&entry);
		at += entry.bytes;
	}
	return 0;
}

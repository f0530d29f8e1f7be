/* SPDX-License-Identifier: Apache-2.0
 *
 * What format a file's first bytes are of (FORMAT.md §2). Whatever is no known format is raw, as QEMU has it; the
 * formats that QEMU would recognise and that are not done here are refused by name, so that nobody takes such a
 * file's bytes for a disk.
 */
#include "qcow2/internal.h"

struct signature {
	const char *format;
	size_t at, len;
	const char *bytes;
};

static const struct signature others[] = {
	{"qcow", 0, 8, "QFI\xfb\0\0\0\1"},
	{"qed", 0, 4, "QED\0"},
	{"vmdk", 0, 4, "KDMV"},
	{"vmdk", 0, 4, "COWD"},
	{"vmdk", 0, 21, "# Disk DescriptorFile"},
	{"vhdx", 0, 8, "vhdxfile"},
	{"vpc", 0, 8, "conectix"},
	{"vdi", 64, 4, "\x7f\x10\xda\xbe"},
	{"luks", 0, 6, "LUKS\xba\xbe"},
	{"parallels", 0, 16, "WithoutFreeSpace"},
	{"parallels", 0, 16, "WithouFreSpacExt"},
	{"bochs", 0, 22, "Bochs Virtual HD Image"},
	{"cloop", 0, 30, "#!/bin/sh\n#V2.0 Format\nmodprob"},
};

bool qcow2_probe(const uint8_t *bytes, size_t len)
{
	return len >= QCOW2_HEADER_V2_BYTES && get_be32(bytes) == QCOW2_MAGIC && get_be32(bytes + 4) >= 2;
}

int image_probe(struct io *file, enum image_format *out, struct error *e)
{
	uint8_t bytes[512];
	size_t len = (size_t)min_u64(file->size, sizeof bytes);

	if (io_read(file, bytes, sizeof bytes, 0, e))
		return -1;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		const struct signature *s = &others[i];

		if (s->at + s->len <= len && memcmp(bytes + s->at, s->bytes, s->len) == 0)
			return err_set(e, ERR_UNSUPPORTED, "format '%s' is not supported", s->format);
	}
	*out = qcow2_probe(bytes, len) ? IMAGE_QCOW2 : IMAGE_RAW;
	return 0;
}

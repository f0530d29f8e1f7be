/* SPDX-License-Identifier: Apache-2.0
 * Prints where a disk has data and its first byte there. cc extents.c $(pkg-config --cflags --libs qsnap) */
#include <qsnap.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	qsnap_image *disk;
	struct qsnap_error e;
	struct qsnap_extent x = {.size = sizeof x};
	unsigned char byte;

	if (argc != 2 || qsnap_open(&disk, argv[1], NULL, &e) < 0)
		return fprintf(stderr, "%s\n", argc == 2 ? e.message : "usage: extents IMAGE"), 1;
	for (uint64_t at = 0; at < qsnap_size(disk); at = x.start + x.length) {
		if (qsnap_extent_at(disk, at, 0, &x, &e) < 0 || qsnap_read(disk, &byte, 1, at, &e) < 0)
			return fprintf(stderr, "%s\n", e.message), 1;
		if (x.flags & QSNAP_EXTENT_DATA)
			printf("%llu +%llu: layer %u, %02x\n", (unsigned long long)at, (unsigned long long)x.length,
				x.layer, byte);
	}
	qsnap_close(disk);
}

/* SPDX-License-Identifier: Apache-2.0
 * Takes a snapshot, writes, tells what differs, goes back. cc changes.c $(pkg-config --cflags --libs qsnap) */
#include <qsnap.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	qsnap_image *disk;
	qsnap_diff *diff;
	struct qsnap_error e;
	struct qsnap_open_options o = {.size = sizeof o, .format = "qcow2", .flags = QSNAP_OPEN_WRITE};
	struct qsnap_difference d = {.size = sizeof d};

	if (argc != 2 || qsnap_open(&disk, argv[1], &o, &e) < 0)
		return fprintf(stderr, "%s\n", argc == 2 ? e.message : "usage: changes IMAGE"), 1;
	if (qsnap_snapshot_create(disk, "before", NULL, &e) < 0 || qsnap_write(disk, "hello", 5, 70000, &e) < 0 ||
		qsnap_diff_open(&diff, disk, "before", NULL, &e) < 0)
		return fprintf(stderr, "%s\n", e.message), 1;
	while (qsnap_diff_next(diff, &d, &e) > 0)
		printf("%llu +%llu differ\n", (unsigned long long)d.start, (unsigned long long)d.length);
	qsnap_diff_close(diff);
	if (qsnap_snapshot_apply(disk, "before", NULL, &e) < 0 || qsnap_finish(disk, &e) < 0)
		return fprintf(stderr, "%s\n", e.message), 1;
	qsnap_close(disk);
}

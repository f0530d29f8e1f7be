/* SPDX-License-Identifier: Apache-2.0
 *
 * qcow2 images in memory, byte by byte, for the tests of the reading engine: right ones and, by builder_entry and
 * builder_poke, wrong ones. Refcounts are left empty: reading never looks at them.
 */
#ifndef QSNAP_TEST_IMAGE_BUILDER_H
#define QSNAP_TEST_IMAGE_BUILDER_H

#include "qcow2/qcow2.h"

enum builder_flags { BUILD_V2 = 1, BUILD_EXTENDED = 2, BUILD_DATA_FILE = 4, BUILD_ZSTD = 8 };

struct image_builder {
	struct io *io;
	struct header h;
	struct geometry g;
	uint8_t extensions[8192];
	size_t extensions_len;
	char backing[1024];
	uint64_t *l1;
	uint8_t snapshots[4096];
	size_t snapshots_len;
	struct codec *codec;
};

void builder_init(struct image_builder *b, uint64_t size, unsigned cluster_bits, unsigned flags);
void builder_backing(struct image_builder *b, const char *name, const char *format);
void builder_extension(struct image_builder *b, uint32_t type, const void *data, size_t len);
/* Clusters at the end of the file. */
uint64_t builder_alloc(struct image_builder *b, unsigned clusters);
/* The L2 entry for `guest`, as it will be stored; its table is made if need be. */
void builder_entry(struct image_builder *b, uint64_t guest, uint64_t raw, uint64_t bitmap);
/* A whole cluster of data; returns its host offset. */
uint64_t builder_data(struct image_builder *b, uint64_t guest, const void *cluster);
/* The same compressed, `before` bytes behind the start of new clusters, followed by garbage. */
uint64_t builder_compressed(struct image_builder *b, uint64_t guest, const void *cluster, unsigned before);
/* A snapshot of what is there now. `disk_size` 0: the entry says none. */
void builder_snapshot(struct image_builder *b, const char *id, const char *name, uint64_t disk_size);
void builder_poke(struct image_builder *b, uint64_t host, const void *bytes, size_t len);
/* Writes header and L1; the io is the caller's. The builder can go on and be finished again, for an image that
 * changes. */
struct io *builder_finish(struct image_builder *b);
void builder_free(struct image_builder *b);

/* A chain of opened layers over ios, without files. Takes the ios over; data[i] may be NULL. */
struct chain *chain_of(struct io **files, struct io **data, unsigned count);

#endif

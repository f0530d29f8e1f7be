/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle: a domain's points as files that travel. A folder, or one tar stream, with a manifest that names each file, its size and
 * its digest (ARCHITECTURE.md, "Bundles"). No file has a name that says where anything is.
 */
#ifndef QSNAP_SNAPSHOT_BUNDLE_H
#define QSNAP_SNAPSHOT_BUNDLE_H

#include "snapshot/internal.h"

#define BUNDLE_MANIFEST "manifest.json"
enum { BUNDLE_NONE = UINT32_MAX, BUNDLE_MAX_NAME = 200, BUNDLE_MAX_MANIFEST = 64 << 20 };

/* ---- what is in it (snapshot/bundle.c, bundle_manifest.c) ---- */

struct bundle_file {
	char *name;
	uint64_t bytes;
	char digest[129]; /* SHA-256, hex */
};
struct bundle_image {
	unsigned file;
	unsigned
		since; /* the point, an ancestor, that what is missing in it is to be seen in; BUNDLE_NONE: nothing is missing */
};
/* Of the point of the same index in the catalog. */
struct bundle_point {
	unsigned parent;                    /* its index; BUNDLE_NONE: none */
	unsigned definition, memory, nvram; /* file indexes; BUNDLE_NONE: it has none */
	struct bundle_image *images;        /* one for each of its disks */
};
struct bundle {
	char *domain, *uuid;
	/* `current`: the point that the disks are to be at. Of a point's disks target, size and date; its xml when it was read. */
	struct vm_catalog catalog;
	struct bundle_point *points;
	struct bundle_file *files;
	unsigned file_count;
};
void bundle_free(struct bundle *b); /* what it owns */
/* The manifest, free(). */
int bundle_text(const struct bundle *b, char **text, size_t *len, struct error *e);
/* Every name in it is fit to be a file's, each file is something of one point, and each image can be made whole. ERR_CORRUPT, ERR_LIMIT;
 * ERR_UNSUPPORTED: of a later version. */
int bundle_parse(const char *text, size_t len, struct bundle *out, struct error *e);
/* Whether a domain can have this name, which becomes part of file names. */
bool bundle_domain_fits(const char *name);
/* Fills in each point's parent. */
void bundle_link(struct bundle *b);
/* The index of that point, BUNDLE_NONE: it is not there. */
unsigned bundle_point(const struct bundle *b, const char *name);
/* The index of the point's disk of that target. */
unsigned bundle_disk(const struct bundle *b, unsigned point, const char *target);
/* The point's nearest ancestor that has such a disk, or BUNDLE_NONE. */
unsigned bundle_ancestor(const struct bundle *b, unsigned point, const char *target);
/* Indexes of all points, each behind its parent, and before what does not come from it; the caller's. */
int bundle_order(const struct bundle *b, unsigned **out, struct error *e);

/* ---- where it goes (snapshot/bundle_pack.c) ---- */

/* The manifest `text` and the files of `folder`, as a tar stream into `fd`, of the name `to`. */
int bundle_pack(const struct bundle *b, const struct vm *vm, const char *folder, const char *text, size_t len, int fd,
	const char *to, struct error *e);

/* ---- where it comes from (snapshot/bundle_source.c) ---- */

struct bundle_source {
	struct tar *tar; /* NULL: a folder */
	int fd;          /* of the tar's file; -1: not ours */
	char *folder;    /* where its files are, once they are */
};
/* Opens the folder, the tar file or the stream `fd` (of the name "-"), and reads the manifest. */
int bundle_open(struct bundle_source *s, const struct vm *vm, const char *from, int fd, struct bundle *b,
	struct error *e);
/* A stream's files come into `folder`, which is empty; a folder's stay. Each is there once with the size and digest of the
 * manifest, and nothing else is. */
int bundle_take_files(struct bundle_source *s, const struct vm *vm, const struct bundle *b, const char *folder,
	struct error *e);
/* What the files are: images that stand alone, of the right size; definitions, which are in the catalog then. */
int bundle_check_files(const struct bundle_source *s, struct bundle *b, struct error *e);
char *bundle_path(const struct bundle_source *s, const struct bundle *b, unsigned file, struct error *e);
void bundle_close(struct bundle_source *s);

/* ---- disks out of it (snapshot/bundle_disk.c) ---- */

/* The disk `target`, with its snapshots of all points that have it, at the point that is current; a new file `path`. */
int bundle_make_disk(const struct bundle_source *s, struct vm *vm, const struct bundle *b, const char *target,
	const char *path, unsigned threads, struct error *e);

#endif

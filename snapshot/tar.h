/* SPDX-License-Identifier: Apache-2.0
 *
 * One tar stream, written or read from its beginning to its end. Only plain files are in it. The work is libarchive's, in a module of
 * its own (snapshot/tar_libarchive.c), since that loads much.
 */
#ifndef QSNAP_SNAPSHOT_TAR_H
#define QSNAP_SNAPSHOT_TAR_H

#include "io/io.h"

struct tar;
struct tar_ops {
	/* Writing: `to` is finished and closed by the caller. Of each file its size first, then as many bytes. */
	int (*create)(struct tar **out, struct io_stream *to, struct error *e);
	int (*add)(struct tar *t, const char *name, uint64_t bytes, struct error *e);
	int (*write)(struct tar *t, const void *buf, size_t len, struct error *e);
	int (*finish)(struct tar *t, struct error *e);

	/* Reading `fd`, which stays the caller's. ERR_CORRUPT: no tar, cut off, or with something in it that is no plain file. `cancel` may be
	 * NULL. */
	int (*open)(struct tar **out, int fd, const atomic_bool *cancel, struct error *e);
	/* The next file: 1; 0: there is none. *name lives until the next call. */
	int (*next)(struct tar *t, const char **name, uint64_t *bytes, struct error *e);
	/* `len` bytes of it. */
	int (*read)(struct tar *t, void *buf, size_t len, struct error *e);

	void (*close)(struct tar *t); /* NULL is allowed */
};
/* NULL: ERR_UNSUPPORTED when it was left out of the build or its module is not there (snapshot/tar.c). */
const struct tar_ops *tar_ops(struct error *e);
/* What the module shows. */
typedef const struct tar_ops *tar_ops_fn(void);
#define TAR_SYMBOL "qsnap_tar_ops"
__attribute__((visibility("default"))) tar_ops_fn qsnap_tar_ops;

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Space, before the first step: an uncompressed image takes what its disk's metadata say. What a compressed one takes, and how
 * much the guest writes meanwhile, nobody knows beforehand.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <libgen.h>
#include <sys/statvfs.h>

/* A raw image has holes where a qcow2 one has nothing. */
static int image_bytes(const struct part *p, uint64_t *bytes, struct error *e)
{
	struct image_create create;
	AUTO_CHAIN struct chain *c = NULL;
	struct measure_result m;
	struct chain_opts opts;

	image_create_defaults(&create, IMAGE_QCOW2);
	disk_chain_opts(p, &opts);
	opts.lock = IO_LOCK_SHARED;
	if (chain_open(&c, p->path, &opts, e) || convert_measure(c, &create, &m, e))
		return err_prefix(e, "disk %s", p->disk->target);
	*bytes = m.required;
	return 0;
}

int take_space(struct take *t, struct error *e)
{
	AUTO_FREE char *to = NULL;
	uint64_t needed = 0, bytes, free_bytes;
	struct statvfs fs;

	if (!t->opts->to || strcmp(t->opts->to, "-") == 0 || t->opts->compress)
		return 0;
	to = mem_strdup(t->opts->to, e);
	if (!to)
		return -1;
	if (statvfs(to, &fs) && statvfs(dirname(to), &fs))
		return err_sys(e, errno, "%s", t->opts->to);
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	for (unsigned i = 0; i < t->part_count; i++) {
		if (image_bytes(&t->parts[i], &bytes, e))
			return -1;
		needed += bytes;
	}
	if (needed <= free_bytes)
		return 0;
	return err_set(e, ERR_LIMIT, "%s: the images take %llu bytes and %llu are free", t->opts->to,
		(unsigned long long)needed, (unsigned long long)free_bytes);
}

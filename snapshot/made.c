/* SPDX-License-Identifier: Apache-2.0
 *
 * A file of ours: its trace, the file without a name, which one it is into the journal, and at last its name. So whoever comes after
 * a crash can tell it from a file that somebody else put in its place.
 */
#include "snapshot/internal.h"

static int know_file(void *ctx, const struct io_identity *id, struct error *e)
{
	const struct made *m = ctx;
	const struct trace t = {.kind = TRACE_FILE, .dev = id->dev, .ino = id->ino};

	return journal_know(m->vm->journal, m->trace, &t, e);
}

int made_begin(struct made *m, struct vm *vm, const char *path, struct target_opts *opts, struct error *e)
{
	*m = (struct made){.vm = vm};
	*opts = (struct target_opts){.sync_at_end = true, .fresh = true, .made = know_file, .made_ctx = m};
	return trace_put(vm, &(struct trace){.kind = TRACE_FILE, .path = (char *)path}, &m->trace, e);
}

int made_open(struct made *m, struct vm *vm, const char *path, const struct io *owner, struct target **out,
	struct error *e)
{
	struct target_opts opts;

	if (made_begin(m, vm, path, &opts, e) || target_open(out, path, &opts, e))
		return -1;
	if (!owner || !io_file_own_as(target_io(*out), owner, e))
		return 0;
	target_close(STEAL(*out));
	return -1;
}

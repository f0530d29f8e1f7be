/* SPDX-License-Identifier: Apache-2.0
 *
 * Another size for an edited image (FORMAT.md §5.1, §12.4).
 */
#include "qcow2/edit_internal.h"

int edit_resize(struct edit *ed, uint64_t size, enum prealloc prealloc, struct error *e)
{
	(void)prealloc;
	if (size == ed->q->size)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, "%s: it cannot be resized yet", ed->file->name);
}

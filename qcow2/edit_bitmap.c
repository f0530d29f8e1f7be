/* SPDX-License-Identifier: Apache-2.0
 *
 * Persistent bitmaps of an edited image (FORMAT.md §9).
 */
#include "qcow2/edit_internal.h"

int edit_bitmaps_begin(struct edit *ed, struct error *e)
{
	if (ed->q->bitmap_count)
		return err_set(e, ERR_UNSUPPORTED, "%s has bitmaps: it cannot be changed yet", ed->file->name);
	return 0;
}

void edit_bitmaps_mark(struct edit *ed, uint64_t guest, uint64_t len)
{
	(void)ed;
	(void)guest;
	(void)len;
}

int edit_bitmaps_store(struct edit *ed, struct error *e)
{
	(void)ed;
	(void)e;
	return 0;
}

void edit_bitmaps_free(struct edit *ed)
{
	(void)ed;
}

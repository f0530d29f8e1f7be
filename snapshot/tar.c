/* SPDX-License-Identifier: Apache-2.0
 *
 * Where tar streams are made and read: a module (base/module.c), which is loaded when one is asked for.
 */
#include "snapshot/tar.h"

const struct tar_ops *tar_ops(struct error *e)
{
#ifdef HAVE_LIBARCHIVE
	union {
		void *symbol;
		tar_ops_fn *ops;
	} module = {.symbol = module_symbol("tar", TAR_SYMBOL, e)};
	return module.symbol ? module.ops() : NULL;
#else
	err_fill(e, ERR_UNSUPPORTED, "this build has no libarchive: a bundle can only be a folder");
	return NULL;
#endif
}

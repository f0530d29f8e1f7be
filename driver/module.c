/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening the libvirt driver, which is a module (base/module.c): libvirt and what it needs are loaded for `vm` only.
 */
#include "driver/driver.h"

int driver_libvirt_open(struct driver **out, const char *uri, struct error *e)
{
	*out = NULL;
#ifdef HAVE_LIBVIRT
	union {
		void *symbol;
		driver_open_fn *open;
	} module = {.symbol = module_symbol("libvirt", DRIVER_LIBVIRT_SYMBOL, e)};
	return module.symbol ? module.open(out, uri, e) : -1;
#else
	(void)uri;
	return err_set(e, ERR_UNSUPPORTED, "this build has no libvirt");
#endif
}

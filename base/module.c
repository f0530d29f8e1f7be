/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of the program that are loaded when they are first needed: what they link against takes the loader longer than most commands
 * take. A module lies beside the program (build folder), or in libexec/qsnap beside the program's folder (installed).
 */
#include "base/base.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

static const char *const places[] = {"", "../libexec/qsnap/"};

void *module_symbol(const char *module, const char *symbol, struct error *e)
{
	char path[PATH_MAX + NAME_MAX];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	if (n < 0) {
		err_sys(e, errno, "/proc/self/exe");
		return NULL;
	}
	path[n] = '\0';
	char *name = strrchr(path, '/');
	size_t room = sizeof path - (size_t)(name + 1 - path);
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
		snprintf(name + 1, room, "%sqsnap-%s.so", places[i], module);
		if (i + 1 < sizeof places / sizeof *places && access(path, F_OK) < 0)
			continue;
		void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		void *found = handle ? dlsym(handle, symbol) : NULL;
		if (!found)
			err_set(e, ERR_UNSUPPORTED, "the module '%s' cannot be loaded: %s", module, dlerror());
		return found;
	}
	return NULL;
}

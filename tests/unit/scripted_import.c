/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of tests/unit/scripted_driver.h: a machine that comes from elsewhere. Its definition is "NAME UUID TARGET=FILE ...".
 */
#include "tests/unit/scripted_internal.h"

#include <check.h>
#include <unistd.h>

#define S ((struct scripted *)d)
#define BEGIN(op)                                                                                                      \
	if (scripted_begin(S, op, e))                                                                                  \
	return -1

int scripted_adapt(struct driver *d, const char *xml, const struct driver_import *how, char **out, struct error *e)
{
	BEGIN("adapt");
	if (strstr(xml, "/etc/shadow") && !how->trusted)
		return err_set(e, ERR_DENIED, "it names a file of the host");
	*out = mem_printf(e, "%s %s", how->name, how->uuid);
	for (unsigned i = 0; *out && i < how->file_count; i++) {
		char *longer = mem_printf(e, "%s %s=%s", *out, how->files[i].target, how->files[i].path);

		free(*out);
		*out = longer;
	}
	if (*out && !scripted_end(S, e))
		return 0;
	free(STEAL(*out));
	return -1;
}

/* Its first line tells whose it is; the new one is longer. */
int scripted_adapt_memory(struct driver *d, const char *path, const struct driver_import *how, struct driver_head *out,
	struct error *e)
{
	BEGIN("adapt_memory");
	ck_assert(!access(path, R_OK));
	*out = (struct driver_head){.bytes = (uint8_t *)mem_printf(e, "%s of a bundle\n", how->uuid),
		.len = strlen(how->uuid) + strlen(" of a bundle\n"),
		.from = DRIVER_UUID_CHARS};
	if (out->bytes && !scripted_end(S, e))
		return 0;
	free(STEAL(out->bytes));
	return -1;
}

int scripted_create(struct driver *d, const char *uuid, const char *xml, struct error *e)
{
	struct world *w = S->w;
	char copy[1024], *rest = copy;

	BEGIN("create");
	if (!w->undefined)
		return err_set(e, ERR_USAGE, "create: there is one");
	snprintf(copy, sizeof copy, "%s", xml);
	snprintf(w->xml, sizeof w->xml, "%s", xml);
	snprintf(w->name, sizeof w->name, "%s", strsep(&rest, " "));
	snprintf(w->uuid, sizeof w->uuid, "%s", strsep(&rest, " "));
	ck_assert_str_eq(w->uuid, uuid);
	w->disk_count = 0;
	while (rest) {
		struct world_disk *disk = &w->disks[w->disk_count++];
		char *path = strsep(&rest, " "), *target = strsep(&path, "=");

		memset(disk, 0, sizeof *disk);
		snprintf(disk->target, sizeof disk->target, "%s", target);
		snprintf(disk->defined.images[0].path, WORLD_PATH, "%s", path);
		disk->defined.images[0].format = DRIVER_QCOW2;
		disk->defined.count = 1;
		disk->in_use = disk->defined;
	}
	w->undefined = false;
	w->state = DRIVER_SHUT_OFF;
	return scripted_end(S, e);
}

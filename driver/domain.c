/* SPDX-License-Identifier: Apache-2.0
 *
 * What a driver told of a domain, given back.
 */
#include "driver/driver.h"

static void free_disk(struct driver_disk *d)
{
	for (unsigned i = 0; i < d->image_count; i++) {
		free(d->images[i].path);
		free(d->images[i].kind);
	}
	free(d->images);
	free(d->copy_to);
	free(d->defined);
	free(d->target);
}

void driver_domain_free(struct driver_domain *d)
{
	for (unsigned i = 0; i < d->disk_count; i++)
		free_disk(&d->disks[i]);
	for (unsigned i = 0; i < d->host_device_count; i++)
		free(d->host_devices[i]);
	free(d->disks);
	free(d->host_devices);
	free(d->origin.image);
	free(d->origin.project);
	free(d->origin.user);
	free(d->origin.os);
	free(d->name);
	free(d->job);
	free(d->xml);
	free(d->nvram);
	*d = (struct driver_domain){0};
}

const struct driver_disk *driver_find_disk(const struct driver_domain *d, const char *target)
{
	for (unsigned i = 0; i < d->disk_count; i++)
		if (strcmp(d->disks[i].target, target) == 0)
			return &d->disks[i];
	return NULL;
}

/* The text from <source on that says which device of the host it is; NULL: it has none. */
static const char *source_of(const char *xml, size_t *len)
{
	const char *begin = strstr(xml, "<source"), *tag = begin ? strchr(begin, '>') : NULL;
	const char *end = tag && tag[-1] == '/' ? tag : tag ? strstr(tag, "</source>") : NULL;
	*len = end ? (size_t)(end - begin) : 0;
	return end ? begin : NULL;
}

bool driver_same_host_device(const char *a, const char *b)
{
	size_t a_len, b_len;
	const char *a_source = source_of(a, &a_len), *b_source = source_of(b, &b_len);
	if (!a_source || !b_source)
		return strcmp(a, b) == 0;
	return a_len == b_len && memcmp(a_source, b_source, a_len) == 0;
}

void driver_records_free(struct driver_record *records, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		free(records[i].name);
		free(records[i].parent);
	}
	free(records);
}

void driver_close(struct driver *d)
{
	if (d)
		d->ops->close(d);
}

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
	free(d->name);
	free(d->job);
	free(d->xml);
	*d = (struct driver_domain){0};
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

/* SPDX-License-Identifier: Apache-2.0
 *
 * What `vm snapshot` made, for people and programs.
 */
#include "cli/vm_taken.h"

void cli_vm_taken_print(const struct vm_take *take, const struct driver_domain *d, const struct vm_taken *t)
{
	char size[32], bytes[32];

	printf("%s: snapshot %s, %u disk%s of one instant, mode %s", d->name, t->name, t->disk_count,
		t->disk_count == 1 ? "" : "s", vm_mode_name(t->mode));
	if (t->via != VM_VIA_ANY)
		printf(" (%s)", vm_via_name(t->via));
	if (t->since)
		printf(", what changed since %s", t->since);
	if (t->quiesced)
		printf(", file systems frozen");
	printf("; the guest was held for %.3f s\n", (double)t->pause_ns / 1e9);
	for (unsigned i = 0; i < t->disk_count; i++) {
		const struct vm_taken_disk *disk = &t->disks[i];
		printf("  %-6s", disk->target);
		if (take->to)
			printf(" %s, %s of a disk of %s", disk->path ? disk->path : "standard output",
				size_format(disk->bytes, bytes), size_format(disk->size, size));
		puts(!take->keep ? "" : take->to ? "; kept in the disk, too" : " kept in the disk");
	}
	if (t->memory)
		printf("  memory %s, %s\n", t->memory, size_format(t->memory_bytes, bytes));
	if (t->nvram)
		printf("  NVRAM  %s\n", t->nvram);
}

static void print_disk(struct json *j, const struct vm_take *take, const struct vm_glance *glance,
	const struct vm_taken *t, unsigned disk)
{
	const struct vm_taken_disk *d = &t->disks[disk];

	json_object_begin(j, NULL);
	json_string(j, "target", d->target);
	json_uint(j, "virtual-size", d->size);
	if (take->to) {
		if (d->path)
			json_string(j, "path", d->path);
		json_string(j, "format", image_format_name(take->create.format));
		json_uint(j, "bytes", d->bytes);
	}
	if (d->base)
		json_string(j, "base", d->base);
	if (d->digest[0])
		json_string(j, "sha256", d->digest);
	if (vm_glance_image(glance, disk))
		cli_store_json(j, "image", vm_glance_image(glance, disk));
	json_object_end(j);
}

void cli_vm_taken_json(const struct vm_take *take, const struct vm_glance *glance, const struct driver_domain *d,
	const struct vm_taken *t)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", d->name);
	json_string(&j, "uuid", d->uuid);
	json_string(&j, "name", t->name);
	if (t->since)
		json_string(&j, "since", t->since);
	json_string(&j, "mode", vm_mode_name(t->mode));
	if (t->via != VM_VIA_ANY)
		json_string(&j, "via", vm_via_name(t->via));
	json_int(&j, "created", t->created);
	json_bool(&j, "quiesced", t->quiesced);
	json_bool(&j, "kept", take->keep);
	json_uint(&j, "pause-ns", t->pause_ns);
	json_array_begin(&j, "disks");
	for (unsigned i = 0; i < t->disk_count; i++)
		print_disk(&j, take, glance, t, i);
	json_array_end(&j);
	cli_vm_json_memory(&j, t->memory, t->memory_bytes, t->memory_digest, t->nvram, t->nvram_digest);
	json_object_end(&j);
	putchar('\n');
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * --property KEY=VALUE of `upload`.
 */
#include "cli/upload.h"

/* Keys that a record has of its own: an option sets them, or the service. */
static bool is_own(const char *key)
{
	static const char *const own[] = {"id", "name", "status", "visibility", "size", "virtual_size", "checksum",
		"os_hash_algo", "os_hash_value", "disk_format", "container_format", "min_disk", "min_ram", "owner",
		"tags", "protected", "os_hidden", "created_at", "updated_at", "file", "schema", "self", "locations",
		"direct_url"};
	for (unsigned i = 0; i < sizeof own / sizeof *own; i++)
		if (strcmp(key, own[i]) == 0)
			return true;
	return false;
}

int upload_add_property(struct upload_args *a, const char *text, struct error *e)
{
	const char *equals = strchr(text, '=');
	const unsigned count = a->record.property_count;

	if (!equals || equals == text)
		return err_set(e, ERR_USAGE, "--property expects KEY=VALUE, not '%s'", text);
	struct store_property *more = realloc(a->properties, (count + 1) * sizeof *more);
	if (!more)
		return err_set(e, ERR_NO_MEMORY, "out of memory for properties");
	a->properties = more;
	char *key = mem_strdup(text, e);
	if (!key)
		return -1;
	key[equals - text] = 0;
	more[count] = (struct store_property){.key = key, .value = key + (equals - text) + 1};
	a->record.properties = more;
	a->record.property_count++;
	return is_own(key) ? err_set(e, ERR_USAGE, "'%s' is no property but a part of the record itself", key) : 0;
}

void upload_free_properties(struct upload_args *a)
{
	for (unsigned i = 0; i < a->record.property_count; i++)
		free(a->properties[i].key);
	free(a->properties);
}

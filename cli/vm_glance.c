/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm snapshot --to glance:[NAME]`: a sink of vm_take over uploads of a store. The records are as the compute service makes them, and
 * say where they come from. None is kept before the snapshot as a whole has succeeded.
 */
#include "cli/vm_glance.h"

#include <time.h>

enum { PROPERTIES_MAX = 24 };
static const char prefix[] = "glance:";

bool vm_glance_wanted(const char *to)
{
	return to && strncmp(to, prefix, strlen(prefix)) == 0;
}

static void on_told(void *ctx, bool important, const char *text)
{
	struct vm_glance *g = ctx;
	if (important && !g->vm->quiet) {
		cli_progress_break(&g->vm->progress);
		cli_error(g->vm->cli, "%s", text);
	} else {
		cli_verbose(g->vm->cli, "%s", text);
	}
}

/* ---- the record of a disk ---- */

static void forget_record(struct vm_glance_disk *d)
{
	for (unsigned i = 0; i < d->property_count; i++)
		free(d->properties[i].value);
	free(d->properties);
	free(d->name);
	d->properties = NULL;
	d->name = NULL;
	d->property_count = 0;
}

static int put(struct vm_glance_disk *d, const char *key, const char *value, struct error *e)
{
	struct store_property *p = &d->properties[d->property_count];
	*p = (struct store_property){.key = (char *)key, .value = mem_strdup(value, e)};
	d->property_count += p->value != NULL;
	return p->value ? 0 : -1;
}

/* What the image, which does not name it, is an overlay of. */
static int describe_link(struct vm_glance_disk *d, const struct vm_taken *t, const struct vm_taken_disk *disk,
	struct error *e)
{
	char size[24];

	snprintf(size, sizeof size, "%llu", (unsigned long long)disk->base_size);
	return put(d, CLI_DELTA, "yes", e) || put(d, CLI_DELTA_SINCE, t->since, e) ||
			       put(d, CLI_DELTA_BASE, disk->base + strlen(prefix), e) ||
			       put(d, CLI_DELTA_BASE_SIZE, size, e)
		       ? -1
		       : 0;
}

static int describe(struct vm_glance_disk *d, const struct driver_domain *domain, const struct vm_taken *t,
	const struct vm_taken_disk *disk, struct error *e)
{
	const time_t created = (time_t)t->created;
	char when[32], count[16];
	struct tm tm;

	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&created, &tm));
	snprintf(count, sizeof count, "%u", t->disk_count);
	AUTO_FREE char *set = mem_printf(e, "%s/%s/%s", domain->uuid, t->name, when);
	d->properties = mem_calloc(PROPERTIES_MAX, sizeof *d->properties, "properties", e);
	if (!set || !d->properties)
		return -1;
	const char *const pairs[][2] = {
		{"image_type", "snapshot"},
		{"image_location", "snapshot"},
		{"image_state", "available"},
		{CLI_RECORD_DOMAIN, domain->uuid},
		{"base_image_ref", domain->origin.image},
		{"owner_id", domain->origin.project},
		{"user_id", domain->origin.user},
		{"os_type", domain->origin.os},
		{"qsnap_domain", domain->name},
		{CLI_RECORD_SNAPSHOT, t->name},
		{"qsnap_created", when},
		{"qsnap_mode", vm_mode_name(t->mode)},
		{"qsnap_quiesced", t->quiesced ? "yes" : "no"},
		{CLI_RECORD_DISK, disk->target},
		{"qsnap_disks", count},
		{"qsnap_set", set},
	};
	for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (pairs[i][1] && put(d, pairs[i][0], pairs[i][1], e) < 0)
			return -1;
	return disk->base ? describe_link(d, t, disk, e) : 0;
}

/* The compute service gives a snapshot the least memory of the image that its machine was made of. A base that is gone, or that the
 * caller may not see, is no reason to fail. */
static void look_at_base(struct vm_glance *g, const struct driver_domain *domain)
{
	struct store_image base = {0};
	struct error e;

	if (g->looked_at_base || !domain->origin.image)
		return;
	g->looked_at_base = true;
	if (store_find(g->store, domain->origin.image, &base, &e) < 0)
		cli_verbose(g->vm->cli, "image %s, of which the domain was made: %s", domain->origin.image, e.msg);
	else if (base.min_ram <= INT32_MAX)
		g->min_ram = (unsigned)base.min_ram;
	store_image_free(&base);
}

static int name_record(const struct vm_glance *g, struct vm_glance_disk *d, const struct driver_domain *domain,
	const struct vm_taken *t, const struct vm_taken_disk *disk, struct error *e)
{
	const char *asked = g->to + strlen(prefix);
	const bool several = t->disk_count > 1;

	d->name = *asked ? mem_printf(e, "%s%s%s", asked, several ? "-" : "", several ? disk->target : "")
			 : mem_printf(e, "%s-%s%s%s", domain->name, t->name, several ? "-" : "",
				   several ? disk->target : "");
	return d->name ? 0 : -1;
}

/* ---- what vm_take calls ---- */

static int on_begin(void *ctx, const struct driver_domain *domain, const struct vm_taken *t, unsigned disk,
	struct io_stream **out, struct error *e)
{
	struct vm_glance *g = ctx;

	if (!g->disks)
		g->disks = mem_calloc(t->disk_count, sizeof *g->disks, "disks", e);
	if (!g->disks)
		return -1;
	g->disk_count = t->disk_count;
	struct vm_glance_disk *d = &g->disks[disk];
	if (describe(d, domain, t, &t->disks[disk], e) < 0 || name_record(g, d, domain, t, &t->disks[disk], e) < 0)
		return -1;
	look_at_base(g, domain);
	const struct store_record r = {.name = d->name,
		.format = g->format,
		.has_min_ram = g->min_ram > 0,
		.min_ram = g->min_ram,
		.hidden = t->disks[disk].base != NULL, /* nobody is to boot it by mistake */
		.has_min_disk = true,
		.min_disk = (unsigned)min_u64(div_round_up(t->disks[disk].size, 1 << 30), INT32_MAX),
		.properties = d->properties,
		.property_count = d->property_count};
	if (store_upload_new(&d->upload, g->store, &r, e) < 0)
		return -1;
	*out = store_upload_stream(d->upload);
	return 0;
}

static int on_end(void *ctx, unsigned disk, uint64_t virtual_size, char **path, struct error *e)
{
	struct vm_glance *g = ctx;
	struct vm_glance_disk *d = &g->disks[disk];

	if (store_upload_verify(d->upload, virtual_size, &d->image, e) < 0)
		return -1;
	g->failed = 0;
	*path = mem_printf(e, "%s%s", prefix, d->image.id);
	return *path ? 0 : -1;
}

static void close_upload(struct vm_glance *g, struct vm_glance_disk *d, bool keep)
{
	char *left = NULL;

	store_upload_close(d->upload, keep, &left);
	d->upload = NULL;
	if (left)
		cli_error(g->vm->cli, "image %s was begun and is still there: delete it", left);
	free(left);
	forget_record(d);
}

static bool on_again(void *ctx, unsigned disk, struct error *e)
{
	struct vm_glance *g = ctx;

	if (g->disks)
		close_upload(g, &g->disks[disk], false);
	if (e->code != ERR_PASSING || g->failed++ == g->opts.retries)
		return false;
	return store_wait(g->store, g->failed, e, e) == 0;
}

/* An increment's link is an image's id, which the service gives to no other one, ever. */
static int on_look(void *ctx, const char *path, uint64_t size, uint64_t bytes, struct error *e)
{
	struct vm_glance *g = ctx;
	struct store_image i;
	int r = 0;

	if (store_get(g->store, path + strlen(prefix), &i, e) < 0)
		return -1;
	if (strcmp(i.status, "active") != 0 || !i.format || strcmp(i.format, "qcow2") != 0)
		r = err_set(e, ERR_UNSUPPORTED,
			"image %s is %s and of format %s: not one that an increment could be of", i.id, i.status,
			i.format ? i.format : "none");
	else if ((i.has_size && i.size != bytes) || (i.has_virtual_size && i.virtual_size != size))
		r = err_set(e, ERR_CHANGED, "image %s is not the one that was made", i.id);
	store_image_free(&i);
	return r;
}

/* ---- for the verb ---- */

int vm_glance_begin(struct vm_glance *g, struct error *e)
{
	g->opts.told = on_told;
	g->opts.told_ctx = g;
	g->opts.cancel = g->vm->progress.base.cancel;
	g->sink = (struct vm_sink){
		.ctx = g, .scheme = prefix, .look = on_look, .begin = on_begin, .end = on_end, .again = on_again};
	return store_open(&g->store, &g->opts, e);
}

const struct store_image *vm_glance_image(const struct vm_glance *g, unsigned disk)
{
	return g->disks ? &g->disks[disk].image : NULL;
}

void vm_glance_end(struct vm_glance *g, bool keep)
{
	for (unsigned i = 0; g->disks && i < g->disk_count; i++) {
		close_upload(g, &g->disks[i], keep);
		store_image_free(&g->disks[i].image);
	}
	free(g->disks);
	g->disks = NULL;
	store_close(g->store);
	g->store = NULL;
}

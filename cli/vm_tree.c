/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm list --tree`: which snapshot was taken of which. A chain without forks stays in one column, however long it is.
 */
#include "cli/vm_points.h"

#include <time.h>

const char *cli_vm_time(int64_t when, char buf[32])
{
	const time_t t = (time_t)when;
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%d %H:%M:%S %z", &tm))
		buf[0] = 0;
	return buf;
}

const char *cli_vm_how(const struct vm_point *p)
{
	if (p->mode == VM_INSTANT && p->via == VM_VIA_INTERNAL)
		return "instant (internal)";
	return p->state == VM_POINT_UNLISTED ? "unlisted" : vm_mode_name(p->mode);
}

const char *cli_vm_since(const struct vm_point *p)
{
	for (unsigned i = p->export_count; i-- > 0;)
		if (p->exports[i].since)
			return p->exports[i].since;
	return NULL;
}

void cli_vm_json_head(struct json *j, const struct driver_domain *d, const struct vm_catalog *c)
{
	json_string(j, "domain", d->name);
	json_string(j, "uuid", d->uuid);
	if (c->current)
		json_string(j, "current", c->current);
}

void cli_vm_json_point(struct json *j, const struct vm_catalog *c, const struct vm_point *p)
{
	json_string(j, "name", p->name);
	if (p->parent)
		json_string(j, "parent", p->parent);
	json_bool(j, "current", c->current && strcmp(c->current, p->name) == 0);
	json_int(j, "created", p->created);
	json_string(j, "state", vm_point_state_name(p->state));
	if (p->why)
		json_string(j, "reason", p->why);
	if (p->state == VM_POINT_UNLISTED)
		return;
	json_string(j, "mode", vm_mode_name(p->mode));
	json_string(j, "via", vm_via_name(p->via));
	json_bool(j, "quiesced", p->quiesced);
	if (cli_vm_since(p))
		json_string(j, "images-since", cli_vm_since(p));
	cli_vm_json_memory(j, p->memory, p->memory_bytes, p->memory_digest, p->nvram, p->nvram_digest);
}

void cli_vm_json_memory(struct json *j, const char *memory, uint64_t bytes, const char *digest, const char *nvram,
	const char *nvram_digest)
{
	if (memory) {
		json_string(j, "memory", memory);
		json_uint(j, "memory-bytes", bytes);
		json_string(j, "memory-sha256", digest);
	}
	if (nvram) {
		json_string(j, "nvram", nvram);
		json_string(j, "nvram-sha256", nvram_digest);
	}
}

/* ---- the tree ---- */

enum { STEP = 3 }; /* columns of a branch */
struct tree {
	const struct vm_catalog *c;
	char *lead; /* what stands before the lines of the branch that is printed; room for all */
	size_t lead_len;
	const char *mark; /* the branch's first line has this instead of its lead's last columns; NULL: it has not */
	int width;        /* of names */
};

static bool is_below(const struct tree *t, unsigned i, const char *parent)
{
	const struct vm_point *p = &t->c->points[i];

	if (p->state == VM_POINT_UNLISTED)
		return false;
	return parent ? p->parent && strcmp(p->parent, parent) == 0 : !p->parent;
}

/* The next child of `parent` (NULL: root) from index `from` on; count: none. */
static unsigned next_child(const struct tree *t, const char *parent, unsigned from)
{
	while (from < t->c->count && !is_below(t, from, parent))
		from++;
	return from;
}

static void print_line(struct tree *t, const struct vm_point *p)
{
	const bool current = t->c->current && strcmp(t->c->current, p->name) == 0;
	const size_t lead = t->mark ? t->lead_len - STEP : t->lead_len;
	char when[32];

	printf("%.*s%s%-*s  %s  %s%s", (int)lead, t->lead, t->mark ? t->mark : "", t->width, p->name,
		cli_vm_time(p->created, when), cli_vm_how(p), p->memory ? ", with memory" : "");
	if (p->state != VM_POINT_WHOLE && p->state != VM_POINT_UNLISTED)
		printf(", %s: %s", vm_point_state_name(p->state), p->why);
	if (cli_vm_since(p))
		printf(", images since %s", cli_vm_since(p));
	puts(current ? "  (current)" : "");
	t->mark = NULL;
}

/* `p` and what is below it, down to the next fork, and then each branch. Depth is that of forks. */
static void print_branch(struct tree *t,
	const struct vm_point *p) // NOLINT(misc-no-recursion): checked to have no circle
{
	unsigned first, second;

	for (;; p = &t->c->points[first]) {
		print_line(t, p);
		first = next_child(t, p->name, 0);
		second = next_child(t, p->name, first + 1);
		if (first == t->c->count)
			return;
		if (second < t->c->count)
			break;
	}
	t->lead_len += STEP;
	for (unsigned next; first < t->c->count; first = next) {
		next = next_child(t, p->name, first + 1);
		const bool last = next >= t->c->count;

		memcpy(t->lead + t->lead_len - STEP, last ? "   " : "|  ", STEP);
		t->mark = last ? "`- " : "+- ";
		print_branch(t, &t->c->points[first]);
	}
	t->lead_len -= STEP;
}

static void print_unlisted(const struct tree *t)
{
	bool told = false;
	char when[32];

	for (unsigned i = 0; i < t->c->count; i++) {
		const struct vm_point *p = &t->c->points[i];

		if (p->state != VM_POINT_UNLISTED)
			continue;
		if (!told)
			puts("In the disks alone, of no known place in the tree:");
		told = true;
		printf("  %-*s  %s  ", t->width, p->name, cli_vm_time(p->created, when));
		for (unsigned k = 0; k < p->disk_count; k++)
			printf("%s%s", k ? "," : "", p->disks[k].target);
		putchar('\n');
	}
}

int cli_vm_print_tree(const struct vm_catalog *c, struct error *e)
{
	struct tree t = {.c = c, .lead = mem_calloc(c->count + 1, STEP, "tree", e)};

	if (!t.lead)
		return -1;
	for (unsigned i = 0; i < c->count; i++)
		t.width = (int)max_u64((uint64_t)t.width, min_u64(strlen(c->points[i].name), 60));
	for (unsigned i = next_child(&t, NULL, 0); i < c->count; i = next_child(&t, NULL, i + 1))
		print_branch(&t, &c->points[i]);
	print_unlisted(&t);
	free(t.lead);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Findings of check as text, FORMAT.md §12.3. The words are those that administrators and scripts know from qemu-img.
 */
#include "qcow2/check_internal.h"

#include <stdarg.h>

/* The three numbers of a finding are printed in this order; a text may leave out the last ones. */
static const struct {
	enum finding_kind kind;
	const char *text;
} texts[] = {
	[FOUND_L1_RESERVED] = {FINDING_CORRUPTION, "ERROR found L1 entry with reserved bits set: %llx"},
	[FOUND_L1_UNALIGNED] = {FINDING_CORRUPTION,
		"ERROR l2_offset=%llx: Table is not cluster aligned; L1 entry corrupted"},
	[FOUND_L2_RESERVED] = {FINDING_CORRUPTION, "ERROR found l2 entry with reserved bits set: %llx"},
	[FOUND_COMPRESSED_COPIED] = {FINDING_CORRUPTION,
		"ERROR: coffset=0x%llx: copied flag must never be set for compressed clusters"},
	[FOUND_COMPRESSED_DATA_FILE] = {FINDING_CORRUPTION,
		"ERROR compressed cluster %llu with data file, entry=0x%llx"},
	[FOUND_COMPRESSED_BITMAP] = {FINDING_CORRUPTION,
		"ERROR compressed cluster %llu with non-zero subcluster allocation bitmap, entry=0x%llx"},
	[FOUND_BITMAP_BOTH] = {FINDING_CORRUPTION,
		"ERROR offset=%llx: Allocated cluster has corrupted subcluster allocation bitmap"},
	[FOUND_BITMAP_UNALLOCATED] = {FINDING_CORRUPTION,
		"ERROR: Unallocated cluster has non-zero subcluster allocation map"},
	[FOUND_PREALLOCATED_UNALIGNED] = {FINDING_CORRUPTION,
		"ERROR offset=%llx: Preallocated cluster is not properly aligned; L2 entry corrupted."},
	[FOUND_DATA_UNALIGNED] = {FINDING_CORRUPTION,
		"ERROR offset=%llx: Data cluster is not properly aligned; L2 entry corrupted."},
	[FOUND_BEYOND_END] = {FINDING_CORRUPTION,
		"ERROR: counting reference for region exceeding the end of the file by one cluster or more: "
		"offset 0x%llx size 0x%llx"},
	[FOUND_OVERFLOW] = {FINDING_CORRUPTION, "ERROR: overflow cluster offset=0x%llx"},
	[FOUND_SNAPSHOTS_DATA_FILE] = {FINDING_CORRUPTION, "ERROR %llu snapshots in image with data file"},
	[FOUND_SNAPSHOT_INCOMPLETE] = {FINDING_CORRUPTION, "ERROR snapshot table entry %llu is incomplete"},
	[FOUND_SNAPSHOT_L1_UNALIGNED] = {FINDING_CORRUPTION, ""},
	[FOUND_SNAPSHOT_L1_TOO_LARGE] = {FINDING_CORRUPTION, ""},
	[FOUND_SNAPSHOTS_TOO_MANY] = {FINDING_CORRUPTION, "Discarding %llu overhanging snapshots"},
	[FOUND_SNAPSHOTS_TOO_BIG] = {FINDING_CORRUPTION,
		"Discarding %llu overhanging snapshots (snapshot table is too big)"},
	[FOUND_SNAPSHOT_EXTRA] = {FINDING_CORRUPTION,
		"Discarding too much extra metadata in snapshot table entry %llu (%llu > %llu)"},
	[FOUND_REFTABLE_UNUSABLE] = {FINDING_CORRUPTION, "ERROR refcount table at 0x%llx of %llu clusters is unusable"},
	[FOUND_REFTABLE_RESERVED] = {FINDING_CORRUPTION, "ERROR refcount table entry %llu has reserved bits set"},
	[FOUND_REFBLOCK_UNALIGNED] = {FINDING_CORRUPTION,
		"ERROR refcount block %llu is not cluster aligned; refcount table entry corrupted"},
	[FOUND_REFBLOCK_OUTSIDE] = {FINDING_CORRUPTION, "ERROR refcount block %llu is outside image"},
	[FOUND_REFBLOCK_SHARED] = {FINDING_CORRUPTION, "ERROR refcount block %llu refcount=%llu"},
	/* qemu-img stops here; the status is the same. */
	[FOUND_BITMAP_TABLE_ENTRY] = {FINDING_ERROR, "ERROR bitmap table entry %llu is corrupted: 0x%llx"},
	[FOUND_NO_REFCOUNT] = {FINDING_ERROR, "Can't get refcount for cluster %llu: Input/output error"},
	[FOUND_LEAK] = {FINDING_LEAK, "Leaked cluster %llu refcount=%llu reference=%llu"},
	[FOUND_TOO_LOW] = {FINDING_CORRUPTION, "ERROR cluster %llu refcount=%llu reference=%llu"},
	[FOUND_L1_COPIED] = {FINDING_CORRUPTION,
		"ERROR OFLAG_COPIED L2 cluster: l1_index=%llu l1_entry=%llx refcount=%llu"},
	[FOUND_L2_COPIED] = {FINDING_CORRUPTION, "ERROR OFLAG_COPIED data cluster: l2_entry=%llx refcount=%llu"},
	[FOUND_UNREADABLE] = {FINDING_ERROR, "ERROR: I/O error reading %llu bytes of tables at 0x%llx"},
	[NOTE_REBUILDING] = {FINDING_NOTE, "Rebuilding refcount structure"},
	[NOTE_REBUILD_NEEDED] = {FINDING_NOTE, "ERROR need to rebuild refcount structures"},
};

static void count(struct check_result *out, enum finding_kind kind, bool repaired)
{
	if (kind == FINDING_LEAK)
		*(repaired ? &out->leaks_fixed : &out->leaks) += 1;
	else if (kind == FINDING_CORRUPTION)
		*(repaired ? &out->corruptions_fixed : &out->corruptions) += 1;
	else if (kind == FINDING_ERROR)
		out->check_errors++;
}

/* The first word is what a finding is, "ERROR" or "Leaked"; for one that is put right it is "Repairing". */
static void word_of_repair(char *text, size_t cap)
{
	static const char word[] = "Repairing";
	char *rest = strchr(text, ' ');
	if (!rest || (strncmp(text, "ERROR", 5) != 0 && strncmp(text, "Leaked", 6) != 0))
		return;
	size_t len = strlen(rest);
	if (len + sizeof word > cap)
		len = cap - sizeof word;
	memmove(text + sizeof word - 1, rest, len);
	text[sizeof word - 1 + len] = 0;
	memcpy(text, word, sizeof word - 1);
}

static void tell(struct check *c, struct finding *f)
{
	if (f->repaired)
		word_of_repair(f->text, sizeof f->text);
	c->opts->found(c->opts->ctx, f);
}

static void found(struct check *c, uint32_t code, bool repaired, struct place at, const uint64_t n[3])
{
	count(c->out, texts[code].kind, repaired);
	if (!c->opts->found)
		return;
	struct finding f = {
		.code = code, .kind = texts[code].kind, .repaired = repaired, .host = at.host, .guest = at.guest};
	snprintf(f.text, sizeof f.text, texts[code].text, (unsigned long long)n[0], (unsigned long long)n[1],
		(unsigned long long)n[2]);
	tell(c, &f);
}

void check_found(struct check *c, uint32_t code, struct place at, uint64_t x, uint64_t y, uint64_t z)
{
	found(c, code, false, at, (uint64_t[]){x, y, z});
}

void check_fixed(struct check *c, uint32_t code, struct place at, uint64_t x, uint64_t y, uint64_t z)
{
	found(c, code, true, at, (uint64_t[]){x, y, z});
}

void check_found_text(struct check *c, enum finding_code code, struct place at, const char *fmt, ...)
{
	va_list args;
	count(c->out, texts[code].kind, false);
	if (!c->opts->found)
		return;
	struct finding f = {.code = code, .kind = texts[code].kind, .host = at.host, .guest = at.guest};
	va_start(args, fmt);
	vsnprintf(f.text, sizeof f.text, fmt, args);
	va_end(args);
	tell(c, &f);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * One entry of the snapshot table, FORMAT.md §8.2 and §8.3. Entries have no fixed length, so the decoder tells how
 * many bytes it would need. An id or name may hold any byte; the L1 table is judged when the snapshot is used (l1_table_check).
 */
#include "qcow2/format.h"

enum {
	AT_L1_OFFSET = 0,
	AT_L1_ENTRIES = 8,
	AT_ID_LEN = 12,
	AT_NAME_LEN = 14,
	AT_DATE_SEC = 16,
	AT_DATE_NSEC = 20,
	AT_VM_CLOCK = 24,
	AT_VM_STATE_32 = 32,
	AT_EXTRA_BYTES = 36,
	/* extra data, FORMAT.md §8.3; each field is there only if the extra data reaches to its end */
	AT_VM_STATE_64 = 40,
	AT_DISK_SIZE = 48,
	AT_ICOUNT = 56,
	EXTRA_WRITTEN = 24,
};

/* Whether the extra data reach to the end of the 8-byte field at `at`. */
static bool extra_has(const struct snapshot_entry *s, size_t at)
{
	return s->extra_bytes >= at + 8 - QCOW2_SNAPSHOT_ENTRY_BYTES;
}

static void decode_extra(const uint8_t *buf, struct snapshot_entry *s)
{
	if (extra_has(s, AT_VM_STATE_64))
		s->vm_state_bytes = get_be64(buf + AT_VM_STATE_64);
	s->has_disk_size = extra_has(s, AT_DISK_SIZE);
	if (s->has_disk_size)
		s->disk_size = get_be64(buf + AT_DISK_SIZE);
	if (extra_has(s, AT_ICOUNT))
		s->icount = get_be64(buf + AT_ICOUNT);
	s->has_icount = s->icount != UINT64_MAX;
}

int snapshot_entry_decode(const uint8_t *buf, size_t len, struct snapshot_entry *out, struct error *e)
{
	size_t id_at, end;

	*out = (struct snapshot_entry){.icount = UINT64_MAX, .bytes = QCOW2_SNAPSHOT_ENTRY_BYTES};
	if (len < QCOW2_SNAPSHOT_ENTRY_BYTES)
		return 1;
	out->l1_offset = get_be64(buf + AT_L1_OFFSET);
	out->l1_entries = get_be32(buf + AT_L1_ENTRIES);
	out->id_len = get_be16(buf + AT_ID_LEN);
	out->name_len = get_be16(buf + AT_NAME_LEN);
	out->date_sec = get_be32(buf + AT_DATE_SEC);
	out->date_nsec = get_be32(buf + AT_DATE_NSEC);
	out->vm_clock_nsec = get_be64(buf + AT_VM_CLOCK);
	out->vm_state_bytes = get_be32(buf + AT_VM_STATE_32);
	out->extra_bytes = get_be32(buf + AT_EXTRA_BYTES);
	if (out->extra_bytes > QCOW2_MAX_SNAPSHOT_EXTRA)
		return err_set(e, ERR_LIMIT, "snapshot entry: %u bytes of extra data are more than %d",
			out->extra_bytes, QCOW2_MAX_SNAPSHOT_EXTRA);
	id_at = QCOW2_SNAPSHOT_ENTRY_BYTES + (size_t)out->extra_bytes;
	end = id_at + out->id_len + out->name_len;
	out->bytes = align_up(end, 8);
	if (len < end)
		return 1;
	decode_extra(buf, out);
	out->id = (const char *)buf + id_at;
	out->name = out->id + out->id_len;
	return 0;
}

size_t snapshot_entry_encode(const struct snapshot_entry *s, uint8_t *buf, size_t cap)
{
	size_t id_at = QCOW2_SNAPSHOT_ENTRY_BYTES + EXTRA_WRITTEN;
	size_t end = id_at + s->id_len + s->name_len;
	size_t bytes = align_up(end, 8);

	if (cap < bytes)
		return 0;
	put_be64(buf + AT_L1_OFFSET, s->l1_offset);
	put_be32(buf + AT_L1_ENTRIES, s->l1_entries);
	put_be16(buf + AT_ID_LEN, s->id_len);
	put_be16(buf + AT_NAME_LEN, s->name_len);
	put_be32(buf + AT_DATE_SEC, s->date_sec);
	put_be32(buf + AT_DATE_NSEC, s->date_nsec);
	put_be64(buf + AT_VM_CLOCK, s->vm_clock_nsec);
	/* A reader of the 32-bit field alone must not take a part of the state for all of it. */
	put_be32(buf + AT_VM_STATE_32, s->vm_state_bytes > UINT32_MAX ? 0 : (uint32_t)s->vm_state_bytes);
	put_be32(buf + AT_EXTRA_BYTES, EXTRA_WRITTEN);
	put_be64(buf + AT_VM_STATE_64, s->vm_state_bytes);
	put_be64(buf + AT_DISK_SIZE, s->disk_size);
	put_be64(buf + AT_ICOUNT, s->has_icount ? s->icount : UINT64_MAX);
	if (s->id_len)
		memcpy(buf + id_at, s->id, s->id_len);
	if (s->name_len)
		memcpy(buf + id_at + s->id_len, s->name, s->name_len);
	memset(buf + end, 0, bytes - end);
	return bytes;
}

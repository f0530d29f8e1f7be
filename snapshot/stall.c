/* SPDX-License-Identifier: Apache-2.0
 *
 * For how long QEMU holds a guest while it makes or deletes an internal snapshot of a disk: it goes over all L2 tables for either,
 * so their count tells.
 */
#include "snapshot/internal.h"

/* Measured with QEMU 7.2 and 10.0: a table of 64 KiB takes 0.8 ms while all fit in the 32 MiB of QEMU's cache, 4.4 ms beyond. */
enum { TABLE_US = 800, TABLE_BEYOND_US = 4400, TABLE_BYTES = 65536, CACHE_BYTES = 32 << 20, MAX_PAUSE_SECONDS = 30 };

int stall_ms(const char *path, uint64_t *ms, struct error *e)
{
	uint64_t tables, bytes, all;

	if (disk_tables(path, &tables, &bytes, e))
		return -1;
	all = tables * bytes;
	*ms = div_round_up(all, TABLE_BYTES) * (all > CACHE_BYTES ? TABLE_BEYOND_US : TABLE_US) / 1000;
	return 0;
}

unsigned vm_max_pause(const struct vm *vm)
{
	return vm->opts.max_pause ? vm->opts.max_pause : MAX_PAUSE_SECONDS;
}

int stall_of_deletion(const struct vm *vm, const char *target, const char *path, struct error *e)
{
	uint64_t ms;

	if (stall_ms(path, &ms, e))
		return -1;
	if (ms <= vm_max_pause(vm) * 1000ull)
		return 0;
	return err_set(e, ERR_LIMIT,
		"disk %s: deleting the snapshot would hold the guest for about %llu ms, more than the %u s that it "
		"may; when "
		"it does not run, or may be held for longer, it can be deleted",
		target, (unsigned long long)ms, vm_max_pause(vm));
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Scratch folders of tests/unit/scratch.h.
 */
#include "tests/unit/scratch.h"

#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

bool scratch_enter(int kind)
{
	snprintf(folder, sizeof folder, "%s/qsnap-unit-XXXXXX", kind == SCRATCH_TMPFS ? "/dev/shm" : "/var/tmp");
	if (!mkdtemp(folder))
		return false;
	ck_assert_int_eq(chdir(folder), 0);
	return true;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

void scratch_leave(void)
{
	if (chdir("/") == 0 && *folder)
		nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	*folder = 0;
}

void scratch_file(const char *name, const void *bytes, size_t len)
{
	FILE *f = fopen(name, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

char *scratch_read(const char *name, size_t *len)
{
	FILE *f = fopen(name, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
	*len = (size_t)ftell(f);
	rewind(f);
	char *bytes = calloc(1, *len + 1); /* usable as a string */
	ck_assert_ptr_nonnull(bytes);
	ck_assert_uint_eq(fread(bytes, 1, *len, f), *len);
	fclose(f);
	return bytes;
}

unsigned scratch_count(void)
{
	DIR *d = opendir(".");
	ck_assert_ptr_nonnull(d);
	unsigned n = 0;
	for (struct dirent *entry; (entry = readdir(d));)
		n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(d);
	return n;
}

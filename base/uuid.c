/* SPDX-License-Identifier: Apache-2.0
 *
 * Random UUIDs: RFC 4122, version 4.
 */
#include "base/base.h"

#include <errno.h>
#include <sys/random.h>

int uuid_new(char out[UUID_CHARS], struct error *e)
{
	uint8_t b[16];

	if (getrandom(b, sizeof b, 0) != sizeof b)
		return err_sys(e, errno, "no random bytes for a UUID");
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	char *p = out;
	for (unsigned i = 0; i < sizeof b; i++)
		p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
	return 0;
}

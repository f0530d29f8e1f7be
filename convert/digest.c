/* SPDX-License-Identifier: Apache-2.0
 *
 * The digest of a file that a conversion made, afterwards.
 */
#include "convert/internal.h"

int convert_digest(const char *path, const char *algorithm, const struct progress *progress, char hex[129],
	struct error *e)
{
	AUTO_IO struct io *file = NULL;
	if (io_file_open(&file, path, 0, e) < 0)
		return -1;
	return hash_io(file, file->size, algorithm, progress, hex, e) < 0 ? err_prefix(e, "%s", path) : 0;
}

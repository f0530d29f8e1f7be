/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard output as a whole: whether it took what was printed, and that it may be an image.
 */
#include "cli/cli.h"

#include <errno.h>
#include <unistd.h>

int cli_finish_output(const struct cli *c, int status)
{
	bool failed = ferror(stdout) != 0;
	if (fflush(stdout) != 0)
		failed = true;
	if (failed && status == 0)
		return cli_error(c, "Could not write to standard output: %s", strerror(errno));
	return status;
}

int cli_take_stdout(int *fd, struct error *e)
{
	if (isatty(STDOUT_FILENO))
		return err_set(e, ERR_USAGE, "standard output is a terminal");
	*fd = dup(STDOUT_FILENO);
	/* What is printed there by mistake must not get into the image. */
	if (*fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return err_sys(e, errno, "standard output");
	return 0;
}

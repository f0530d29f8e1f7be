/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-measure WARM_MIB COMMAND...: runs the command with nothing on its standard output and prints the kernel's account of it as one
 * JSON object. Two things that would disturb the account are kept out of it. Memory that a virtual machine has not used lately
 * costs several times as much to touch as other memory, so WARM_MIB of it are touched and given back first. And a process's largest
 * resident set counts from what its parent had, so the parent is this small one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void warm(size_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	void *p = bytes ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) : MAP_FAILED;
	if (p != MAP_FAILED)
		munmap(p, bytes);
}

static void become(char **command)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null >= 0)
		dup2(null, STDOUT_FILENO);
	execvp(command[0], command);
	fprintf(stderr, "bench-measure: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

int main(int argc, char **argv)
{
	struct rusage used;
	int status;
	if (argc < 3) {
		fprintf(stderr, "usage: bench-measure WARM_MIB COMMAND...\n");
		return 2;
	}
	warm((size_t)strtoull(argv[1], NULL, 10) << 20);
	double begin = now();
	pid_t child = fork();
	if (child == 0)
		become(argv + 2);
	if (child < 0 || wait4(child, &status, 0, &used) < 0) {
		fprintf(stderr, "bench-measure: %s\n", strerror(errno));
		return 1;
	}
	printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"rss\": %ld, \"status\": %d}\n", now() - begin,
		seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss * 1024,
		WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	return 0;
}

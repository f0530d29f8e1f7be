/* SPDX-License-Identifier: Apache-2.0
 *
 * What --untrusted does to the process before it looks at a stranger's image: Landlock leaves only the files the user named,
 * seccomp only the system calls that reading and writing images takes, rlimits bound memory and time. Each works without the
 * others; `-v` tells which of them hold. A break-out of the parser then finds no network, no other file, no program to run.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

/* A sanitizer needs terabytes of address space and system calls of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = true };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif
#else
enum { SANITIZED = false };
#endif

static bool confined;

#ifdef __SANITIZE_ADDRESS__
/* The leak checker asks at the end; it reads /proc, which is out of reach then. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return confined;
}
#endif

/* ---- Landlock ---- */

/* Rights that are younger than the header may be. */
enum {
	ACCESS_TRUNCATE = 1 << 14,  /* ABI 3 */
	ACCESS_IOCTL_DEV = 1 << 15, /* ABI 5 */
};
struct ruleset_attr {
	uint64_t handled_access_fs, handled_access_net /* ABI 4 */, scoped /* ABI 6 */;
};

static const uint64_t file_read = LANDLOCK_ACCESS_FS_READ_FILE | ACCESS_IOCTL_DEV;
static const uint64_t file_write =
	LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE | ACCESS_IOCTL_DEV;
static const uint64_t folder_write = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE |
				     LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REFER;

static struct ruleset_attr everything(long abi)
{
	struct ruleset_attr a = {.handled_access_fs = (1ull << 13) - 1};
	if (abi >= 2)
		a.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		a.handled_access_fs |= ACCESS_TRUNCATE;
	if (abi >= 4)
		a.handled_access_net = 3; /* bind and connect of TCP */
	if (abi >= 5)
		a.handled_access_fs |= ACCESS_IOCTL_DEV;
	if (abi >= 6)
		a.scoped = 3; /* abstract sockets and signals of others */
	return a;
}

static size_t attr_size(long abi)
{
	return abi >= 6 ? sizeof(struct ruleset_attr) : abi >= 4 ? 16 : 8;
}

/* A path that is not there gets no rule: opening it gives the right message anyway. */
static void allow(int ruleset, const char *path, uint64_t rights)
{
	int fd = open(strncmp(path, "file:", 5) ? path : path + 5, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return;
	struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(fd);
}

/* A target is replaced by a new file in its folder, where a symlink leads; a device is written in place. */
static void allow_target(int ruleset, const char *path, uint64_t handled)
{
	char real[PATH_MAX], folder[PATH_MAX];
	struct stat st;
	if (!realpath(path, real))
		snprintf(real, sizeof real, "%s", path);
	if (stat(real, &st) == 0 && S_ISDIR(st.st_mode)) {
		allow(ruleset, real, folder_write & handled);
		return;
	}
	allow(ruleset, real, file_write & handled);
	snprintf(folder, sizeof folder, "%s", real);
	allow(ruleset, dirname(folder), folder_write & handled);
}

static bool landlock(const struct cli *c, const struct cli_access *access, unsigned n)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1) {
		cli_verbose(c, "not confined by Landlock: %s", strerror(errno));
		return false;
	}
	struct ruleset_attr attr = everything(abi);
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, attr_size(abi), 0);
	if (ruleset < 0) {
		cli_verbose(c, "not confined by Landlock: %s", strerror(errno));
		return false;
	}
	for (unsigned i = 0; i < n; i++) {
		if (access[i].write)
			allow_target(ruleset, access[i].path, attr.handled_access_fs);
		else
			allow(ruleset, access[i].path, file_read & attr.handled_access_fs);
	}
	bool done = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
	int why = errno;
	close(ruleset);
	if (done)
		cli_verbose(c, "confined by Landlock (ABI %ld)", abi);
	else
		cli_verbose(c, "not confined by Landlock: %s", strerror(why));
	return done;
}

/* ---- seccomp ---- */

#ifdef HAVE_SECCOMP
/* What the verbs, the allocator and the thread library use. Opening is among them: Landlock says which files. */
static const int allowed_calls[] = {
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(fcntl),
	SCMP_SYS(ioctl),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getcwd),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fadvise64),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(linkat),
	SCMP_SYS(unlinkat),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchown),
	SCMP_SYS(umask),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mprotect),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(tgkill),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(setitimer),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrandom),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

static int add_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof allowed_calls / sizeof *allowed_calls; i++)
		if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0) < 0)
			return -1;
	/* threads, but no processes; the newer call hides its flags in memory, so the C library is sent to the older one */
	int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
		SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* only ever asked for by somebody who broke in */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(execve), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(execveat), 0);
	return r;
}

static void seccomp(const struct cli *c)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? add_rules(filter) : -ENOMEM;
	if (r == 0)
		r = seccomp_load(filter);
	if (filter)
		seccomp_release(filter);
	if (r == 0)
		cli_verbose(c, "confined by seccomp");
	else
		cli_verbose(c, "not confined by seccomp: %s", strerror(-r));
}
#else
static void seccomp(const struct cli *c)
{
	cli_verbose(c, "not confined by seccomp: built without libseccomp");
}
#endif

/* ---- limits ---- */

static void lower_limit(const struct cli *c, __rlimit_resource_t what, const char *name, uint64_t value)
{
	struct rlimit old, new;
	if (getrlimit(what, &old) < 0)
		return;
	new.rlim_cur = new.rlim_max = min_u64(value, old.rlim_max);
	if (setrlimit(what, &new) < 0)
		cli_verbose(c, "no limit on %s: %s", name, strerror(errno));
	else
		cli_verbose(c, "limit on %s: %llu", name, (unsigned long long)new.rlim_cur);
}

static void limits(const struct cli *c)
{
	lower_limit(c, RLIMIT_CORE, "the size of a core file (bytes)", 0);
	lower_limit(c, RLIMIT_CPU, "processor time (s)", c->limits.seconds * pool_cpu_count() + 1);
	if (!SANITIZED)
		lower_limit(c, RLIMIT_AS, "memory (bytes)", c->limits.memory);
	cli_time_limit(c->limits.seconds);
}

/* ---- all of it ---- */

int cli_confine(const struct cli *c, const struct cli_access *access, unsigned n)
{
	if (!c->untrusted || confined)
		return 0;
	confined = true;
	for (unsigned i = 0; i < n; i++) {
		if (!access[i].write && strncmp(access[i].path, "json:", 5) == 0) {
			cli_error(c, "--untrusted takes the plain path of an image, no json: name");
			return -1;
		}
	}
	tzset(); /* reads /etc/localtime while that is possible */
	limits(c);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		cli_verbose(c, "not confined by Landlock and seccomp: %s", strerror(errno));
		return 0;
	}
	landlock(c, access, n);
	if (SANITIZED)
		cli_verbose(c, "not confined by seccomp: built with a sanitizer");
	else
		seccomp(c);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * driver-probe URI [-v] STEP [DOMAIN [ARGUMENTS...]]
 * One step of the libvirt driver, for tests that judge by other tools what came of it. Steps have the names that driver.h has;
 * `look` prints what it saw as JSON. Several steps: "--" between them, over one connection. Exit 0, or 10 + the error's code.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "driver/driver.h"

enum { MAX_DISKS = 8, EXIT_ERROR = 10 };

static const char *const states[] = {"running", "paused", "shut off", "between"};
static const char *const formats[] = {"raw", "qcow2", "other"};
static const char *const kinds[] = {"none", "copy", "commit", "other"};

static void print_disk(struct json *j, const struct driver_disk *d)
{
	json_object_begin(j, NULL);
	json_string(j, "target", d->target);
	json_bool(j, "whole", d->whole_chain);
	json_bool(j, "readonly", d->readonly);
	json_bool(j, "no_disk", d->no_disk);
	json_bool(j, "busy", d->busy);
	json_string(j, "copy_to", d->copy_to ? d->copy_to : "");
	json_array_begin(j, "images");
	for (unsigned i = 0; i < d->image_count; i++) {
		json_object_begin(j, NULL);
		json_string(j, "path", d->images[i].path ? d->images[i].path : "");
		json_string(j, "kind", d->images[i].kind);
		json_string(j, "format", formats[d->images[i].format]);
		json_object_end(j);
	}
	json_array_end(j);
	json_object_end(j);
}

static void print_domain(const struct driver_domain *d)
{
	struct json j;
	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "name", d->name);
	json_string(&j, "uuid", d->uuid);
	json_string(&j, "state", states[d->state]);
	json_bool(&j, "paused_by_user", d->paused_by_user);
	json_bool(&j, "persistent", d->persistent);
	json_bool(&j, "saved", d->saved);
	json_bool(&j, "ended_well", d->ended_well);
	json_bool(&j, "agent", d->agent);
	json_bool(&j, "snapshots", d->snapshots);
	json_string(&j, "job", d->job ? d->job : "");
	json_uint(&j, "host_devices", d->host_device_count);
	json_array_begin(&j, "disks");
	for (unsigned i = 0; i < d->disk_count; i++)
		print_disk(&j, &d->disks[i]);
	json_array_end(&j);
	json_object_end(&j);
	putchar('\n');
}

static void print_records(const struct driver_record *r, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		printf("%s %lld %s%s%s\n", r[i].name, (long long)r[i].created, r[i].parent ? r[i].parent : "-",
			r[i].external ? " external" : "", r[i].memory ? " memory" : "");
}

static void tell(void *ctx, const char *call)
{
	(void)ctx;
	fprintf(stderr, "call: %s\n", call);
}

/* Arguments of a step after the domain. */
struct args {
	char **arg;
	int count;
};

static const char *arg(const struct args *a, int i)
{
	return i < a->count ? a->arg[i] : "";
}

/* TARGET=PATH[:raw] */
static struct driver_new_file new_file(char *text)
{
	char *path = strchr(text, '=');
	struct driver_new_file f = {.target = text, .path = "", .format = DRIVER_QCOW2};
	if (path) {
		*path++ = 0;
		char *raw = strstr(path, ":raw");
		f.path = path;
		if (raw) {
			*raw = 0;
			f.format = DRIVER_RAW;
		}
	}
	return f;
}

static int wait_ready(struct driver *d, const char *uuid, const char *target, struct error *e)
{
	struct driver_job job = {0};
	do {
		struct timespec t = {.tv_nsec = 20000000};
		nanosleep(&t, NULL);
		if (d->ops->job(d, uuid, target, &job, e))
			return -1;
	} while (job.kind != DRIVER_NO_JOB && !job.ready);
	printf("%s %s\n", kinds[job.kind], job.ready ? "ready" : "gone");
	return 0;
}

static int jobs_step(struct driver *d, const char *step, const char *uuid, struct args *a, struct error *e)
{
	struct driver_new_file files[MAX_DISKS] = {0};
	unsigned n = 0;
	if (!strcmp(step, "overlay")) {
		for (; n < (unsigned)a->count && n < MAX_DISKS; n++)
			files[n] = new_file(a->arg[n]);
		return d->ops->overlay(d, uuid, files, n, e);
	}
	if (a->count > 0 && !strcmp(step, "set_source")) {
		files[0] = new_file(a->arg[0]);
		return d->ops->set_source(d, uuid, files, e);
	}
	if (a->count > 0 && !strcmp(step, "copy")) {
		files[0] = new_file(a->arg[0]);
		unsigned flags = 0;
		for (int i = 1; i < a->count; i++)
			flags |= strcmp(a->arg[i], "sync") ? DRIVER_COPY_SHALLOW : DRIVER_COPY_SYNC;
		return d->ops->copy(d, uuid, files, flags, e);
	}
	if (!strcmp(step, "commit"))
		return d->ops->commit(d, uuid, arg(a, 0), arg(a, 1), e);
	if (!strcmp(step, "ready"))
		return wait_ready(d, uuid, arg(a, 0), e);
	if (!strcmp(step, "end_job"))
		return d->ops->end_job(d, uuid, arg(a, 0),
			!strcmp(arg(a, 1), "pivot")   ? DRIVER_END_PIVOT
			: !strcmp(arg(a, 1), "whole") ? DRIVER_END_WHOLE
						      : DRIVER_END_ANYHOW,
			e);
	return err_set(e, ERR_USAGE, "no step '%s'", step);
}

static int snapshot_step(struct driver *d, const char *step, const char *uuid, struct args *a, struct error *e)
{
	const char *const *disks = (const char *const *)a->arg + 1;
	unsigned n = a->count > 1 ? (unsigned)a->count - 1 : 0;
	if (!strcmp(step, "internal_create"))
		return d->ops->internal_create(d, uuid, disks, n, arg(a, 0), e);
	if (!strcmp(step, "internal_delete"))
		return d->ops->internal_delete(d, uuid, arg(a, 1), arg(a, 0), a->count > 2 ? arg(a, 2) : NULL, e);
	if (!strcmp(step, "define_record"))
		return d->ops->define_record(d, uuid, arg(a, 0), 1700000000, disks, n, e);
	if (!strcmp(step, "forget_record"))
		return d->ops->forget_record(d, uuid, arg(a, 0), e);
	if (!strcmp(step, "records")) {
		struct driver_record *r = NULL;
		if (d->ops->records(d, uuid, &r, &n, e))
			return -1;
		print_records(r, n);
		driver_records_free(r, n);
		return 0;
	}
	return jobs_step(d, step, uuid, a, e);
}

/* The definition is in a file. */
static int define(struct driver *d, const char *uuid, const char *path, struct error *e)
{
	static char xml[65536];
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(xml, 1, sizeof xml - 1, file) : 0;
	if (file)
		fclose(file);
	xml[n] = 0;
	return d->ops->define(d, uuid, xml, e);
}

static int print_saved_path(struct driver *d, const char *uuid, struct error *e)
{
	AUTO_FREE char *path = NULL;
	if (d->ops->saved_path(d, uuid, &path, e))
		return -1;
	puts(path);
	return 0;
}

/* Whoever reads the pipe outlives nobody: it ends with the pipe, and with this process. */
static int copy_pipe(int from, const char *path, const struct driver_head *head, struct error *e)
{
	FILE *file = fopen(path, "w");
	if (!file || fwrite(head->bytes, 1, head->len, file) != head->len || fflush(file))
		return err_set(e, ERR_IO, "%s cannot be written", path);
	pid_t parent = getpid(), child = fork();
	if (child) {
		fclose(file);
		return child < 0 ? err_set(e, ERR_IO, "fork") : 0;
	}
	char bytes[65536];
	ssize_t n;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent && (n = read(from, bytes, sizeof bytes)) > 0)
		fwrite(bytes, 1, (size_t)n, file);
	fflush(file);
	_exit(0);
}

/* Into a file that libvirt can go on from; "cut": nobody reads it. */
static int memory_still(struct driver *d, const char *uuid, struct error *e)
{
	bool still;

	if (d->ops->memory_still(d, uuid, &still, e))
		return -1;
	puts(still ? "still" : "runs");
	return 0;
}

static int memory_begin(struct driver *d, const char *uuid, const char *path, bool still, struct error *e)
{
	struct driver_head head = {0};
	int fds[2];
	if (pipe2(fds, O_CLOEXEC))
		return err_set(e, ERR_IO, "pipe");
	int rc = d->ops->memory_begin(d, uuid, fds[1], still, &head, e);
	close(fds[1]);
	bool unread = !rc && !strcmp(path, "unread"); /* until this process ends */
	if (!rc && !unread && strcmp(path, "cut") != 0)
		rc = copy_pipe(fds[0], path, &head, e);
	if (!unread)
		close(fds[0]);
	free(head.bytes);
	return rc;
}

static int memory_wait(struct driver *d, const char *uuid, enum driver_memory_state state, struct error *e)
{
	struct driver_memory m;
	do {
		struct timespec t = {.tv_nsec = 5000000};
		nanosleep(&t, NULL);
		if (d->ops->memory_look(d, uuid, &m, e))
			return -1;
	} while (m.state != state);
	printf("round %u, %s\n", m.rounds, m.left ? "some left" : "all");
	return 0;
}

static int guest_step(struct driver *d, const char *step, const char *uuid, struct args *a, struct error *e)
{
	if (!strcmp(step, "suspend"))
		return d->ops->suspend(d, uuid, e);
	if (!strcmp(step, "resume"))
		return d->ops->resume(d, uuid, e);
	if (!strcmp(step, "save"))
		return d->ops->save(d, uuid, e);
	if (!strcmp(step, "saved_path"))
		return print_saved_path(d, uuid, e);
	if (!strcmp(step, "restore"))
		return d->ops->restore(d, uuid, arg(a, 0), !strcmp(arg(a, 1), "paused"), e);
	if (!strcmp(step, "memory_still"))
		return memory_still(d, uuid, e);
	if (!strcmp(step, "memory_begin"))
		return memory_begin(d, uuid, arg(a, 0), !strcmp(arg(a, 1), "still"), e);
	if (!strcmp(step, "memory_held"))
		return memory_wait(d, uuid, DRIVER_MEMORY_HELD, e);
	if (!strcmp(step, "memory_finish"))
		return d->ops->memory_finish(d, uuid, e) || memory_wait(d, uuid, DRIVER_MEMORY_WRITTEN, e) ? -1 : 0;
	if (!strcmp(step, "memory_patience"))
		return d->ops->memory_patience(d, uuid, (unsigned)atoi(arg(a, 0)), e);
	if (!strcmp(step, "memory_end"))
		return d->ops->memory_end(d, uuid, e);
	if (!strcmp(step, "forget_save"))
		return d->ops->forget_save(d, uuid, !strcmp(arg(a, 0), "active"), e);
	if (!strcmp(step, "destroy"))
		return d->ops->destroy(d, uuid, e);
	if (!strcmp(step, "define"))
		return define(d, uuid, arg(a, 0), e);
	if (!strcmp(step, "start"))
		return d->ops->start(d, uuid, !strcmp(arg(a, 0), "paused"), e);
	if (!strcmp(step, "attach") || !strcmp(step, "detach"))
		return d->ops->device(d, uuid, arg(a, 0), *step == 'a', e);
	if (!strcmp(step, "freeze"))
		return d->ops->freeze(d, uuid, 10, e);
	if (!strcmp(step, "thaw"))
		return d->ops->thaw(d, uuid, 10, e);
	if (!strcmp(step, "set_time"))
		return d->ops->set_time(d, uuid, e);
	return snapshot_step(d, step, uuid, a, e);
}

static int list(struct driver *d, struct error *e)
{
	char **uuids = NULL;
	unsigned count = 0;
	if (d->ops->list(d, &uuids, &count, e))
		return -1;
	for (unsigned i = 0; i < count; i++) {
		puts(uuids[i]);
		free(uuids[i]);
	}
	free(uuids);
	return 0;
}

static int one_step(struct driver *d, char **words, int count, struct error *e)
{
	if (!strcmp(words[0], "local"))
		return d->ops->local(d, e);
	if (!strcmp(words[0], "list"))
		return list(d, e);
	if (!strcmp(words[0], "pause")) { /* until a line comes: the test does something meanwhile */
		puts("paused");
		fflush(stdout);
		return getchar() == EOF ? err_set(e, ERR_IO, "no line came") : 0;
	}
	struct driver_domain domain = {0};
	if (count < 2 || d->ops->look(d, words[1], &domain, e))
		return count < 2 ? err_set(e, ERR_USAGE, "which domain?") : -1;
	struct args a = {words + 2, count - 2};
	int rc = 0;
	if (!strcmp(words[0], "look"))
		print_domain(&domain);
	else if (!strcmp(words[0], "xml"))
		puts(domain.xml);
	else
		rc = guest_step(d, words[0], domain.uuid, &a, e);
	driver_domain_free(&domain);
	return rc;
}

int main(int argc, char **argv)
{
	struct driver *d = NULL;
	struct error e = {0};
	int rc = argc < 3 ? err_set(&e, ERR_USAGE, "driver-probe URI STEP...") : driver_libvirt_open(&d, argv[1], &e);
	int i = 2;
	if (!rc && !strcmp(argv[i], "-v")) {
		d->told = tell;
		i++;
	}
	while (!rc && i < argc) {
		int end = i;
		while (end < argc && strcmp(argv[end], "--") != 0)
			end++;
		rc = one_step(d, argv + i, end - i, &e);
		i = end + 1;
	}
	driver_close(d);
	if (rc)
		fprintf(stderr, "driver-probe: %s\n", e.msg);
	return rc ? EXIT_ERROR + (int)e.code : 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Block jobs: a disk copied to a file, an overlay committed into what is below it, and their ends.
 */
#include "driver/libvirt_internal.h"

enum { END_WAIT_MS = 20000, END_STEP_MS = 2 };

int libvirt_copy(struct driver *d, const char *uuid, const struct driver_new_file *to, unsigned flags, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	struct libvirt_xml x = {0};
	libvirt_xml_new_file(&x, libvirt_xml_add(&x, NULL, "disk", NULL), to);
	AUTO_FREE char *xml = libvirt_xml_finish(&x, e);
	AUTO_DOMAIN virDomainPtr dom = xml ? libvirt_domain(l, uuid, e) : NULL;
	if (!dom)
		return -1;
	/* A transient job is what lets a domain that is defined be copied: it is gone when the guest ends. */
	unsigned how = VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB;
	if (flags & DRIVER_COPY_SHALLOW)
		how |= VIR_DOMAIN_BLOCK_COPY_SHALLOW;
	if (flags & DRIVER_COPY_SYNC)
		how |= VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES;
	libvirt_tell(l, "virDomainBlockCopy");
	return virDomainBlockCopy(dom, to->target, xml, NULL, 0, how) ? libvirt_fail(l, e) : 0;
}

int libvirt_commit(struct driver *d, const char *uuid, const char *target, const char *base, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainBlockCommit");
	return virDomainBlockCommit(dom, target, base, NULL, 0, VIR_DOMAIN_BLOCK_COMMIT_ACTIVE) ? libvirt_fail(l, e)
												: 0;
}

/* What the definition in use says of a disk: its file, and the one that a job makes of it. */
struct mirror {
	bool runs, ready;
	char *source, *copy;
};

static void drop_mirror(struct mirror *m)
{
	free(m->source);
	free(m->copy);
}
#define AUTO_MIRROR __attribute__((cleanup(drop_mirror)))

static int read_mirror(struct libvirt *l, virDomainPtr dom, const char *target, struct mirror *out, struct error *e)
{
	AUTO_FREE char *xml = libvirt_definition(l, dom, 0, e);
	AUTO_DOC xmlDoc *doc = xml ? libvirt_xml_parse(xml, e) : NULL;
	const xmlNode *disk = doc ? libvirt_xml_disk(doc, target, e) : NULL;
	if (!disk || libvirt_xml_path(disk, &out->source, e))
		return -1;
	const xmlNode *mirror = libvirt_xml_child(disk, "mirror");
	out->runs = mirror;
	out->ready = libvirt_xml_attr_is(mirror, "ready", "yes");
	return libvirt_xml_path(mirror, &out->copy, e);
}

static enum driver_job_kind kind_of(int type)
{
	switch (type) {
	case VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
		return DRIVER_COPY;
	case VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
	case VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
		return DRIVER_COMMIT;
	default:
		return DRIVER_OTHER_JOB;
	}
}

static int job_of(struct libvirt *l, virDomainPtr dom, const char *target, virDomainBlockJobInfo *info, struct error *e)
{
	libvirt_tell(l, "virDomainGetBlockJobInfo");
	int n = virDomainGetBlockJobInfo(dom, target, info, 0);
	return n < 0 ? libvirt_fail(l, e) : n;
}

int libvirt_job(struct driver *d, const char *uuid, const char *target, struct driver_job *out, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	virDomainBlockJobInfo info = {0};
	int n = dom ? job_of(l, dom, target, &info, e) : -1;
	if (n < 0)
		return -1;
	*out = (struct driver_job){0};
	if (!n)
		return 0;
	/* The numbers may meet before all is ready, or never while the guest writes: only libvirt's own word counts. */
	AUTO_MIRROR struct mirror m = {0};
	if (read_mirror(l, dom, target, &m, e))
		return -1;
	*out = (struct driver_job){.kind = kind_of(info.type), .done = info.cur, .total = info.end, .ready = m.ready};
	return 0;
}

/* Whether both libvirt and QEMU are done with it: 1, 0, or -1. */
static int is_gone(struct libvirt *l, virDomainPtr dom, const char *target, struct mirror *after, struct error *e)
{
	virDomainBlockJobInfo info;
	int n = job_of(l, dom, target, &info, e);
	if (n)
		return n < 0 ? -1 : 0;
	drop_mirror(after);
	*after = (struct mirror){0};
	if (read_mirror(l, dom, target, after, e))
		return -1;
	return !after->runs;
}

static bool is_path(const char *a, const char *b)
{
	return a && b && !strcmp(a, b);
}

static int wait_gone(struct libvirt *l, virDomainPtr dom, const char *target, struct mirror *after, struct error *e)
{
	for (unsigned waited = 0;; waited += END_STEP_MS) {
		int gone = is_gone(l, dom, target, after, e);
		if (gone)
			return gone < 0 ? -1 : 0;
		if (waited >= END_WAIT_MS)
			return err_set(e, ERR_BUSY, "disk '%s': the block job does not end", target);
		if (libvirt_events_wait(END_STEP_MS, e))
			return -1;
	}
}

/* The job is gone, without that it did what it was for. */
static int abort_failed(struct libvirt *l, virDomainPtr dom, const char *target, struct error *e)
{
	struct error unimportant;
	virDomainBlockJobInfo info;
	libvirt_fail(l, e);
	return job_of(l, dom, target, &info, &unimportant)
		       ? -1
		       : err_set(e, ERR_NOT_FOUND, "disk '%s' has no block job", target);
}

static int end_and_wait(struct libvirt *l, virDomainPtr dom, const char *target, bool pivot, struct error *e)
{
	AUTO_MIRROR struct mirror before = {0}, after = {0};
	if (pivot && read_mirror(l, dom, target, &before, e))
		return -1;
	/* libvirt is told not to wait, because the guest may be paused meanwhile and must not be for ever. */
	unsigned how = VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC | (pivot ? VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT : 0);
	libvirt_tell(l, "virDomainBlockJobAbort");
	if (virDomainBlockJobAbort(dom, target, how))
		return abort_failed(l, dom, target, e);
	if (wait_gone(l, dom, target, &after, e))
		return -1;
	if (pivot && before.copy && !is_path(after.source, before.copy))
		return err_set(e, ERR_IO, "disk '%s': the guest did not change over to %s", target, before.copy);
	return 0;
}

/* QEMU writes what is left when it is told to end. libvirt does not tell whether that failed; QEMU does. */
static int end_whole(struct libvirt *l, virDomainPtr dom, const char *target, struct error *e)
{
	AUTO_FREE char *job = mem_printf(e, "copy-%s-", target);
	struct libvirt_end end;
	if (!job || libvirt_end_watch(l, dom, job, &end, e))
		return -1;
	int rc = end_and_wait(l, dom, target, false, e) || libvirt_end_well(&end, target, e) ? -1 : 0;
	libvirt_end_forget(&end);
	return rc;
}

int libvirt_end_job(struct driver *d, const char *uuid, const char *target, enum driver_end how, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	return how == DRIVER_END_WHOLE ? end_whole(l, dom, target, e)
				       : end_and_wait(l, dom, target, how == DRIVER_END_PIVOT, e);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the libvirt driver share. Every call of libvirt goes: libvirt_domain (which makes a new connection when the
 * old one broke), libvirt_tell, the call, libvirt_fail. What changes anything is called once, never again after a failure.
 */
#ifndef QSNAP_DRIVER_LIBVIRT_INTERNAL_H
#define QSNAP_DRIVER_LIBVIRT_INTERNAL_H

#include <libvirt/libvirt.h>
#include <libxml/tree.h>

#include "base/json_read.h"
#include "driver/driver.h"

#define LIBVIRT_SENDS_FILES (LIBVIR_VERSION_NUMBER >= 8002000) /* to QEMU's monitor */

/* What the memory's way out of QEMU is set to while ours is not on it; 0: unknown (libvirt_memory.c). */
struct libvirt_migration {
	uint64_t bandwidth, downtime; /* bytes a second; ms */
};

struct libvirt {
	struct driver driver; /* first: the same address */
	virConnectPtr conn;   /* NULL when it broke and no new one could be made yet */
	char *uri;            /* NULL: libvirt's choice */
	struct libvirt_migration before;
	bool memory_still; /* of libvirt_memory_begin */
};

static inline struct libvirt *libvirt_of(struct driver *d)
{
	return (struct libvirt *)d;
}

/* ---- scope cleanup ---- */

static inline void libvirt_drop_domain(virDomainPtr *dom)
{
	if (*dom)
		virDomainFree(*dom);
}
static inline void libvirt_drop_doc(xmlDoc **doc)
{
	xmlFreeDoc(*doc);
}
static inline void libvirt_drop_text(xmlChar **text)
{
	xmlFree(*text);
}
#define AUTO_DOMAIN __attribute__((cleanup(libvirt_drop_domain)))
#define AUTO_DOC __attribute__((cleanup(libvirt_drop_doc)))
#define AUTO_TEXT __attribute__((cleanup(libvirt_drop_text)))

/* ---- the connection (libvirt_open.c) ---- */

/* A connection, made again if it is known to have broken. */
int libvirt_connected(struct libvirt *l, struct error *e);
/* The domain of this UUID, to be freed; NULL with an error. */
virDomainPtr libvirt_domain(struct libvirt *l, const char *uuid, struct error *e);
/* The same by name or UUID, as a user gives it. */
virDomainPtr libvirt_domain_named(struct libvirt *l, const char *name, struct error *e);
void libvirt_tell(struct libvirt *l, const char *call);
/* What libvirt said last, with our code; always -1. `l` may be NULL. */
int libvirt_fail(struct libvirt *l, struct error *e);
/* The definition, of `flags` VIR_DOMAIN_XML_*; free(). NULL with an error. */
char *libvirt_definition(struct libvirt *l, virDomainPtr dom, unsigned flags, struct error *e);
void libvirt_wait_ms(unsigned ms);

/* ---- XML (libvirt_xml.c) ---- */

xmlDoc *libvirt_xml_parse(const char *text, struct error *e);
/* Whether it is an element of this name; `name` NULL: of any. */
bool libvirt_xml_is(const xmlNode *n, const char *name);
/* An element's first child of this name (NULL: any); NULL when there is none, or no element. */
xmlNode *libvirt_xml_child(const xmlNode *n, const char *name);
/* The next sibling of the same name. */
xmlNode *libvirt_xml_next(const xmlNode *n);
void libvirt_xml_drop(xmlNode *n); /* NULL is allowed */
bool libvirt_xml_attr_is(const xmlNode *n, const char *attr, const char *value);
/* An attribute, or the text in a child element, as a string of our own; *out NULL when it is not there. */
int libvirt_xml_attr(const xmlNode *n, const char *attr, char **out, struct error *e);
int libvirt_xml_text(const xmlNode *n, const char *child, char **out, struct error *e);
/* The file or device in the <source> of a disk or mirror; *out NULL when it has none. */
int libvirt_xml_path(const xmlNode *n, char **out, struct error *e);

/* XML of our own, from zeros: failures are kept, so that only the end is looked at. */
struct libvirt_xml {
	xmlDoc *doc;
	bool failed, unfit;
};
/* `parent` NULL: the root; `text` may be NULL. */
xmlNode *libvirt_xml_add(struct libvirt_xml *x, xmlNode *parent, const char *name, const char *text);
void libvirt_xml_set(struct libvirt_xml *x, xmlNode *n, const char *attr, const char *value);
/* The text of a tree that was changed, free(); NULL with an error. */
char *libvirt_xml_print(xmlDoc *doc, struct error *e);
/* A copy of another tree below `parent`. */
void libvirt_xml_graft(struct libvirt_xml *x, xmlNode *parent, xmlNode *tree);
/* A <disk>'s type, driver and source. */
void libvirt_xml_new_file(struct libvirt_xml *x, xmlNode *disk, const struct driver_new_file *file);
/* The text, free(); NULL with an error. Frees the tree. */
char *libvirt_xml_finish(struct libvirt_xml *x, struct error *e);

/* ---- definitions of domains (libvirt_definition.c) ---- */

/* Disks, host devices, the guest agent and the origin of a definition, into `out`. */
int libvirt_xml_domain(const char *text, struct driver_domain *out, struct error *e);
/* What its <metadata> says of where it comes from (libvirt_origin.c). */
int libvirt_xml_origin(const xmlNode *domain, struct driver_origin *out, struct error *e);
/* The <disk> of this target; NULL with ERR_NOT_FOUND. */
xmlNode *libvirt_xml_disk(xmlDoc *definition, const char *target, struct error *e);
/* ERR_USAGE: `xml` is of another domain. */
int libvirt_refuse_other_uuid(const char *uuid, const char *xml, struct error *e);
/* Whether some device has this alias. */
bool libvirt_xml_has_alias(xmlDoc *definition, const char *alias);

/* Another file for a <disk> (libvirt_define.c). */
int libvirt_xml_put_file(xmlNode *disk, const struct driver_new_file *file, struct error *e);

/* ---- definitions from elsewhere (libvirt_adapt.c, libvirt_strange.c) ---- */

/* What `how` says, in the tree of a definition. */
int libvirt_adapt_tree(xmlDoc *doc, const struct driver_import *how, struct error *e);
/* ERR_DENIED for what may reach the host; what a guest can do without goes, and is told. */
int libvirt_refuse_strange(xmlNode *root, const struct driver_import *how, struct error *e);
bool libvirt_import_brings(const struct driver_import *how, const xmlNode *disk);
void libvirt_import_tell(const struct driver_import *how, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The definition in a file with a guest's memory; the caller's (libvirt_saved_head.c). ERR_CHANGED: it is no whole one. */
int libvirt_saved_definition(const char *path, char **xml, struct error *e);
/* How a file with the memory of this guest, which runs, is to begin (libvirt_saved_head.c). */
int libvirt_new_head(struct libvirt *l, virDomainPtr dom, struct driver_head *out, struct error *e);

/* ---- operations, one or a few to a file ---- */

int libvirt_local(struct driver *d, struct error *e);
bool libvirt_uri_is_local(const char *uri);
/* Names of hosts, one of them maybe without its domain. */
bool libvirt_same_host(const char *ours, const char *theirs);
int libvirt_look(struct driver *d, const char *domain, struct driver_domain *out, struct error *e);
int libvirt_list(struct driver *d, char ***uuids, unsigned *count, struct error *e);

int libvirt_suspend(struct driver *d, const char *uuid, struct error *e);
int libvirt_resume(struct driver *d, const char *uuid, struct error *e);
int libvirt_save(struct driver *d, const char *uuid, struct error *e);
int libvirt_saved_path(struct driver *d, const char *uuid, char **path, struct error *e);
int libvirt_restore(struct driver *d, const char *uuid, const char *path, bool paused, struct error *e);
int libvirt_forget_save(struct driver *d, const char *uuid, bool active, struct error *e);
int libvirt_destroy(struct driver *d, const char *uuid, struct error *e);
int libvirt_start(struct driver *d, const char *uuid, bool paused, struct error *e);
int libvirt_device(struct driver *d, const char *uuid, const char *xml, bool attach, struct error *e);
int libvirt_freeze(struct driver *d, const char *uuid, unsigned seconds, struct error *e);
int libvirt_thaw(struct driver *d, const char *uuid, unsigned seconds, struct error *e);
int libvirt_set_time(struct driver *d, const char *uuid, struct error *e);
/* Whether this reason of a pause, while no job runs, is somebody's wish and not an error. */
bool libvirt_paused_by_user(int reason);
int libvirt_state(struct libvirt *l, virDomainPtr dom, int *state, int *reason, struct error *e);

/* Whether QEMU's name for a device, an id or a path, is that of this alias. */
bool libvirt_qdev_is(const char *qdev, const char *alias);
int libvirt_internal_create(struct driver *d, const char *uuid, const char *const *targets, unsigned count,
	const char *name, struct error *e);
int libvirt_internal_delete(struct driver *d, const char *uuid, const char *target, const char *name, const char *id,
	struct error *e);

/* A command of QEMU's monitor, which is taken; `name`: the part of it that a reader of -v wants to see. *out (NULL: unwanted) gets what
 * QEMU returned. `fd`: a file that QEMU gets with it; -1: none (libvirt_monitor.c). */
int libvirt_monitor(struct libvirt *l, virDomainPtr dom, json_t *command, const char *name, int fd, json_t **out,
	struct error *e);
/* What QEMU calls the state of its guest; free(); NULL with an error. */
char *libvirt_status(struct libvirt *l, virDomainPtr dom, struct error *e);
int libvirt_memory_still(struct driver *d, const char *uuid, bool *out, struct error *e);
int libvirt_memory_begin(struct driver *d, const char *uuid, int fd, bool still, struct driver_head *head,
	struct error *e);
int libvirt_memory_look(struct driver *d, const char *uuid, struct driver_memory *out, struct error *e);
int libvirt_memory_patience(struct driver *d, const char *uuid, unsigned ms, struct error *e);
int libvirt_memory_finish(struct driver *d, const char *uuid, struct error *e);
int libvirt_memory_end(struct driver *d, const char *uuid, struct error *e);

int libvirt_copy(struct driver *d, const char *uuid, const struct driver_new_file *to, unsigned flags, struct error *e);
int libvirt_commit(struct driver *d, const char *uuid, const char *target, const char *base, struct error *e);
int libvirt_job(struct driver *d, const char *uuid, const char *target, struct driver_job *out, struct error *e);
int libvirt_end_job(struct driver *d, const char *uuid, const char *target, enum driver_end how, struct error *e);

/* What QEMU says of the end of one job, by its event (libvirt_ends.c). */
struct libvirt_end {
	const char *job; /* how its name begins */
	bool seen, failed;
	char why[200];
	virConnectPtr conn;
	int callback; /* -1: none */
};
/* Before anything is opened. */
int libvirt_events_begin(struct error *e);
/* Events are taken for `ms`. */
int libvirt_events_wait(unsigned ms, struct error *e);
/* From here on an end is seen. `end` stays where it is until libvirt_end_forget. */
int libvirt_end_watch(struct libvirt *l, virDomainPtr dom, const char *job, struct libvirt_end *end, struct error *e);
/* Waits a moment for the word of a job that is gone; ERR_IO when it did not end well, or nothing was said. */
int libvirt_end_well(struct libvirt_end *end, const char *target, struct error *e);
void libvirt_end_forget(struct libvirt_end *end);

int libvirt_overlay(struct driver *d, const char *uuid, const struct driver_new_file *files, unsigned count,
	struct error *e);
int libvirt_set_source(struct driver *d, const char *uuid, const struct driver_new_file *file, struct error *e);
int libvirt_define(struct driver *d, const char *uuid, const char *xml, struct error *e);
int libvirt_adapt(struct driver *d, const char *xml, const struct driver_import *how, char **out, struct error *e);
int libvirt_adapt_memory(struct driver *d, const char *path, const struct driver_import *how, struct driver_head *out,
	struct error *e);
int libvirt_create(struct driver *d, const char *uuid, const char *xml, struct error *e);
int libvirt_records(struct driver *d, const char *uuid, struct driver_record **out, unsigned *count, struct error *e);
int libvirt_define_record(struct driver *d, const char *uuid, const char *name, int64_t created,
	const char *const *targets, unsigned count, struct error *e);
int libvirt_forget_record(struct driver *d, const char *uuid, const char *name, struct error *e);

#endif

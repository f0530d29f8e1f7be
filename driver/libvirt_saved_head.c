/* SPDX-License-Identifier: Apache-2.0
 *
 * How a file that holds a guest's memory begins: 16 bytes of magic and 19 numbers of 32 bits, the first two of which are a version and
 * the length of what follows them up to QEMU's own data. That is the definition of the guest at that time, ended by a zero, and, from the
 * place on that the fifth number tells, a cookie with more about it. QEMU's own data are a stream: they may begin anywhere, but for
 * those of formats that came later.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "driver/libvirt_internal.h"

enum { MAGIC_BYTES = 16, NUMBERS = 19, XML_AT = MAGIC_BYTES + 4 * NUMBERS, MAX_VERSION = 2, MAX_XML = 16 << 20 };
enum { VERSION, LENGTH, WAS_RUNNING, FORMAT, COOKIE_AT }; /* numbers */
enum { LAST_STREAM_FORMAT = 5 };                          /* zstd; those before it: none, gzip, bzip2, xz, lzop */
enum {
	SPARE = 64 << 10
}; /* zeros behind the definition, so that it can be edited in its place, as libvirt leaves them */
static const char magic[] = "LibvirtQemudSave";

struct head {
	uint32_t numbers[NUMBERS];
	bool swapped; /* it is of a host of another byte order */
	char *data;   /* LENGTH bytes, and a zero */
};

static void swap_all(struct head *h)
{
	for (unsigned i = 0; i < NUMBERS; i++)
		h->numbers[i] = __builtin_bswap32(h->numbers[i]);
}

static int decode(struct head *h, const uint8_t bytes[XML_AT], const char *path, struct error *e)
{
	memcpy(h->numbers, bytes + MAGIC_BYTES, sizeof h->numbers);
	h->swapped = h->numbers[VERSION] > MAX_VERSION;
	if (h->swapped)
		swap_all(h);
	if (memcmp(bytes, magic, MAGIC_BYTES) != 0 || !h->numbers[VERSION] || h->numbers[VERSION] > MAX_VERSION)
		return err_set(e, ERR_CHANGED, "%s is no whole saved state of libvirt", path);
	if (!h->numbers[LENGTH] || h->numbers[LENGTH] > MAX_XML || h->numbers[COOKIE_AT] > h->numbers[LENGTH])
		return err_set(e, ERR_LIMIT, "%s has a definition of %u bytes", path, h->numbers[LENGTH]);
	return 0;
}

static int read_head(int fd, const char *path, struct head *h, struct error *e)
{
	uint8_t bytes[XML_AT];

	if (pread(fd, bytes, sizeof bytes, 0) != sizeof bytes)
		return err_set(e, ERR_CHANGED, "%s is no whole saved state of libvirt", path);
	if (decode(h, bytes, path, e))
		return -1;
	h->data = mem_calloc(1, (size_t)h->numbers[LENGTH] + 1, "definition", e);
	if (!h->data)
		return -1;
	if (pread(fd, h->data, h->numbers[LENGTH], XML_AT) != (ssize_t)h->numbers[LENGTH])
		return err_set(e, ERR_CHANGED, "%s is too short", path);
	const uint32_t xml = h->numbers[COOKIE_AT] ? h->numbers[COOKIE_AT] : h->numbers[LENGTH];

	return strlen(h->data) < xml ? 0 : err_set(e, ERR_CORRUPT, "%s: its definition does not end", path);
}

static int open_head(const char *path, struct head *h, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	*h = (struct head){0};
	if (fd < 0)
		return err_sys(e, errno, "libvirt's saved state %s", path);
	int failed = read_head(fd, path, h, e);

	close(fd);
	return failed;
}

int libvirt_saved_definition(const char *path, char **xml, struct error *e)
{
	struct head h;
	int failed = open_head(path, &h, e);

	*xml = failed ? NULL : STEAL(h.data);
	free(h.data);
	return failed;
}

/* ---- a new one ---- */

/* All of it, from its numbers; `cookie_len` bytes of `cookie` behind the definition, then zeros up to its length. */
static int encode(struct head *h, const char *xml, const char *cookie, size_t cookie_len, size_t spare,
	struct driver_head *out, struct error *e)
{
	const size_t len = strlen(xml) + 1;

	if (len + cookie_len + spare > MAX_XML)
		return err_set(e, ERR_LIMIT, "a definition of %zu bytes", len);
	out->len = XML_AT + len + cookie_len + spare;
	out->bytes = mem_calloc(1, out->len, "definition", e);
	if (!out->bytes)
		return -1;
	h->numbers[LENGTH] = (uint32_t)(len + cookie_len + spare);
	h->numbers[COOKIE_AT] = cookie_len ? (uint32_t)len : 0;
	if (h->swapped)
		swap_all(h);
	memcpy(out->bytes, magic, MAGIC_BYTES);
	memcpy(out->bytes + MAGIC_BYTES, h->numbers, sizeof h->numbers);
	memcpy(out->bytes + XML_AT, xml, len);
	if (cookie_len)
		memcpy(out->bytes + XML_AT + len, cookie, cookie_len);
	return 0;
}

/* The processor as the guest has it: a definition for another host has what it was asked to be. */
static char *cookie_of(const char *live, struct error *e)
{
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(live, e);
	struct libvirt_xml x = {0};
	xmlNode *cpu = doc ? libvirt_xml_child(xmlDocGetRootElement(doc), "cpu") : NULL;

	if (!doc)
		return NULL;
	xmlNode *root = libvirt_xml_add(&x, NULL, "cookie", NULL);

	if (cpu)
		libvirt_xml_graft(&x, root, cpu);
	return libvirt_xml_finish(&x, e);
}

int libvirt_new_head(struct libvirt *l, virDomainPtr dom, struct driver_head *out, struct error *e)
{
	struct head h = {.numbers = {[VERSION] = MAX_VERSION, [WAS_RUNNING] = 1}};
	AUTO_FREE char *xml = libvirt_definition(l, dom, VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE, e);
	AUTO_FREE char *live = xml ? libvirt_definition(l, dom, VIR_DOMAIN_XML_SECURE, e) : NULL;
	AUTO_FREE char *cookie = live ? cookie_of(live, e) : NULL;

	*out = (struct driver_head){0};
	return cookie ? encode(&h, xml, cookie, strlen(cookie) + 1, SPARE, out, e) : -1;
}

/* ---- another definition in it ---- */

/* The cookie stays what it is: it tells of processor and devices. */
static int with_definition(struct head *h, const char *xml, struct driver_head *out, struct error *e)
{
	const uint32_t cookie_at = h->numbers[COOKIE_AT], cookie = cookie_at ? h->numbers[LENGTH] - cookie_at : 0;

	out->from = XML_AT + (uint64_t)h->numbers[LENGTH];
	return encode(h, xml, h->data + cookie_at, cookie, 0, out, e);
}

/* libvirt reads it twice when the guest goes on, and wants the same generation both times; then it makes a new one. */
static int settle_genid(xmlDoc *doc, const struct driver_import *how, struct error *e)
{
	xmlNode *genid = libvirt_xml_child(xmlDocGetRootElement(doc), "genid");

	if (genid && how->renamed)
		xmlNodeSetContent(genid, (const xmlChar *)how->uuid);
	return genid && how->renamed && !genid->children ? err_set(e, ERR_NO_MEMORY, "no memory for a definition") : 0;
}

static char *adapted(const struct head *h, const struct driver_import *how, struct error *e)
{
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(h->data, e);

	return !doc || libvirt_adapt_tree(doc, how, e) || settle_genid(doc, how, e) ? NULL : libvirt_xml_print(doc, e);
}

int libvirt_adapt_memory(struct driver *d, const char *path, const struct driver_import *how, struct driver_head *out,
	struct error *e)
{
	struct head h;

	(void)d;
	*out = (struct driver_head){0};
	int failed = open_head(path, &h, e);

	if (!failed && h.numbers[FORMAT] > LAST_STREAM_FORMAT)
		failed =
			err_set(e, ERR_UNSUPPORTED, "%s: its format, number %u, is not known", path, h.numbers[FORMAT]);
	AUTO_FREE char *xml = failed ? NULL : adapted(&h, how, e);

	if (!failed)
		failed = xml ? with_definition(&h, xml, out, e) : err_prefix(e, "%s", path);
	free(h.data);
	return failed;
}

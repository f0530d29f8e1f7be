/* SPDX-License-Identifier: Apache-2.0
 *
 * XML that libvirt gives us, and XML that we give libvirt. Reading: libvirt's text has parts that somebody else wrote: no network,
 * no entities, no document types. Writing: made as a tree and printed, so that no name or path can be more than a name or path.
 */
#include <libxml/parser.h>
#include <sys/stat.h>

#include "driver/libvirt_internal.h"

xmlDoc *libvirt_xml_parse(const char *text, struct error *e)
{
	size_t len = strlen(text);
	if (len > INT32_MAX) {
		err_fill(e, ERR_LIMIT, "a definition of %zu bytes is too long", len);
		return NULL;
	}
	const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA;
	xmlDoc *doc = xmlReadMemory(text, (int)len, "definition.xml", NULL, options);
	if (!doc || !xmlDocGetRootElement(doc)) {
		err_fill(e, ERR_IO, "libvirt's XML cannot be read");
		xmlFreeDoc(doc);
		return NULL;
	}
	if (doc->intSubset) {
		err_fill(e, ERR_UNSUPPORTED, "libvirt's XML has a document type");
		xmlFreeDoc(doc);
		return NULL;
	}
	return doc;
}

bool libvirt_xml_is(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && (!name || !strcmp((const char *)n->name, name));
}

xmlNode *libvirt_xml_child(const xmlNode *n, const char *name)
{
	xmlNode *c = n ? n->children : NULL;
	while (c && !libvirt_xml_is(c, name))
		c = c->next;
	return c;
}

xmlNode *libvirt_xml_next(const xmlNode *n)
{
	xmlNode *s = n->next;
	while (s && !libvirt_xml_is(s, (const char *)n->name))
		s = s->next;
	return s;
}

void libvirt_xml_drop(xmlNode *n)
{
	if (!n)
		return;
	xmlUnlinkNode(n);
	xmlFreeNode(n);
}

bool libvirt_xml_attr_is(const xmlNode *n, const char *attr, const char *value)
{
	AUTO_TEXT xmlChar *v = n ? xmlGetNoNsProp(n, (const xmlChar *)attr) : NULL;
	return v && !strcmp((const char *)v, value);
}

int libvirt_xml_attr(const xmlNode *n, const char *attr, char **out, struct error *e)
{
	AUTO_TEXT xmlChar *v = n ? xmlGetNoNsProp(n, (const xmlChar *)attr) : NULL;
	*out = v ? mem_strdup((const char *)v, e) : NULL;
	return v && !*out ? -1 : 0;
}

int libvirt_xml_path(const xmlNode *n, char **out, struct error *e)
{
	const xmlNode *source = libvirt_xml_child(n, "source");
	if (libvirt_xml_attr(source, "file", out, e))
		return -1;
	return *out ? 0 : libvirt_xml_attr(source, "dev", out, e);
}

int libvirt_xml_text(const xmlNode *n, const char *child, char **out, struct error *e)
{
	const xmlNode *c = libvirt_xml_child(n, child);
	AUTO_TEXT xmlChar *v = c ? xmlNodeGetContent(c) : NULL;
	*out = v ? mem_strdup((const char *)v, e) : NULL;
	return v && !*out ? -1 : 0;
}

char *libvirt_xml_print(xmlDoc *doc, struct error *e)
{
	AUTO_TEXT xmlChar *text = NULL;
	int len = 0;
	xmlDocDumpMemoryEnc(doc, &text, &len, "UTF-8");
	if (text)
		return mem_strdup((const char *)text, e);
	err_fill(e, ERR_NO_MEMORY, "no memory for libvirt's XML");
	return NULL;
}

/* Control characters and what is no UTF-8 have no place in XML. */
static bool fits(const char *text)
{
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' && *c != '\n' && *c != '\t')
			return false;
	return xmlCheckUTF8((const unsigned char *)text);
}

xmlNode *libvirt_xml_add(struct libvirt_xml *x, xmlNode *parent, const char *name, const char *text)
{
	x->unfit |= text && !fits(text);
	if (!parent && !x->doc)
		x->doc = xmlNewDoc((const xmlChar *)"1.0");
	xmlNode *n = NULL;
	if (x->doc && !x->unfit) {
		n = parent ? xmlNewTextChild(parent, NULL, (const xmlChar *)name, (const xmlChar *)text)
			   : xmlNewDocNode(x->doc, NULL, (const xmlChar *)name, NULL);
		if (n && !parent)
			xmlDocSetRootElement(x->doc, n);
	}
	x->failed |= !n;
	return n;
}

void libvirt_xml_set(struct libvirt_xml *x, xmlNode *n, const char *attr, const char *value)
{
	x->unfit |= !fits(value);
	x->failed |= x->unfit || !n || !xmlNewProp(n, (const xmlChar *)attr, (const xmlChar *)value);
}

void libvirt_xml_graft(struct libvirt_xml *x, xmlNode *parent, xmlNode *tree)
{
	xmlNode *copy = parent ? xmlDocCopyNode(tree, x->doc, 1) : NULL;
	x->failed |= !copy || !xmlAddChild(parent, copy);
}

void libvirt_xml_new_file(struct libvirt_xml *x, xmlNode *disk, const struct driver_new_file *file)
{
	struct stat st;
	const bool device = !stat(file->path, &st) && S_ISBLK(st.st_mode);

	libvirt_xml_set(x, disk, "type", device ? "block" : "file");
	libvirt_xml_set(x, libvirt_xml_add(x, disk, "driver", NULL), "type",
		file->format == DRIVER_RAW ? "raw" : "qcow2");
	libvirt_xml_set(x, libvirt_xml_add(x, disk, "source", NULL), device ? "dev" : "file", file->path);
}

char *libvirt_xml_finish(struct libvirt_xml *x, struct error *e)
{
	char *text = NULL;
	if (x->unfit)
		err_fill(e, ERR_UNSUPPORTED, "a name or path has characters that libvirt cannot be told");
	else if (x->failed)
		err_fill(e, ERR_NO_MEMORY, "no memory for libvirt's XML");
	else
		text = libvirt_xml_print(x->doc, e);
	xmlFreeDoc(STEAL(x->doc));
	return text;
}

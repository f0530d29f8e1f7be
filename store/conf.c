/* SPDX-License-Identifier: Apache-2.0
 *
 * YAML by libyaml: a file as a tree of nodes, and scalars looked up by their keys. The file is the user's own; its size and the
 * depth of its merge keys are limited all the same.
 */
#include <errno.h>
#include <yaml.h>

#include "store/internal.h"

enum { FILE_MAX = 1 << 20, MERGE_MAX = 16 };

struct conf {
	yaml_document_t document;
	bool loaded;
};

static int load(struct conf *y, FILE *f, const char *path, struct error *e)
{
	AUTO_FREE unsigned char *text = mem_calloc(1, FILE_MAX + 1, "a YAML file", e);
	yaml_parser_t parser;

	if (!text)
		return -1;
	const size_t len = fread(text, 1, FILE_MAX + 1, f);
	if (ferror(f))
		return err_sys(e, errno, "%s", path);
	if (len > FILE_MAX)
		return err_set(e, ERR_LIMIT, "%s: longer than %d bytes", path, FILE_MAX);
	if (!yaml_parser_initialize(&parser))
		return err_set(e, ERR_NO_MEMORY, "out of memory for %s", path);
	yaml_parser_set_input_string(&parser, text, len);
	y->loaded = yaml_parser_load(&parser, &y->document);
	/* what libyaml quotes of the text could be a secret: only the place is told */
	if (!y->loaded)
		err_fill(e, ERR_USAGE, "%s: line %zu: %s", path, parser.problem_mark.line + 1,
			parser.problem ? parser.problem : "no YAML");
	yaml_parser_delete(&parser);
	explicit_bzero(text, len);
	return y->loaded ? 0 : -1;
}

int conf_load(struct conf **out, const char *path, struct error *e)
{
	FILE *f = fopen(path, "re");
	if (!f)
		return err_sys(e, errno, "%s", path);
	struct conf *y = mem_calloc(1, sizeof *y, "a YAML file", e);
	int r = y ? load(y, f, path, e) : -1;
	fclose(f);
	if (r < 0)
		conf_free(y);
	else
		*out = y;
	return r;
}

void conf_free(struct conf *y)
{
	if (y && y->loaded)
		yaml_document_delete(&y->document);
	free(y);
}

static yaml_node_t *node_at(const struct conf *y, int index)
{
	return yaml_document_get_node((yaml_document_t *)&y->document, index);
}

static const char *scalar(const yaml_node_t *n)
{
	return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static yaml_node_t *own_member(const struct conf *y, const yaml_node_t *n, const char *key)
{
	if (!n || n->type != YAML_MAPPING_NODE)
		return NULL;
	for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const char *name = scalar(node_at(y, p->key));
		if (name && strcmp(name, key) == 0)
			return node_at(y, p->value);
	}
	return NULL;
}

/* Its own, else that of what `<<` merges, one mapping or a list of them; an anchor may be merged into itself. */
static yaml_node_t *member(const struct conf *y, const yaml_node_t *n, const char *key, unsigned depth)
{
	yaml_node_t *found = own_member(y, n, key);
	if (found || depth == MERGE_MAX)
		return found;
	yaml_node_t *merged = own_member(y, n, "<<");
	if (!merged || merged->type == YAML_MAPPING_NODE)
		return merged ? member(y, merged, key, depth + 1) : NULL;
	if (merged->type == YAML_SEQUENCE_NODE)
		for (yaml_node_item_t *i = merged->data.sequence.items.start;
			!found && i < merged->data.sequence.items.top; i++)
			found = own_member(y, node_at(y, *i), key);
	return found;
}

static yaml_node_t *find(const struct conf *y, const char *const *keys)
{
	yaml_node_t *n = yaml_document_get_root_node((yaml_document_t *)&y->document);
	for (; n && *keys; keys++)
		n = member(y, n, *keys, 0);
	return n;
}

const char *conf_get(const struct conf *y, const char *const *keys)
{
	return scalar(find(y, keys));
}

bool conf_has(const struct conf *y, const char *const *keys)
{
	return find(y, keys) != NULL;
}

const char *conf_only_key(const struct conf *y, const char *const *keys)
{
	const yaml_node_t *n = find(y, keys);
	if (!n || n->type != YAML_MAPPING_NODE || n->data.mapping.pairs.top - n->data.mapping.pairs.start != 1)
		return NULL;
	return scalar(node_at(y, n->data.mapping.pairs.start->key));
}

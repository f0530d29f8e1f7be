/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace as a line of the journal, and its first line.
 */
#ifndef QSNAP_SNAPSHOT_JOURNAL_LINE_H
#define QSNAP_SNAPSHOT_JOURNAL_LINE_H

#include "base/json_read.h"
#include "snapshot/internal.h"

/* NULL: no memory, or a name that is not UTF-8. */
json_t *journal_line_first(const char *domain, enum driver_state was);
json_t *journal_line_put(const struct trace *t);
json_t *journal_line_know(const struct trace *t);
int journal_line_read_first(enum driver_state *was, const json_t *line, struct error *e);
/* `id` is the value that names the trace; `put`: the line has a kind, too. Strings of *t are the line's; t->images is the caller's. */
int journal_line_read(struct trace *t, const json_t *line, const json_t *id, bool put, struct error *e);
/* What journal_know tells of it. */
int trace_learn(struct trace *t, const struct trace *known, struct error *e);

#endif

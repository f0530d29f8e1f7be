/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal of a domain (snapshot/journal.c): STATE/UUID.journal, one JSON object a line. A part of snapshot/internal.h.
 */
#ifndef QSNAP_SNAPSHOT_JOURNAL_H
#define QSNAP_SNAPSHOT_JOURNAL_H

#include "snapshot/internal.h"

struct journal;
/* Takes STATE/UUID.lock, waiting up to `wait_seconds`, then ERR_BUSY; reads what an earlier run left. A last line that is not
 * whole was never acted on and is ignored; anything else that cannot be read is ERR_CORRUPT. */
int journal_open(struct journal **out, const char *state_dir, const char *uuid, unsigned wait_seconds,
	const atomic_bool *cancel, struct error *e);
/* Before the first put: the domain's state before the first deed. What is left of an earlier run keeps its own. */
int journal_begin(struct journal *j, const char *domain, enum driver_state was, struct error *e);
enum driver_state journal_was(const struct journal *j);
/* Durable on return. The strings are copied; *id names the trace. */
int journal_put(struct journal *j, const struct trace *t, unsigned *id, struct error *e);
/* What is put until the end is there from then on, in one line: after a crash all of it or nothing. Its deeds come behind the end;
 * `forget`: there will be none. */
int journal_together(struct journal *j, struct error *e);
int journal_together_end(struct journal *j, bool forget, struct error *e);
/* What was learnt of trace `id` since: dev, ino, snapshot, date and begun of `t` are its own from now on. Durable on return. */
int journal_know(struct journal *j, unsigned id, const struct trace *t, struct error *e);
/* Durable on return. When no trace is left, the file is gone. */
int journal_drop(struct journal *j, unsigned id, struct error *e);
/* The same of several: after a crash all of them or none. */
int journal_drop_all(struct journal *j, const unsigned *ids, unsigned count, struct error *e);
/* The traces that are there, oldest first; valid until the next put or drop. */
const struct trace *journal_traces(const struct journal *j, unsigned *count);
void journal_close(struct journal *j); /* NULL is allowed; keeps the file when traces are left */

#endif

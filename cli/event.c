/* SPDX-License-Identifier: Apache-2.0
 *
 * Events: lines on standard error that programs read. Each is made in memory first, so that what other processes write there
 * never stands inside of one.
 */
#include "cli/cli.h"

void cli_event_begin(struct cli_event *v, const char *event)
{
	*v = (struct cli_event){0};
	v->stream = open_memstream(&v->text, &v->len);
	json_init(&v->json, v->stream ? v->stream : stderr, true);
	json_object_begin(&v->json, NULL);
	json_string(&v->json, "event", event);
}

void cli_event_end(struct cli_event *v)
{
	json_object_end(&v->json);
	fputc('\n', v->json.out);
	if (!v->stream)
		return;
	if (fclose(v->stream) == 0)
		fwrite(v->text, 1, v->len, stderr);
	free(v->text);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * An image opened to be changed: its layer with the lock of a writer, what lies below it as one io to read, the editor and the io
 * over it. A raw image is its file.
 */
#include "cli/cli.h"

static int open_editor(struct cli_edited *d, struct error *e)
{
	if (edited_open(&d->top, d->image, 0, NULL, e) || edit_io(&d->io, d->top.ed, e))
		return -1;
	d->owns_io = true;
	return 0;
}

static int open_read_only(struct cli_edited *d, struct error *e)
{
	d->owns_io = true;
	return chain_io(&d->io, d->image, e);
}

static int open_layers(struct cli_edited *d, struct error *e)
{
	const struct layer *top = &d->image->layers[0];

	if (!d->write)
		return open_read_only(d, e);
	if (top->q)
		return open_editor(d, e);
	if (top->probed)
		return err_set(e, ERR_USAGE,
			"%s looks raw, but a guest may have made it look so: say -f raw to change it", top->path);
	d->io = top->file;
	return 0;
}

int cli_edited_open(const struct cli *c, const char *name, const struct cli_source *source, bool write,
	struct cli_edited *d)
{
	struct chain_opts opts;
	struct error e;

	*d = (struct cli_edited){.write = write};
	if ((write ? cli_write_opts(c, source, name, &opts) : cli_source_opts(c, source, name, NULL, &opts)) < 0)
		return -1;
	if (cli_open(c, name, &opts, &d->image) < 0)
		return -1;
	if (open_layers(d, &e) == 0)
		return 0;
	cli_error(c, "Could not open '%s': %s", name, e.msg);
	cli_edited_close(c, d);
	return -1;
}

int cli_edited_close(const struct cli *c, struct cli_edited *d)
{
	struct error e;
	int failed;

	if (d->owns_io)
		io_close(d->io);
	failed = edited_close(&d->top, &e);
	if (failed)
		cli_fail(c, &e);
	chain_close(d->image);
	*d = (struct cli_edited){0};
	return failed;
}

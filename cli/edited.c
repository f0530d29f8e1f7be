/* SPDX-License-Identifier: Apache-2.0
 *
 * An image opened to be changed: its layer with the lock of a writer, what lies below it as one io to read, the editor and the io
 * over it. A raw image is its file.
 */
#include "cli/cli.h"

static int open_below(struct cli_edited *d, struct error *e)
{
	if (d->image->count == 1)
		return 0;
	d->below = (struct chain){.layers = d->image->layers + 1, .count = d->image->count - 1};
	d->below.size = d->below.layers[0].size;
	return chain_io(&d->backing, &d->below, e);
}

static int open_editor(struct cli_edited *d, struct error *e)
{
	struct edit_opts opts;

	if (open_below(d, e))
		return -1;
	opts = (struct edit_opts){.backing = d->backing};
	if (edit_open(&d->ed, &d->image->layers[0], &opts, e) || edit_io(&d->io, d->ed, e))
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
	struct cli_access access = {.path = name, .write = write};
	struct chain_opts opts;
	struct error e;

	*d = (struct cli_edited){.write = write};
	if (cli_source_opts(c, source, name, NULL, &opts) < 0 || cli_confine(c, &access, 1) < 0)
		return -1;
	if (write) {
		opts.write = true;
		opts.lock = opts.format == IMAGE_RAW ? IO_LOCK_WRITE_RAW : IO_LOCK_WRITE;
	}
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
	failed = edit_close(d->ed, &e);
	if (failed)
		cli_fail(c, &e);
	io_close(d->backing);
	chain_close(d->image);
	*d = (struct cli_edited){0};
	return failed;
}

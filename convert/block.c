/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs that read straight into the target: where the file system gives whole blocks as memory (io_block_map), nothing is copied
 * a second time, and no thread waits for the one that writes. A block in which zeros are found is taken back: they are holes.
 */
#include "convert/internal.h"

static bool is_all_data(const struct job *job)
{
	for (unsigned i = 0; i < job->extent_count; i++)
		if (job->extents[i].kind == EXTENT_ZERO || job->extents[i].kind == EXTENT_ABSENT)
			return false;
	return true;
}

void block_begin(struct io *target, struct job *job)
{
	job->in_block = job->len == IO_BLOCK && job->guest % IO_BLOCK == 0 && is_all_data(job) &&
			io_block_map(target, &job->block, job->guest);
	if (job->in_block)
		job->buf = job->block.bytes;
}

/* The pieces' bytes go where the planner's thread will write them from. */
static void move_pieces(struct job *job, uint8_t *to)
{
	for (unsigned i = 0; i < job->piece_count; i++)
		if (job->pieces[i].kind == PIECE_DATA)
			job->pieces[i].bytes = memcpy(to + (job->pieces[i].guest - job->guest), job->pieces[i].bytes,
				job->pieces[i].len);
	job->buf = to;
}

int block_end(struct io *target, struct job *job, bool read, struct error *e)
{
	if (!job->in_block)
		return 0;
	job->placed = read && job->piece_count == 1 && job->pieces[0].kind == PIECE_DATA;
	if (read && !job->placed)
		move_pieces(job, job->own_buf);
	io_block_unmap(&job->block);
	if (!read || job->placed)
		return 0;
	io_block_judge(target, false);
	return io_zero(target, job->guest, job->len, IO_ZERO_UNMAP, e);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of a new image: qemu-img's defaults, and what they demand of each other and of the limits of FORMAT.md §14.
 */
#include "qcow2/writer.h"

void image_create_defaults(struct image_create *c, enum image_format format)
{
	*c = (struct image_create){
		.format = format,
		.version = 3,
		.cluster_size = 65536,
		.refcount_bits = 16,
		.prealloc = PREALLOC_OFF,
		.compression = CODEC_DEFLATE,
	};
}

static bool power_of_two(uint32_t v)
{
	return v && !(v & (v - 1));
}

static int check_version2(const struct image_create *c, struct error *e)
{
	const char *what = NULL;
	if (c->version != 2)
		return 0;
	if (c->lazy_refcounts)
		what = "Lazy refcounts are only supported";
	else if (c->refcount_bits != 16)
		what = "Refcount widths other than 16 bits are only supported";
	else if (c->extended_l2)
		what = "Extended L2 entries are only supported";
	else if (c->data_file)
		what = "External data files are only supported";
	else if (c->compression != CODEC_DEFLATE)
		what = "Compression types other than zlib are only supported";
	return what ? err_set(e, ERR_USAGE, "%s with compatibility level 1.1 and above (use compat=1.1 or greater)",
			      what)
		    : 0;
}

static int check_files(const struct image_create *c, struct error *e)
{
	if (c->data_file_raw && !c->data_file)
		return err_set(e, ERR_USAGE, "data_file_raw requires data_file");
	if (c->data_file_raw && c->backing_name)
		return err_set(e, ERR_USAGE, "Backing file and data_file_raw cannot be used at the same time");
	if (c->backing_name && c->prealloc != PREALLOC_OFF && !c->extended_l2)
		return err_set(e, ERR_USAGE,
			"Backing file and preallocation can only be used at the same time if extended_l2 is on");
	if (c->nameless_backing && (c->backing_name || c->data_file || c->prealloc != PREALLOC_OFF))
		return err_set(e, ERR_USAGE,
			"An image of changes without a backing file's name takes no backing file, data file or "
			"preallocation");
	if (c->backing_name && strlen(c->backing_name) > QCOW2_MAX_BACKING_NAME)
		return err_set(e, ERR_USAGE, "Backing file name is longer than %d bytes", QCOW2_MAX_BACKING_NAME);
	return 0;
}

/* Before the first cluster is compressed: that may be long after the guest of a snapshot was stopped for it. */
static int check_level(const struct image_create *c, struct error *e)
{
	bool zstd = c->compression == CODEC_ZSTD;
	int max = zstd ? CODEC_ZSTD_MAX_LEVEL : CODEC_DEFLATE_MAX_LEVEL;

	if (c->level.level >= CODEC_FASTEST && c->level.level <= max)
		return 0;
	return err_set(e, ERR_USAGE, "%s has no compression level %d (fastest, 1..%d)", zstd ? "zstd" : "deflate",
		c->level.level, max);
}

static int check_size(const struct image_create *c, struct error *e)
{
	struct geometry g;
	geometry_init(&g, (uint32_t)__builtin_ctz(c->cluster_size), (uint32_t)__builtin_ctz(c->refcount_bits),
		c->extended_l2);
	uint64_t blocks = (c->size >> g.cluster_bits) >> g.refblock_bits;
	if (geometry_l1_entries(&g, c->size) > QCOW2_MAX_L1_BYTES / 8 ||
		(c->prealloc != PREALLOC_OFF && !c->data_file && blocks >= QCOW2_MAX_REFTABLE_BYTES / 8))
		return err_set(e, ERR_LIMIT,
			"The image size is too large for file format 'qcow2' (try using a larger cluster size)");
	return 0;
}

static int check_raw(const struct image_create *c, struct error *e)
{
	if (c->backing_name)
		return err_set(e, ERR_USAGE, "Backing file not supported for file format 'raw'");
	if (c->prealloc == PREALLOC_METADATA)
		return err_set(e, ERR_USAGE, "Unsupported preallocation mode 'metadata'");
	return 0;
}

int image_create_check(const struct image_create *c, struct error *e)
{
	if (c->size > INT64_MAX)
		return err_set(e, ERR_LIMIT, "Image size must be less than 8 EiB");
	if (c->format == IMAGE_RAW)
		return check_raw(c, e);
	if (c->version != 2 && c->version != 3)
		return err_set(e, ERR_USAGE, "qcow2 version %u does not exist (use compat=0.10 or compat=1.1)",
			c->version);
	if (!power_of_two(c->cluster_size) || c->cluster_size >> QCOW2_MIN_CLUSTER_BITS == 0 ||
		c->cluster_size > 1u << QCOW2_MAX_CLUSTER_BITS)
		return err_set(e, ERR_USAGE, "Cluster size must be a power of two between 512 and 2048k");
	if (!power_of_two(c->refcount_bits) || c->refcount_bits > 64)
		return err_set(e, ERR_USAGE, "Refcount width must be a power of two and may not exceed 64 bits");
	if (c->extended_l2 && c->cluster_size < 16384)
		return err_set(e, ERR_USAGE,
			"Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
	if (check_version2(c, e) < 0 || check_files(c, e) < 0 || check_level(c, e) < 0)
		return -1;
	return check_size(c, e);
}

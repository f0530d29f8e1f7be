/* SPDX-License-Identifier: Apache-2.0
 *
 * Micro benchmark of qcow2/codec.h: how fast and how small each level is, one core, beside zlib and zstd called as qemu-img
 * calls them. Clusters of the given file that are all zeros are left out, those that do not shrink count in full. All rows
 * take turns on the same few clusters, so that a noisy machine disturbs all alike; time is the thread's CPU time.
 *
 * usage: codec FILE [CLUSTER_SIZE [EVERY]]    only each EVERY-th group of 16 clusters
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "qcow2/codec.h"

enum { GROUP = 16, MAX_ROWS = 64 };

struct row {
	char name[40];
	enum codec_id id;
	struct codec *codec; /* NULL: the peer */
	uint64_t bytes, stored;
	double packing, unpacking; /* seconds */
};

static struct row rows[MAX_ROWS];
static unsigned row_count;
static size_t cluster_size = 65536;

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "codec: %s: %s\n", what, why);
	exit(1);
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct row *add_row(enum codec_id id, const char *name)
{
	struct row *r = &rows[row_count++];

	snprintf(r->name, sizeof r->name, "%s", name);
	r->id = id;
	return r;
}

static void add_level(enum codec_id id, int level, bool small_window)
{
	static const char *const format[] = {"deflate", "zstd"};
	char name[40], text[16];
	struct error e;

	snprintf(text, sizeof text, "%d", level);
	snprintf(name, sizeof name, "%s %s%s", format[id],
		level == CODEC_FASTEST   ? "fastest"
		: level == CODEC_DEFAULT ? "default"
					 : text,
		small_window ? " window=4k" : "");
	struct row *r = add_row(id, name);
	if (codec_new(&r->codec, id, (uint32_t)cluster_size, &e) < 0 ||
		codec_set_level(r->codec, (struct codec_level){level, small_window}, &e) < 0)
		fail(name, e.msg);
}

static size_t peer_deflate(const uint8_t *src, uint8_t *dst)
{
	z_stream z = {.next_in = (Bytef *)src, .avail_in = (uInt)cluster_size, .next_out = dst};

	z.avail_out = (uInt)cluster_size - 1;
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		fail("zlib", "no memory");
	int rc = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return rc == Z_STREAM_END ? z.total_out : 0;
}

static bool peer_inflate(const uint8_t *src, size_t len, uint8_t *dst)
{
	z_stream z = {.next_in = (Bytef *)src, .avail_in = (uInt)len, .next_out = dst, .avail_out = (uInt)cluster_size};

	if (inflateInit2(&z, -12) != Z_OK)
		fail("zlib", "no memory");
	inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return z.avail_out == 0;
}

static size_t peer_zstd(const uint8_t *src, uint8_t *dst)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_inBuffer in = {src, cluster_size, 0};
	ZSTD_outBuffer out = {dst, cluster_size - 1, 0};
	size_t rc = ZSTD_compressStream2(c, &out, &in, ZSTD_e_end);

	ZSTD_freeCCtx(c);
	return rc == 0 ? out.pos : 0;
}

static bool peer_unzstd(const uint8_t *src, size_t len, uint8_t *dst)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = {src, len, 0};
	ZSTD_outBuffer out = {dst, cluster_size, 0};
	size_t rc = ZSTD_decompressStream(d, &out, &in);

	ZSTD_freeDCtx(d);
	return rc == 0;
}

static size_t pack(const struct row *r, const uint8_t *src, uint8_t *dst)
{
	if (r->codec)
		return codec_compress(r->codec, src, cluster_size, dst, cluster_size - 1);
	return r->id == CODEC_ZSTD ? peer_zstd(src, dst) : peer_deflate(src, dst);
}

static bool unpack(const struct row *r, const uint8_t *src, size_t len, uint8_t *dst)
{
	struct error e;

	if (r->codec)
		return codec_decompress(r->codec, src, len, dst, cluster_size, NULL, &e) == 0;
	return r->id == CODEC_ZSTD ? peer_unzstd(src, len, dst) : peer_inflate(src, len, dst);
}

static void run_group(struct row *r, const uint8_t *const *cluster, unsigned n, uint8_t *packed, uint8_t *back)
{
	size_t len[GROUP];
	double start = cpu_seconds();

	for (unsigned i = 0; i < n; i++)
		len[i] = pack(r, cluster[i], packed + i * cluster_size);
	r->packing += cpu_seconds() - start;
	for (unsigned i = 0; i < n; i++) {
		r->bytes += len[i] ? len[i] : cluster_size;
		r->stored += len[i] == 0;
	}
	start = cpu_seconds();
	for (unsigned i = 0; i < n; i++)
		if (len[i] && !unpack(r, packed + i * cluster_size, len[i], back + i * cluster_size))
			fail(r->name, "its own output is not read back");
	r->unpacking += cpu_seconds() - start;
	for (unsigned i = 0; i < n; i++)
		if (len[i] && memcmp(cluster[i], back + i * cluster_size, cluster_size) != 0)
			fail(r->name, "its own output is read back as something else");
}

static void print_rows(uint64_t clusters)
{
	double mb = (double)clusters * (double)cluster_size / 1e6;
	const struct row *peer = NULL;

	printf("%-26s %8s %8s %10s %8s %8s %10s\n", "", "size", "vs peer", "pack MB/s", "vs peer", "stored",
		"unpack MB/s");
	for (struct row *r = rows; r < rows + row_count; r++) {
		if (!r->codec)
			peer = r;
		printf("%-26s %8.4f %8.4f %10.1f %8.2f %8lu %10.1f\n", r->name, (double)r->bytes / 1e6 / mb,
			(double)r->bytes / (double)peer->bytes, mb / r->packing, peer->packing / r->packing,
			(unsigned long)r->stored, mb / r->unpacking);
		codec_free(r->codec);
	}
	printf("%lu clusters of %zu bytes\n", (unsigned long)clusters, cluster_size);
}

int main(int argc, char **argv)
{
	static const int deflate_levels[] = {CODEC_FASTEST, CODEC_DEFAULT, 2, 3, 4, 6};
	static const int zstd_levels[] = {CODEC_FASTEST, CODEC_DEFAULT, 1, 2, 3, 4, 6};
	size_t every = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
	const uint8_t *cluster[GROUP];
	uint64_t seen = 0, done = 0;
	struct stat st;

	if (argc < 2 || argc > 4)
		fail("usage", "codec FILE [CLUSTER_SIZE [EVERY]]");
	if (argc > 2)
		cluster_size = strtoul(argv[2], NULL, 10);
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || cluster_size < 512 || cluster_size > 2 << 20 || every < 1)
		fail(argv[1], "cannot be used");
	uint8_t *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	uint8_t *packed = malloc(GROUP * cluster_size), *back = malloc(GROUP * cluster_size);
	if (data == MAP_FAILED || !packed || !back)
		fail(argv[1], "no memory");

	add_row(CODEC_DEFLATE, "zlib as qemu-img");
	for (size_t i = 0; i < sizeof deflate_levels / sizeof *deflate_levels; i++) {
		add_level(CODEC_DEFLATE, deflate_levels[i], false);
		if (deflate_levels[i] <= 2)
			add_level(CODEC_DEFLATE, deflate_levels[i], true);
	}
	add_row(CODEC_ZSTD, "zstd as qemu-img");
	for (size_t i = 0; i < sizeof zstd_levels / sizeof *zstd_levels; i++)
		add_level(CODEC_ZSTD, zstd_levels[i], false);
	unsigned n = 0;
	for (size_t at = 0; at + cluster_size <= (size_t)st.st_size; at += cluster_size) {
		if (mem_is_zero(data + at, cluster_size) || seen++ / GROUP % every)
			continue;
		cluster[n++] = data + at;
		if (n < GROUP)
			continue;
		for (unsigned i = 0; i < row_count; i++)
			run_group(&rows[i], cluster, n, packed, back);
		done += n;
		n = 0;
	}
	if (done)
		print_rows(done);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The writer of the small guest that tests/vm boots: writer RATE BEAT DEVICE FOLDER [DEVICE FOLDER...]
 * Record after record, it puts number N durably to each disk in turn: first into the ring of sectors that is all of DEVICE, then
 * into a file of FOLDER (an ext4 file system on the same disk), and when the last disk has it, writes "N" to the port BEAT.
 * tests/vm/records.py reads what this writes; the layout of a record stands here and there.
 *
 * At start it looks for the newest record in each place and goes on behind it; places that differ by more than one record
 * were never of one instant: it says "torn" and writes nothing.
 *
 * writer MIB: writes nothing but so much of its own memory, over and over again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/fs.h>

enum { RECORD_SIZE = 512, DISKS_MAX = 4, SEGMENT_RECORDS = 1024, SEGMENTS_KEPT = 8, SCAN_SIZE = 65536 };
enum kind { KIND_RING, KIND_FILE };

struct record {
	char magic[8];
	uint64_t number;
	uint32_t disk;
	uint32_t kind;
	uint8_t payload[RECORD_SIZE - 28];
	uint32_t crc; /* of all before it, as zlib's crc32 */
};
_Static_assert(sizeof(struct record) == RECORD_SIZE, "a record is one sector");
static const char MAGIC[8] = "qsnaprec";

struct disk {
	int ring;
	uint64_t slots;
	const char *folder;
	int segment; /* the file written to, or -1 */
	uint64_t segment_number;
};

static uint32_t crc_of_byte[256];

static void crc_table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
		crc_of_byte[i] = crc;
	}
}

static uint32_t crc32(const void *data, size_t size)
{
	const uint8_t *byte = data;
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < size; i++)
		crc = crc >> 8 ^ crc_of_byte[(crc ^ byte[i]) & 255];
	return ~crc;
}

static void record_fill(struct record *record, uint64_t number, uint32_t disk, enum kind kind)
{
	memcpy(record->magic, MAGIC, sizeof(MAGIC));
	record->number = number;
	record->disk = disk;
	record->kind = kind;
	uint64_t state = (number * 8 + disk * 2 + kind) * 0x9e3779b97f4a7c15u + 1;
	for (size_t i = 0; i + sizeof(state) <= sizeof(record->payload); i += sizeof(state)) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(record->payload + i, &state, sizeof(state));
	}
	record->crc = crc32(record, offsetof(struct record, crc));
}

static bool record_whole(const struct record *record, uint32_t disk, enum kind kind)
{
	return memcmp(record->magic, MAGIC, sizeof(MAGIC)) == 0 && record->disk == disk &&
	       record->kind == (uint32_t)kind && record->crc == crc32(record, offsetof(struct record, crc));
}

static void die(const char *what)
{
	printf("writer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t newest_in(int fd, uint64_t size, uint32_t disk, enum kind kind, struct record *buffer)
{
	uint64_t newest = 0;
	for (uint64_t at = 0; at < size; at += SCAN_SIZE) {
		ssize_t got = pread(fd, buffer, SCAN_SIZE, (off_t)at);
		if (got < 0)
			die("reading records");
		for (ssize_t i = 0; i < got / RECORD_SIZE; i++)
			if (buffer[i].number > newest && record_whole(&buffer[i], disk, kind))
				newest = buffer[i].number;
	}
	return newest;
}

static void segment_path(char path[256], const struct disk *disk, uint64_t segment)
{
	snprintf(path, 256, "%s/log.%08llu", disk->folder, (unsigned long long)segment);
}

static uint64_t newest_in_files(const struct disk *disk, uint32_t index, struct record *buffer)
{
	unsigned long long last = 0;
	bool any = false;
	DIR *folder = opendir(disk->folder);
	if (!folder)
		die(disk->folder);
	for (struct dirent *entry; (entry = readdir(folder));) {
		if (strncmp(entry->d_name, "log.", 4) != 0)
			continue;
		unsigned long long segment = strtoull(entry->d_name + 4, NULL, 10);
		if (!any || segment > last)
			last = segment;
		any = true;
	}
	closedir(folder);
	if (!any)
		return 0;
	char path[256];
	segment_path(path, disk, last);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	uint64_t newest = newest_in(fd, SEGMENT_RECORDS * RECORD_SIZE, index, KIND_FILE, buffer);
	close(fd);
	return newest ? newest : (uint64_t)last * SEGMENT_RECORDS - 1; /* a file just made, nothing in it yet */
}

static void segment_open(struct disk *disk, uint64_t segment)
{
	char path[256];
	if (disk->segment >= 0)
		close(disk->segment);
	segment_path(path, disk, segment);
	disk->segment = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (disk->segment < 0)
		die(path);
	disk->segment_number = segment;
	if (segment >= SEGMENTS_KEPT) {
		segment_path(path, disk, segment - SEGMENTS_KEPT);
		unlink(path);
	}
}

static void put(struct disk *disk, uint32_t index, uint64_t number, struct record *record)
{
	record_fill(record, number, index, KIND_RING);
	if (pwrite(disk->ring, record, RECORD_SIZE, (off_t)(number % disk->slots * RECORD_SIZE)) != RECORD_SIZE)
		die("writing to the ring");
	uint64_t segment = number / SEGMENT_RECORDS;
	if (disk->segment < 0 || disk->segment_number != segment)
		segment_open(disk, segment);
	record_fill(record, number, index, KIND_FILE);
	if (pwrite(disk->segment, record, RECORD_SIZE, (off_t)(number % SEGMENT_RECORDS * RECORD_SIZE)) !=
			RECORD_SIZE ||
		fsync(disk->segment))
		die("writing to a file");
}

static void tell(int beat, const char *text)
{
	/* Nobody listening, or not now: the record is on the disks all the same. */
	if (write(beat, text, strlen(text)) < 0)
		return;
}

static void wait_for_turn(struct timespec *next, long period)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	next->tv_nsec += period;
	if (next->tv_nsec >= 1000000000) {
		next->tv_nsec -= 1000000000;
		next->tv_sec++;
	}
	if (now.tv_sec > next->tv_sec || (now.tv_sec == next->tv_sec && now.tv_nsec > next->tv_nsec))
		*next = now; /* late: nothing is made up for */
	else
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

static int disks_open(struct disk *disks, int count, char **words)
{
	for (int i = 0; i < count; i++) {
		uint64_t size = 0;
		disks[i].ring = open(words[2 * i], O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
		if (disks[i].ring < 0 || ioctl(disks[i].ring, BLKGETSIZE64, &size))
			die(words[2 * i]);
		disks[i].slots = size / RECORD_SIZE;
		disks[i].folder = words[2 * i + 1];
		disks[i].segment = -1;
	}
	return count;
}

/* The number of the record to go on with, or 0 when the disks are not of one instant. */
static uint64_t where_to_go_on(struct disk *disks, int count, struct record *buffer)
{
	uint64_t least = UINT64_MAX, most = 0;
	for (int i = 0; i < count; i++) {
		uint64_t found[2] = {
			newest_in(disks[i].ring, disks[i].slots * RECORD_SIZE, (uint32_t)i, KIND_RING, buffer),
			newest_in_files(&disks[i], (uint32_t)i, buffer)};
		for (int kind = 0; kind < 2; kind++) {
			printf("writer: disk %d: newest record in the %s: %llu\n", i,
				kind == KIND_RING ? "ring" : "files", (unsigned long long)found[kind]);
			least = found[kind] < least ? found[kind] : least;
			most = found[kind] > most ? found[kind] : most;
		}
	}
	return most - least > 1 ? 0 : least + 1;
}

static int dirty(size_t mib)
{
	enum { PAGE = 4096 };
	volatile char *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("memory");
	for (unsigned round = 1;; round++) {
		for (size_t at = 0; at < mib << 20; at += PAGE)
			memory[at] = (char)round;
		if (round == 1)
			printf("writer: all of it\n");
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	int count = (argc - 3) / 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2)
		return dirty((size_t)atoi(argv[1]));
	if (argc < 3 || argc % 2 == 0 || count > DISKS_MAX)
		return 2;
	crc_table_fill();
	int rate = atoi(argv[1]);
	int beat = open(argv[2], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	struct disk disks[DISKS_MAX];
	struct record *buffer = aligned_alloc(4096, SCAN_SIZE);
	if (beat < 0 || !buffer)
		die(argv[2]);
	disks_open(disks, count, argv + 3);
	char text[64];
	uint64_t number = count ? where_to_go_on(disks, count, buffer) : 1;
	if (number == 0) {
		tell(beat, "torn\n");
		return 1;
	}
	snprintf(text, sizeof(text), "start %llu\n", (unsigned long long)number);
	tell(beat, text);
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;; number++) {
		for (int i = 0; i < count; i++)
			put(&disks[i], (uint32_t)i, number, buffer);
		snprintf(text, sizeof(text), "%llu\n", (unsigned long long)number);
		tell(beat, text);
		if (rate > 0)
			wait_for_turn(&next, 1000000000L / rate);
	}
}

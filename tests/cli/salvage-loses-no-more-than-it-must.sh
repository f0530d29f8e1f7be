#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A source that cannot be read in places: without --salvage an error and no target, with it zeros in these places and in no
# other. A preloaded library makes pread fail where BAD says.
. "$(dirname "$0")/lib.sh"
command -v cc >/dev/null || { echo "there is no C compiler" && exit 77; }
cat >bad.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* BAD="NAME FROM TO": reading any byte of [FROM, TO) of a file whose name ends in NAME fails. */
static int is_bad(int fd, size_t len, off_t at)
{
	char link[64], path[4096], name[256];
	long from, to;
	const char *bad = getenv("BAD");

	if (!bad || sscanf(bad, "%255s %ld %ld", name, &from, &to) != 3 || at >= to || at + (off_t)len <= from)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	path[n > 0 ? n : 0] = 0;
	size_t tail = strlen(name);
	return strlen(path) >= tail && strcmp(path + strlen(path) - tail, name) == 0;
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t at)
{
	static ssize_t (*real)(int, void *, size_t, off64_t);
	if (is_bad(fd, len, at))
		return errno = EIO, -1;
	if (!real)
		real = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
	return real(fd, buf, len, at);
}
C
cc -shared -fPIC -o bad.so bad.c -ldl || exit 1
preload=$PWD/bad.so
if [ "${VARIANT-}" = address ]; then preload="$(cc -print-file-name=libasan.so) $preload"; fi
with_bad() { # BAD COMMAND...
	local bad=$1
	shift
	env BAD="$bad" LD_PRELOAD="$preload" "$@"
}
damaged() { # IN FROM TO OUT: OUT is IN with zeros there
	cp "$1" "$4" && dd if=/dev/zero of="$4" bs=4096 seek=$(($2 / 4096)) count=$((($3 - $2) / 4096)) conv=notrunc 2>/dev/null
}
for part in {1..6}; do cat /bin/bash && echo "$part"; done >src.raw
truncate -s 6M src.raw
if with_bad "src.raw 0 1" "$QSNAP" convert -f raw -O raw src.raw x 2>/dev/null; then
	echo "this build cannot be made to fail in reading" && exit 77
fi

k=1024
for case in "0 4096" "$((700 * k)) $((704 * k))" "$((512 * k)) $((1024 * k))" "$((1020 * k)) $((1540 * k))" \
	"$((6140 * k)) $((6144 * k))"; do
	read -r from to <<<"$case"
	damaged src.raw "$from" "$to" wanted.raw
	places=$(((to - from) / 4096))
	fails 1 "unreadable from $from to $to" with_bad "src.raw $case" "$QSNAP" convert -f raw -O raw src.raw new
	says "Input/output error"
	same "... there is no target" "$(compgen -G new)" ""
	for options in "-O raw" "-O raw --threads 0" "-O raw -S 0" "-O qcow2" "-O qcow2 -c" "-O qcow2 -o cluster_size=4k"; do
		# shellcheck disable=SC2086 # options are words
		ok "... --salvage $options" with_bad "src.raw $case" "$QSNAP" convert --salvage -f raw $options src.raw new
		says "warning: $places unreadable places of 4 KiB"
		ok "... has all the rest" "$QSNAP" compare -f "$(cut -d' ' -f2 <<<"$options")" -F raw new wanted.raw
		rm -f new
	done
	ok "... --salvage to a stream" sh -c 'exec "$@" >piped' sh env BAD="src.raw $case" LD_PRELOAD="$preload" \
		"$QSNAP" convert --salvage -f raw -O raw src.raw -
	ok "... has all the rest" cmp piped wanted.raw
done

# ---- qcow2: data in a deeper layer, metadata ----
"$QSNAP" convert -f raw -O qcow2 src.raw base.qcow2
"$QSNAP" create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
host=$("$QSNAP" map --output=json base.qcow2 | sed -n 's/.*"start": 0,.*"offset": \([0-9]*\).*/\1/p')
damaged src.raw $((64 * k)) $((72 * k)) wanted.raw
bad="base.qcow2 $((host + 64 * k)) $((host + 72 * k))"
fails 1 "an unreadable cluster of a backing file" with_bad "$bad" "$QSNAP" convert -O raw top.qcow2 new
says "base.qcow2"
ok "... salvaged" with_bad "$bad" "$QSNAP" convert --salvage -O raw top.qcow2 new
says "warning: 2 unreadable places of 4 KiB"
ok "... has all the rest" cmp new wanted.raw
fails 1 "an unreadable header is not salvaged" with_bad "base.qcow2 0 4096" "$QSNAP" convert --salvage -O raw top.qcow2 x
same "... there is no target" "$(compgen -G x)" ""
# Its L1 lies at the end of an image that qsnap wrote.
bad="base.qcow2 $(($(stat -c %s base.qcow2) - 512)) $(stat -c %s base.qcow2)"
ok "what an unreadable part of L1 leads to is lost" with_bad "$bad" "$QSNAP" convert --salvage -O raw top.qcow2 new
says "zeros from guest offset 0x0 on"
says "warning: 1536 unreadable places of 4 KiB"
truncate -s 0 wanted.raw && truncate -s 6M wanted.raw
ok "... which is told, and zeros" cmp new wanted.raw

# ---- compressed clusters: the whole cluster goes ----
"$QSNAP" convert -c -f raw -O qcow2 src.raw packed.qcow2
printf '\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377' |
	dd of=packed.qcow2 bs=1 seek=$((64 * k + 100)) conv=notrunc 2>/dev/null
fails 1 "a broken compressed cluster" "$QSNAP" convert -f qcow2 -O raw packed.qcow2 x
says "packed.qcow2"
ok "... salvaged" "$QSNAP" convert --salvage -f qcow2 -O raw packed.qcow2 new
says "warning: 16 unreadable places of 4 KiB"
damaged src.raw 0 $((64 * k)) wanted.raw
ok "... has all the rest" cmp new wanted.raw
ok "... and compressed once more" "$QSNAP" convert --salvage -c -f qcow2 -O qcow2 packed.qcow2 new
says "unreadable places"
ok "... has all the rest" "$QSNAP" compare -f qcow2 -F raw new wanted.raw
finish

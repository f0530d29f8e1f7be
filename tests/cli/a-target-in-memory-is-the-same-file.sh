#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# New pages of a target on tmpfs are filled by all threads where that works (io/file_fill.c). Its bytes and its holes are those of
# any other target, for any number of threads, also where pages cannot be filled; a full file system is an error like others.
# time limit: 300
# sanitizers: thread
. "$(dirname "$0")/lib.sh"
memory=$(mktemp -d /dev/shm/qsnap-test.XXXXXX 2>/dev/null) || { skip "targets on tmpfs" "no /dev/shm" && finish; }
trap 'rm -rf "$memory"' EXIT
[ "$(stat -f -c %T "$memory")" = tmpfs ] || { skip "targets on tmpfs" "/dev/shm is something else" && finish; }

# zeros where a block of 2 MiB begins, in its middle, at its end; a hole; an odd end
head -c 25000000 /dev/urandom >src.raw
zero() { dd if=/dev/zero of=src.raw bs=4k seek=$(($1)) count=$(($2)) conv=notrunc status=none; }
zero 512*2 1
zero 512*4+100 3
zero 512*6+511 1
zero 512*8 512
truncate -s 27003904 src.raw
"$QSNAP" convert -f raw -O qcow2 -S 0 src.raw plain.qcow2 || exit 1
for codec in zlib zstd; do "$QSNAP" convert -f raw -O qcow2 -c -o compression_type=$codec src.raw $codec.qcow2 || exit 1; done
"$QSNAP" convert -O raw plain.qcow2 disk.raw || exit 1
sum=$(sha256sum <disk.raw)
kept=$(stat -c %b disk.raw)

# $1: a name, rest: a command that makes $memory/out
same_file() {
	ok "$@"
	same "... has the bytes" "$(sha256sum <"$memory/out")" "$sum"
	same "... and the holes" "$(stat -c %b "$memory/out")" "$kept"
	rm -f "$memory/out"
}
for source in plain zlib zstd; do
	for threads in 0 1 2 8; do
		same_file "$source with $threads threads" "$QSNAP" convert --threads $threads -O raw $source.qcow2 "$memory/out"
	done
done
ok "-S 0" "$QSNAP" convert -O raw -S 0 plain.qcow2 "$memory/out"
same "... has the bytes" "$(sha256sum <"$memory/out")" "$sum"
ok "preallocation=falloc" "$QSNAP" convert -O raw -o preallocation=falloc plain.qcow2 "$memory/out"
same "... keeps its space" "$(($(stat -c %b "$memory/out") * 512))" 27004928
rm -f "$memory/out"

"$QSNAP" convert -O qcow2 plain.qcow2 disk.qcow2 || exit 1
for threads in 0 1 2 8; do
	ok "to qcow2 with $threads threads" "$QSNAP" convert --threads $threads -O qcow2 plain.qcow2 "$memory/out"
	ok "... the same file" cmp disk.qcow2 "$memory/out"
	rm -f "$memory/out"
done

if strace -o /dev/null true 2>/dev/null; then
	# $1: system call, $2: error, $3: when; the target is the same file
	without() {
		same_file "$1 is $2 ($3)" env ASAN_OPTIONS=detect_leaks=0 strace -f -o "trace.$1.$2.$3" -e trace="$1" \
			-e inject="$1:error=$2:when=$3" "$QSNAP" convert --threads 2 -O raw plain.qcow2 "$memory/out"
	}
	without userfaultfd EPERM 1
	without userfaultfd ENOSYS 1
	for when in 1 2 3 3+ 4+3 6; do
		without ioctl ENOMEM $when
	done
	ok "pages were to be filled" grep -q INJECTED trace.userfaultfd.EPERM.1 trace.ioctl.ENOMEM.3
	ok "... and were" grep -q 'UFFDIO_COPY.* = 0' trace.ioctl.ENOMEM.3
else
	skip "pages that cannot be filled" "strace may not trace here"
fi

# shellcheck disable=SC2317 # called in another shell
full() {
	mount -t tmpfs -o size="$1" none "$memory" && run "$QSNAP" convert --threads "$2" -O raw zstd.qcow2 "$memory/out"
	cat err >&2
	[ -z "$(ls -A "$memory")" ] && exit "$status"
}
if unshare -m true 2>/dev/null; then
	export -f full run
	export QSNAP memory
	for size in 4k 3m 9m 16m 21m; do
		for threads in 0 2; do
			fails 1 "a file system of $size, $threads threads" unshare -m bash -c "full $size $threads"
			says "No space left on device"
		done
	done
else
	skip "a full file system" "no mount here"
fi
finish

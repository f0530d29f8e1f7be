#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A target on tmpfs is written in blocks of memory where that works (io/file_block.c). Its bytes and its holes are those of
# any other target, for any number of threads, also where a block cannot be had; a full file system is an error like others.
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

if strace -o /dev/null true 2>/dev/null; then
	for call in madvise:EINVAL madvise:EAGAIN madvise:EFAULT; do
		for when in 1+ 2 1+2 2+2 6; do
			same_file "${call/:/ is } ($when)" env ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=use_madv_dontdump=0 strace -f -o "trace.$call.$when" -e trace=madvise \
				-e inject="${call/:/:error=}:when=$when" "$QSNAP" convert --threads 0 -O raw plain.qcow2 "$memory/out"
		done
	done
	ok "blocks were asked for" grep -q 'madvise.*INJECTED' trace.*
	# a block that is there but cannot be filled leaves nothing behind where its data has zeros
	head -c 2097152 src.raw | dd of=end.raw bs=2M iflag=fullblock status=none
	dd if=/dev/zero of=end.raw bs=4k seek=511 count=1 conv=notrunc status=none
	ok "a block lost once it was made" env ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=use_madv_dontdump=0 strace -f -o trace -e trace=madvise \
		-e inject=madvise:error=ENOMEM:when=2 "$QSNAP" convert --threads 0 -f raw -O raw end.raw "$memory/out"
	ok "... has the bytes" cmp end.raw "$memory/out"
	same "... and the hole" "$(stat -c %b "$memory/out")" 4088
	rm -f "$memory/out"
else
	skip "blocks that cannot be had" "strace may not trace here"
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

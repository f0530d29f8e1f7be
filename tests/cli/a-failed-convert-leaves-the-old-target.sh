#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every system call of a conversion that can fail is made to fail once, by its number: the command must say so with
# status 1, the old target must be as it was, and no file may be left beside it.
# time limit: 300
# sanitizers: no
set -u
command -v strace > /dev/null || { echo "strace is not installed"; exit 77; }
strace -o /dev/null true 2> /dev/null || { echo "strace may not trace here"; exit 77; }
cd "$TEST_TMP" || exit 1
failed=0

mkdir in out
head -c 300000 "$QSNAP" > in/a.raw
truncate -s 400k in/a.raw # zeros at the end: the length is set by itself
"$QSNAP" convert -O qcow2 -c in/a.raw in/src.qcow2 || exit 1
echo "the old target" > in/old
wanted=$("$QSNAP" convert --threads 0 -O raw in/src.qcow2 - | sha256sum)

# $1: a name, $2: the call, $3: the error, rest: options of convert
try() {
	local name=$1 call=$2 error=$3 k status calls=0
	shift 3
	for ((k = 1; k <= 60; k++)); do
		rm -rf out && mkdir out && cp -p in/old out/target
		strace -f -o trace ${ONLY:+-P "$ONLY"} -e trace="$call" -e inject="$call:error=$error:when=$k" \
			"$QSNAP" convert --threads 0 "$@" in/src.qcow2 out/target > log 2>&1
		status=$?
		grep -q INJECTED trace || break
		calls=$k
		# a fall-back served, or only the folder's own sync failed: the new target must be right
		if [ $status = 0 ] || grep -q "flushing its folder" log; then
			[ "$("$QSNAP" convert -O raw out/target - | sha256sum)" = "$wanted" ] && continue
			echo "not ok $name: call $k failed, status 0, and the target is wrong" && failed=1 && return
		fi
		if [ $status != 1 ] || ! cmp -s in/old out/target || [ "$(ls -A out)" != target ] || ! [ -s log ]; then
			echo "not ok $name: call $k, status $status, left: $(echo out/* out/.[!.]*), said: $(head -c 300 log)"
			failed=1
			return
		fi
	done
	if [ $calls = 0 ] && [ "${MAY_BE_UNUSED:-}" != "$call" ]; then
		echo "not ok $name: no such call was made" && failed=1 && return
	fi
	echo "ok $name ($calls calls)"
}

try "write fails, raw" pwrite64 EIO -O raw
try "write fails, qcow2" pwrite64 ENOSPC -O qcow2
try "write fails, compressed qcow2" pwrite64 ENOSPC -O qcow2 -c --recompress
try "write fails, 512-byte clusters" pwrite64 EIO -O qcow2 -o cluster_size=512
ONLY=in/src.qcow2 try "read fails, raw" pread64 EIO -O raw
ONLY=in/src.qcow2 try "read fails, qcow2" pread64 EIO -O qcow2
try "length cannot be set, raw" ftruncate EIO -O raw
try "space cannot be reserved" fallocate ENOSPC -O raw -o preallocation=falloc
try "sync fails, writeback" fsync EIO -O qcow2 -t writeback
MAY_BE_UNUSED=fdatasync try "data sync fails, writeback" fdatasync EIO -O qcow2 -t writeback
try "the name cannot be given" linkat EACCES -O qcow2
MAY_BE_UNUSED=rename try "the old target cannot be replaced" rename EACCES -O qcow2
MAY_BE_UNUSED=renameat try "the old target cannot be replaced (renameat)" renameat EACCES -O qcow2
exit $failed

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# convert --keep-snapshots: every internal snapshot of the source is in the target with its content, size, name, VM state,
# sharing clusters with the others; bitmaps come along. Judged by qemu-img.
set -u
for tool in qemu-img qemu-io python3; do
	command -v $tool > /dev/null || { echo "$tool is not installed"; exit 77; }
done
cd "$TEST_TMP" || exit 1
failed=0

qemu-img create -q -f qcow2 base.qcow2 24M
qemu-io -c 'write -q -P 9 0 7M' -c 'write -q -P 8 20M 1M' base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 -o cluster_size=32k src.qcow2 20M
qemu-io -c 'write -q -P 1 0 5M' -c 'write -q -P 2 10M 3M' src.qcow2
qemu-io -c 'write -q -b -P 77 0 300k' src.qcow2
qemu-img snapshot -c one src.qcow2
qemu-io -c 'write -q -P 3 1M 2M' -c 'write -q -z 10M 1M' -c 'write -q -c -P 4 14M 512k' src.qcow2
qemu-img snapshot -c two src.qcow2
qemu-io -c 'write -q -P 5 4097k 3k' src.qcow2
qemu-img bitmap --add -g 32k src.qcow2 dirt
qemu-io -c 'write -q -P 6 19M 1M' src.qcow2
# a VM state of 300 KiB for snapshot one: sizes in its table entry
python3 - src.qcow2 << 'P'
import struct, sys
f = open(sys.argv[1], 'r+b')
f.seek(64); table, = struct.unpack('>Q', f.read(8))
f.seek(table + 32); f.write(struct.pack('>I', 300 << 10))
f.seek(table + 40); f.write(struct.pack('>Q', 300 << 10))
P

reads() { # FILE [SNAPSHOT]: qemu-img has no pipe
	rm -f out.raw
	qemu-img convert -O raw ${2:+-l "snapshot.name=$2"} "$1" out.raw && sha256sum < out.raw
}
vm_state() { # FILE [unshared]: qemu-img cannot apply a snapshot where refcounts go to 1 only
	[ "${2:-}" = unshared ] && return
	cp "$1" applied.qcow2
	if ! qemu-img bitmap --remove applied.qcow2 dirt || ! qemu-img snapshot -a one applied.qcow2; then return 1; fi
	[ -z "$(qemu-io -c 'read -q -b -P 77 0 300k' applied.qcow2 2>&1)" ]
}
vm_state src.qcow2 || { echo "not ok the source has a VM state" && exit 1; }
same() { # NAME FILE
	local state bad=
	qemu-img check -q "$2" || bad="qemu-img check says $?"
	for state in "" one two; do
		[ "$(reads src.qcow2 "$state")" = "$(reads "$2" "$state")" ] || bad="state '$state' differs"
	done
	[ "$(qemu-img snapshot -l "$2" | awk 'NR > 2 {print $1, $2, $3}')" = \
		"$(qemu-img snapshot -l src.qcow2 | awk 'NR > 2 {print $1, $2, $3}')" ] || bad="the lists differ"
	qemu-img info "$2" | grep -q 'name: dirt' || bad="the bitmap is missing"
	vm_state "$2" "${3:-}" || bad="the VM state differs"
	if [ -n "$bad" ]; then echo "not ok $1: $bad" && failed=1; else echo "ok $1"; fi
}

run() { # NAME OPTIONS...
	local name=$1
	shift
	rm -f dst.qcow2
	if ! "$QSNAP" convert --keep-snapshots -O qcow2 "$@" src.qcow2 dst.qcow2; then
		echo "not ok $name: status $?" && failed=1
		return
	fi
	same "$name" dst.qcow2 "$(case $* in *refcount_bits=1*) echo unshared ;; esac)"
}

run "same cluster size" -o cluster_size=32k
run "larger clusters" -o cluster_size=256k
run "smaller clusters" -o cluster_size=4k
run "compressed" -c -o cluster_size=32k
run "compressed again, zstd" -c --recompress -o compression_type=zstd
run "extended L2" -o extended_l2=on
run "refcounts of one bit cannot be shared" -o refcount_bits=1
run "preallocated metadata" -o preallocation=metadata
for n in 0 1 2 8; do
	"$QSNAP" convert --threads $n --keep-snapshots -c -O qcow2 src.qcow2 "t$n.qcow2" || failed=1
done
if cmp -s t0.qcow2 t1.qcow2 && cmp -s t0.qcow2 t2.qcow2 && cmp -s t0.qcow2 t8.qcow2; then
	echo "ok the same bytes for any number of threads"
else
	echo "not ok the same bytes for any number of threads" && failed=1
fi
rm -f dst.qcow2
"$QSNAP" convert --keep-snapshots -O qcow2 src.qcow2 - > dst.qcow2 2> said
if [ $? = 1 ] && grep -q snapshots said; then
	echo "ok a stream is refused"
else
	echo "not ok a stream is refused" && failed=1
fi
exit $failed

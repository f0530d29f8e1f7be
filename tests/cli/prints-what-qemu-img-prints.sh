#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The same command line for qemu-img and for qsnap under its name: stdout and exit status must be the same, byte for byte.
# shellcheck disable=SC2086  # lists of words are meant to be split
# time limit: 300
# sanitizers: no
. "$(dirname "$0")/lib.sh"
peer || { echo "there is no qemu-img to compare with" && exit 77; }
"$peer" --version | grep -q 'version 1[0-9]\.' || { echo "only an old qemu-img is here, whose texts differ" && exit 77; }
io=${peer%-img}-io
ln -s "$QSNAP" qemu-img

# ---- images ----
q() { "$peer" "$@" >/dev/null || exit 1; }
w() { "$io" "$@" >/dev/null || exit 1; }
q create -f raw base.raw 3M
printf hello | dd of=base.raw bs=1 seek=70000 conv=notrunc 2>/dev/null
q create -f qcow2 a.qcow2 8M
w -f qcow2 -c 'write -P 1 0 256k' -c 'write -z 1M 64k' -c 'write -P 3 4M 100k' a.qcow2
q create -f qcow2 -b base.raw -F raw overlay.qcow2 5M
w -c 'write -P 2 1M 64k' overlay.qcow2
q create -f qcow2 -b overlay.qcow2 -F qcow2 -o compat=0.10,cluster_size=4k top.qcow2 6M
q create -f qcow2 -o lazy_refcounts=on,refcount_bits=1,extended_l2=on,cluster_size=128k,compression_type=zstd options.qcow2 100M
w -c 'write -P 2 1M 5k' options.qcow2
q create -f qcow2 -o data_file=d.raw,data_file_raw=on rawdata.qcow2 10M
q create -f qcow2 -o data_file=e.raw data.qcow2 1M
w -c 'write 0 64k' -c 'write -z 128k 64k' data.qcow2
cp a.qcow2 snapshots.qcow2
q snapshot -c first snapshots.qcow2
q snapshot -c 'second one with a name that is too long for its column' snapshots.qcow2
cp a.qcow2 bitmaps.qcow2
q bitmap --add bitmaps.qcow2 b0
q bitmap --add --disable -g 1M bitmaps.qcow2 b1
q convert -c -O qcow2 a.qcow2 compressed.qcow2
q create -f qcow2 -o preallocation=metadata prealloc.qcow2 16M
q create -f qcow2 -o preallocation=full full.qcow2 4M
q create -u -f qcow2 -b /nonexistent/x.img -F raw missing-backing.qcow2 1M
q create -f qcow2 -u -b 'json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}' -F raw json.qcow2 3M
q create -f qcow2 empty.qcow2 0
mkdir sub
q create -f qcow2 -u -b ../base.raw -F raw sub/relative.qcow2 1M
printf abc >odd.raw && truncate -s 1000 odd.raw
# damage, by python since offsets come from the header
python3 - <<'P' || exit 1
import struct
good = open('a.qcow2', 'rb').read()
be = lambda at: struct.unpack('>Q', good[at:at + 8])[0]
reftable, l1 = be(48), be(40)
refblock, l2 = be(reftable), be(l1) & 0xfffffffffffe00
def case(name, *changes):
    b = bytearray(good)
    for at, new in changes:
        b[at:at + len(new)] = new
    open(name + '.qcow2', 'wb').write(b)
q = lambda v: struct.pack('>Q', v)
leak, low = (refblock + 16, b'\0\5'), (refblock + 12, b'\0\0')
case('leak', (refblock + 20, b'\0\2'))
case('leak-copied', leak)
case('low', low)
case('both', leak, low)
case('unaligned', (l2, q(0x8000000000050200)))
case('outside', (l2, q(0x8000000080050000)))
case('not-copied', (l2, q(0x50000)))
case('bad-l1', (l1, q(0x8000000000040200)))
case('dirty-corrupt', (72, q(3)))
P

# ---- the comparison ----
both() {
	local pr=0 or=0
	"$peer" "$@" >p.out 2>p.err || pr=$?
	./qemu-img "$@" >o.out 2>o.err || or=$?
	if [ $pr != $or ]; then
		bad "$*" "status $or, qemu-img has $pr: $(head -c 300 o.err)"
	elif ! cmp -s p.out o.out; then
		bad "$*" "$(diff p.out o.out | head -5)"
	else
		good "$*"
	fi
}
images="a overlay top options rawdata data snapshots bitmaps compressed prealloc full json empty sub/relative"
for name in $images missing-backing dirty-corrupt; do
	both info $name.qcow2
	both info --output=json $name.qcow2
	both info --backing-chain --output json $name.qcow2
done
for name in $images; do
	both info --backing-chain $name.qcow2
	both map $name.qcow2
	both map --output=json $name.qcow2
	both map --output json --start-offset 1000 --max-length 1M $name.qcow2
	both snapshot -l $name.qcow2
	both check $name.qcow2
done
for name in leak leak-copied low both unaligned outside not-copied bad-l1 missing-backing; do
	both check $name.qcow2
	both check --output=json $name.qcow2
	same "... with the same findings" "$(cat o.err)" "$(cat p.err)"
	both check -q $name.qcow2
done
for name in base odd; do
	both info $name.raw
	both info --output=json $name.raw
	both map $name.raw
	both map --output=json $name.raw
	both check -f raw $name.raw
	both snapshot -l $name.raw
done
both info -f raw a.qcow2
both info -U a.qcow2
both info missing
both map -s 1x a.qcow2
both map --output=json -s 10M a.qcow2
both check --output json -f raw base.raw
both check a.qcow2 b.qcow2

for source in "--size 0" "--size 1000" "--size 1G" "--size 8T" "--size 7E" "-l first snapshots.qcow2" "-l none a.qcow2" \
	"-l snapshot.id=2 snapshots.qcow2" base.raw odd.raw a.qcow2 overlay.qcow2 top.qcow2 options.qcow2 rawdata.qcow2 \
	bitmaps.qcow2 compressed.qcow2 prealloc.qcow2 full.qcow2 empty.qcow2; do
	for target in "" "-O raw --output=json" "-O qcow2" "-O qcow2 -o compat=0.10" "-O qcow2 -o cluster_size=512" \
		"-O qcow2 -o cluster_size=2M" "-O qcow2 -o cluster_size=4k,refcount_bits=64 --output=json" \
		"-O qcow2 -o extended_l2=on,cluster_size=16k,refcount_bits=8" "-O qcow2 -o preallocation=falloc" \
		"-O qcow2 -o backing_file=base.raw,backing_fmt=raw" "-O qcow2 -o frob=1"; do
		both measure $target $source
	done
done

q convert -O raw a.qcow2 a.raw
cp a.raw larger.raw && truncate -s 9M larger.raw
cp larger.raw tail.raw && printf x | dd of=tail.raw bs=1 seek=9000000 conv=notrunc 2>/dev/null
cp a.qcow2 changed.qcow2 && w -c 'write -P 9 5M 1k' changed.qcow2
for pair in "a.qcow2 changed.qcow2" "a.qcow2 a.raw" "a.qcow2 compressed.qcow2" "a.qcow2 larger.raw" "tail.raw a.qcow2" \
	"changed.qcow2 tail.raw" "a.qcow2 a.qcow2" "overlay.qcow2 top.qcow2" "missing a.qcow2" "a.qcow2 missing" "a.qcow2" \
	"prealloc.qcow2 full.qcow2" "odd.raw base.raw"; do
	both compare $pair
	both compare -s $pair
	both compare -q $pair
done

created() {
	rm -f new new.data
	both create "$@"
}
created new 1000
created -f qcow2 new 1000
created -q new 1M
created new
created new 1z
created new 9E
created -f qcow2 -o size=1M new
created -f qcow2 -o size=1M new 2M
created -f qcow2 -o compat=0.10 new 10240K
created -f qcow2 -b a.qcow2 -o backing_fmt=qcow2,compat=0.10 new 20480K
created -f qcow2 -o compat=1.1,lazy_refcounts new 5120K
created -f qcow2 -o lazy_refcounts=on,compat=v2 new 5M
created -f qcow2 -o preallocation=falloc new 5M
created -f raw -o preallocation=falloc new 5M
created -f qcow2 -o data_file=new.data,data_file_raw=on new 5M
created -f raw -b a.qcow2 -F qcow2 new
created -f qcow2 -b none -F raw new 1M
created -f qcow2 -u -b none -F raw new 1M
created -f qcow2 -u -b none new 1M
created -f qcow2 -b a.qcow2 new
created -f qcow2 -b a.qcow2 -F frob new
created -f qcow2 -b a.qcow2 -F qcow2 new
created -f qcow2 -b new -F qcow2 new
created -f qcow2 -b ../a.qcow2 -F qcow2 sub/new
created -f qcow2 -o compression_type=zstd,refcount_bits=1,extended_l2=on new 1M
created -f qcow2 -o nocow=on new 1M
created -f qcow2 -o backing_file=a,,b -o backing_fmt=raw -u new 1M
created -f qcow2 -o compat=0.10,compression_type=zstd new 1M
created -f qcow2 -o extended_l2=on,cluster_size=4k new 1M
created -f qcow2 -o data_file_raw=on new 1M
created -f qcow2 -o preallocation=full -b a.qcow2 -F qcow2 new 1M
created -f qcow2 -o cluster_size=1k new 16T
created -f qcow2 -o frob=1 new 1M
created -f qcow2 -o cluster_size=frob new 1M
created -f qcow2 new 1M 2M

for operands in "bs=64k count=3" "bs=64k skip=2" "bs=64k skip=40" "bs=64k skip=2 count=3" "bs=15 count=1" \
	"bs=7000 skip=3" "count=10" "oseek=1" "bs=0" "bs=1z" "count=x" "count=0"; do
	for source in if=a.raw if=a.qcow2 "-f qcow2 if=top.qcow2"; do
		rm -f p.raw o.raw
		both dd $operands $source of=o.raw
		"$peer" dd $operands $source of=p.raw >/dev/null 2>&1
		rm -f o.raw
		./qemu-img dd $operands $source of=o.raw >/dev/null 2>&1
		[ ! -e p.raw ] && [ ! -e o.raw ] || cmp -s p.raw o.raw || bad "dd $operands $source" "other bytes than qemu-img's"
	done
done
finish

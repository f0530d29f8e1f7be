#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# trim: what it gives back and tells, what it keeps, and what it refuses (FORMAT.md §7.4, §12.3).
. "$(dirname "$0")/lib.sh"

"$QSNAP" create -q -f qcow2 sound 64M || exit 1
"$QSNAP" io -f qcow2 -c "write -P 1 0 8M" sound >/dev/null || exit 1
"$QSNAP" bitmap --add sound kept && "$QSNAP" snapshot -c first sound || exit 1
"$QSNAP" io -f qcow2 -c "write -P 2 4M 16M" -c "write -P 3 30M 100k" sound >/dev/null || exit 1
"$QSNAP" snapshot -c second sound || exit 1
"$QSNAP" io -f qcow2 -c "write -P 4 4M 16M" sound >/dev/null || exit 1
"$QSNAP" snapshot -d second sound || exit 1
"$QSNAP" convert -O raw sound sound.raw && "$QSNAP" convert -l first -O raw sound first.raw || exit 1

blocks() { stat -c %b "$1"; }
be64() { od -An -t u8 --endian=big -j "$2" -N 8 "$1" | tr -d ' '; }
number() { tr -d ' ,"' <out | sed -n "s/^$1://p"; } # of the JSON in out
count_at() { echo $((refblock + 2 * $1)); }            # of a cluster, in the one refcount block
set_count() { printf '%b' "\\x00\\x0$3" | dd of="$1" bs=1 seek="$(count_at "$2")" conv=notrunc status=none; }
free_of() { # IMAGE: its clusters with a count of 0
	od -An -v -w2 -t u2 --endian=big -j "$refblock" -N $((2 * clusters)) "$1" | awk '$1 == 0 { print NR - 1 }'
}
litter() { # FILE CLUSTER...: with somebody's bytes
	python3 -c '
import sys
junk = open(sys.argv[1], "rb").read(65536)
with open(sys.argv[2], "r+b") as image:
    for cluster in sys.argv[3:]:
        image.seek(int(cluster) << 16)
        image.write(junk)' "$QSNAP" "$@"
}
refblock=$(be64 sound "$(be64 sound 48)")
clusters=$((($(stat -c %s sound) + 65535) / 65536))

# what was freed is full of somebody's bytes, three clusters behind the end are counted as in use, and more follow
cp sound image
mapfile -t free < <(free_of sound)
same "there are free clusters" "$((${#free[@]} > 100))" 1
for ((i = clusters; i < clusters + 3; i++)); do set_count image $i 1; done
litter image "${free[@]}" $clusters $((clusters + 1)) $((clusters + 2))
head -c 1000000 "$QSNAP" >>image
sync image
cp image wasteful
size=$(stat -c %s image)
before=$(blocks image)
ok "trim" "$QSNAP" trim --output=json image
same "... frees what nothing refers to" "$(number leaked-bytes-freed)" $((3 * 65536))
same "... cuts the tail off" "$(number bytes-truncated)" $((size - $(stat -c %s image)))
same "... all of it" "$(($(number bytes-truncated) >= 3 * 65536 + 1000000))" 1
gone=$(($(number bytes-punched) + $(number bytes-truncated)))
if [ "$(number bytes-punched)" -gt 0 ]; then
	same "... and the file takes so much less" "$(((before - $(blocks image)) * 512 >= gone * 9 / 10))" 1
else
	skip "holes" "no holes on this file system"
fi
ok "no guest's bytes changed" "$QSNAP" compare image sound.raw
"$QSNAP" convert -l first -O raw image after.raw
ok "... nor the snapshot's" cmp first.raw after.raw
ok "sound" "$QSNAP" check image
same "the bitmap is there" "$("$QSNAP" info --output=json image | grep -c '"name": "kept"')" 1
if peer; then
	ok "sound for qemu-img" "$peer" check image
	ok "... with the same bytes" "$peer" compare image sound.raw
	same "... and the bitmap" "$("$peer" info --output=json image | grep -c '"name": "kept"')" 1
fi
cp image trimmed
ok "a second time" "$QSNAP" trim image
same "... there is nothing to do" "$(cat out)" "Leaked clusters freed: 0 bytes
Holes punched: 0 bytes
Tail cut off: 0 bytes"
ok "... and nothing is done" cmp image trimmed
ok "-q" "$QSNAP" trim -q -f qcow2 image
same "... prints nothing" "$(cat out)" ""
ok "-p" "$QSNAP" trim -p image
says "100"

# nothing is changed where anything but leaks is wrong
refused() { # NAME MESSAGE
	cp damaged before
	fails 1 "$1" "$QSNAP" trim damaged
	says "$2"
	ok "... and nothing was changed" cmp damaged before
}
cp wasteful damaged
set_count damaged 0 0
refused "a count that is too low" "ERROR cluster 0 refcount=0 reference=1"
cp wasteful damaged
l2=$(($(be64 damaged "$(be64 damaged 40)") & 0xfffffffffffe00))
printf '\x80\0\x7f\0\0\0\0\0' | dd of=damaged bs=1 seek=$((l2 + 8 * 20)) conv=notrunc status=none
refused "an entry behind the end" "exceeding the end of the file"
cp wasteful damaged
printf '\x02' | dd of=damaged bs=1 seek=79 conv=notrunc status=none
refused "an image marked as corrupt" "corrupt"
cp sound.raw damaged
truncate -s 1M damaged
fails 1 "a raw image" "$QSNAP" trim -f raw damaged
says "not a qcow2 image"
fails 1 "no image" "$QSNAP" trim
fails 1 "two images" "$QSNAP" trim image sound

# a count that was not written before a crash, and the image says so
cp wasteful dirty
set_count dirty $((clusters - 1)) 0
printf '\x01' | dd of=dirty bs=1 seek=79 conv=notrunc status=none
ok "a dirty image" "$QSNAP" trim dirty
ok "... is sound" "$QSNAP" check dirty
ok "... and reads the same" "$QSNAP" compare dirty sound.raw

if peer; then
	cp wasteful busy
	hold "${peer%-img}-io" -f qcow2 busy
	fails 1 "an image in use" "$QSNAP" trim busy
	says "lock"
	let_go
fi

# the file alone: an external data file is not needed
"$QSNAP" create -q -f qcow2 -o data_file=outside.raw split.qcow2 4M
"$QSNAP" io -f qcow2 -c "write -P 5 0 1M" split.qcow2 >/dev/null
head -c 300000 "$QSNAP" >>split.qcow2
mv outside.raw elsewhere
ok "with an external data file" "$QSNAP" trim split.qcow2
mv elsewhere outside.raw
ok "... the metadata are sound" "$QSNAP" check split.qcow2
same "... and it reads the same" "$("$QSNAP" io -f qcow2 -c 'read -P 5 0 1M' split.qcow2 | grep -c 'erification failed')" 0

# a block device keeps its length; what is free of it goes back to what is below
truncate -s 80M below
if [ "$(id -u)" = 0 ] && loop=$(losetup -f --show below 2>/dev/null); then
	trap 'losetup -d $loop' EXIT
	dd if=sound of="$loop" bs=1M conv=notrunc,fsync status=none
	litter "$loop" "${free[@]}"
	head -c 3000000 "$QSNAP" | dd of="$loop" bs=65536 seek=$((70 * 16)) conv=notrunc,fsync status=none
	was=$(blocks below)
	run "$QSNAP" trim --output=json -f qcow2 "$loop"
	if grep -q 'takes no parts of it back' err; then
		skip "trim on a device" "loop devices of this kernel cannot punch"
	else
		same "a device" "$status" 0
		same "... is not cut" "$(number bytes-truncated) $(blockdev --getsize64 "$loop")" "0 83886080"
		same "... gives back what is free" "$(($(number bytes-punched) > 3000000 && was - $(blocks below) > 3000000 / 512))" 1
		ok "... and holds the same disk" "$QSNAP" compare -q -f qcow2 -F raw "$loop" sound.raw
		ok "... the same snapshot" "$QSNAP" convert -f qcow2 -l first -O raw "$loop" first.got
		ok "... byte for byte" cmp first.got first.raw
		ok "... and is sound" "$QSNAP" check -q -f qcow2 "$loop"
	fi
else
	skip "trim on a device" "no loop device here"
fi

# killed at some moment, again and again
for n in $(seq 20); do
	cp wasteful image
	"$QSNAP" trim -q image >/dev/null 2>&1 &
	trim=$!
	sleep "0.00$((n % 10))"
	kill -9 $trim 2>/dev/null
	wait $trim 2>/dev/null
	"$QSNAP" compare -q image sound.raw || bad "killed, round $n" "other content"
	"$QSNAP" trim -q image || bad "killed, round $n" "not to be trimmed"
	"$QSNAP" check -q image || bad "killed, round $n" "not clean"
done
good "killed at any moment"
finish

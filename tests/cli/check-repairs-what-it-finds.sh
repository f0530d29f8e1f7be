#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sanitizers: no
#
# check -r: what it prints, its status, and that it keeps out of images in use; killed at any moment it leaves an image that can be
# repaired (FORMAT.md §12.5).
. "$(dirname "$0")/lib.sh"

"$QSNAP" create -q -f qcow2 good 8M || exit 1
"$QSNAP" io -f qcow2 -c "write -P 7 0 1M" -c "write -P 9 3M 200k" good >/dev/null || exit 1
"$QSNAP" convert -f qcow2 -O raw good good.raw || exit 1

be64() { od -An -t u8 --endian=big -j "$1" -N 8 good | tr -d ' '; }
refblock=$(be64 "$(be64 48)") # 16 bits a cluster
l2=$(($(be64 "$(be64 40)") - (1 << 63)))
damage() { # FILE CLUSTER COUNT
	printf '%b' "\\x00\\x0$3" | dd of="$1" bs=1 seek=$((refblock + 2 * $2)) conv=notrunc status=none
}
same_content() {
	"$QSNAP" convert -f qcow2 -O raw "$1" content && cmp -s content good.raw
}

cp good leaked
damage leaked 6 2
cp leaked kept
fails 2 "a count that is too high is found" "$QSNAP" check leaked
ok "... and lowered" "$QSNAP" check -r leaks leaked
same "... findings" "$(cat err)" "Leaked cluster 6 refcount=2 reference=1
Repairing cluster 6 refcount=2 reference=1"
same "... and sums" "$(head -n 8 out)" "The following inconsistencies were found and repaired:

    1 leaked clusters
    0 corruptions

Double checking the fixed image now...
No errors were found on the image.
20/128 = 15.62% allocated, 0.00% fragmented, 0.00% compressed clusters"
ok "... as it was made" cmp leaked good
ok "nothing to do" "$QSNAP" check -r all leaked
same "... says so" "$(head -n 1 out)" "No errors were found on the image."
ok "... and does nothing" cmp leaked good

cp kept leaked
ok "-q" "$QSNAP" check -q -r all leaked
same "... prints no sums" "$(cat out)" ""
cp kept leaked
ok "JSON" "$QSNAP" check -r all --output=json leaked
same "... has what was fixed" "$(grep -E 'fixed|leaks"|corruptions"' out | tr -d ' \n')" '"leaks-fixed":1,"corruptions-fixed":0,'

cp good low
damage low 7 0
fails 1 "leaks alone are not repaired when a cluster in use is free" "$QSNAP" check -r leaks low
says "ERROR need to rebuild refcount structures"
ok "... all is" "$QSNAP" check -r all low
says "1 corruptions"
ok "... as it was made" cmp low good

cp good entry
# the L2 entry of guest cluster 20 leads behind the end of the file
printf '\x80\0\x7f\0\0\0\0\0' | dd of=entry bs=1 seek=$((l2 + 8 * 20)) conv=notrunc status=none
fails 2 "what would be guessing is left" "$QSNAP" check -r all entry
says "exceeding the end of the file"

cp kept leaked
chmod a-w leaked
if [ "$(id -u)" != 0 ]; then
	fails 1 "a file that may not be written to" "$QSNAP" check -r all leaked
fi
chmod u+w leaked

if peer; then
	cp kept leaked
	hold "${peer%-img}-io" -f qcow2 leaked
	fails 1 "an image in use" "$QSNAP" check -r all leaked
	says "lock"
	let_go
	ok "... and when it is not any more" "$QSNAP" check -q -r all leaked
else
	skip "an image in use" "no qemu-img"
fi

# killed at some moment, again and again
for n in $(seq 30); do
	cp good many
	for i in 0 1 2 3 5 7 9 12 20 300 400; do
		damage many $i $((n % 3))
	done
	"$QSNAP" check -q -r all many >/dev/null 2>&1 &
	repair=$!
	sleep "0.00$((n % 10))"
	kill -9 $repair 2>/dev/null
	wait $repair 2>/dev/null
	same_content many || bad "killed, round $n" "other content"
	"$QSNAP" check -q -r all many 2>/dev/null || bad "killed, round $n" "not repaired"
	"$QSNAP" check -q many || bad "killed, round $n" "not clean"
	same_content many || bad "killed, round $n" "other content after the repair"
done
good "killed at any moment"
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# diff: ranges that differ between snapshots, the active state and the backing file; names of snapshots; images that change or
# go away meanwhile.
. "$(dirname "$0")/lib.sh"
for tool in qemu-img qemu-io python3; do
	command -v $tool > /dev/null || { echo "$tool is not installed"; exit 77; }
done

qemu-img create -q -f qcow2 base.qcow2 10M
qemu-io -c 'write -q -P 9 0 6M' base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 20M
qemu-io -c 'write -q -P 1 0 2M' -c 'write -q -P 1 12M 1M' top.qcow2
qemu-img snapshot -c monday top.qcow2
qemu-io -c 'write -q -P 2 1M 128k' -c 'write -q -z 4M 1M' -c 'write -q -z 8M 1M' -c 'discard -q 12M 64k' top.qcow2
qemu-img snapshot -c tuesday top.qcow2
qemu-img resize -q top.qcow2 30M
qemu-io -c 'write -q -P 3 29M 64k' top.qcow2

text() { # what `diff` prints behind its head, blanks made one
	run "$QSNAP" diff "$@"
	sed -n '2,$s/  */ /gp' out | tr '\n' ';'
}
same "two snapshots" "$(text --from monday --to tuesday top.qcow2)" \
	"0x100000 0x20000 data;0x400000 0x100000 zero;0xc00000 0x10000 zero;"
same "... the other way round" "$(text --from tuesday --to monday top.qcow2)" \
	"0x100000 0x20000 data;0x400000 0x100000 backing;0xc00000 0x10000 data;"
same "a snapshot and the active state" "$(text --from tuesday top.qcow2)" \
	"0x1400000 0x900000 zero, only in active;0x1d00000 0x10000 data, only in active;0x1d10000 0xf0000 zero, only in active;"
same "... the other way round" "$(text --from active --to tuesday top.qcow2)" "0x1400000 0xa00000 gone, only in active;"
same "what the image has over its backing file" "$(text --from backing --to monday top.qcow2)" \
	"0 0x200000 data;0xc00000 0x100000 data;"
same "nothing" "$(text --from monday --to monday top.qcow2)" ""
run "$QSNAP" diff --from monday --to tuesday --json top.qcow2
same "JSON" "$(tr -d '\n ' < out)" "[$(printf '{"start":%d,"length":%d,"zero":%s,"data":%s,"backing":false,"from":true,"to":true}' \
	1048576 131072 false true 4194304 1048576 true false 12582912 65536 true false | sed 's/}{/},{/g')]"
cp out json
run "$QSNAP" diff --from monday --to tuesday --output json top.qcow2
same "--output json is the same" "$(cat out)" "$(cat json)"
run "$QSNAP" diff --from monday --to monday --json top.qcow2
same "no difference is an empty array" "$(cat out)" "[]"
"$QSNAP" diff --from monday --json top.qcow2 > json
ok "JSON is JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' json

# names
qemu-img snapshot -c 1 top.qcow2
fails 1 "an id that is another's name" "$QSNAP" diff --from 1 top.qcow2
says "the snapshot is not unique: id '1' name 'monday', id '3' name '1'"
same "id=" "$(text --from id=1 --to tuesday top.qcow2)" "$(text --from monday --to tuesday top.qcow2)"
same "name=" "$(text --from name=1 top.qcow2)" ""
fails 1 "convert -l takes names the same way" "$QSNAP" convert -l 1 -O raw top.qcow2 out.raw
says "not unique"
ok "... with id=" "$QSNAP" convert -l id=1 -O raw top.qcow2 out.raw
"$QSNAP" convert -l monday -O raw top.qcow2 monday.raw
ok "... which is the one" cmp out.raw monday.raw
qemu-img snapshot -c monday top.qcow2
fails 1 "two of one name" "$QSNAP" diff --from monday top.qcow2
says "id '1' name 'monday', id '4' name 'monday'"
ln -s "$QSNAP" qemu-img
ok "as qemu-img the first is taken" ./qemu-img convert -l monday -O raw top.qcow2 out.raw

# what cannot be
fails 1 "an unknown snapshot" "$QSNAP" diff --from nosuch top.qcow2
says "top.qcow2: Could not find snapshot 'nosuch'"
fails 1 "an unknown later one" "$QSNAP" diff --from tuesday --to nosuch top.qcow2
fails 1 "--from is needed" "$QSNAP" diff top.qcow2
says "--from"
fails 1 "--to backing makes no sense" "$QSNAP" diff --from tuesday --to backing top.qcow2
fails 1 "a raw image has no states" "$QSNAP" diff -f raw --from a monday.raw
says "a raw image has no snapshots"
fails 1 "no image" "$QSNAP" diff --from a
fails 1 "an image that is not there" "$QSNAP" diff --from a nosuch.qcow2
same "an image without a backing file, all of it" "$(text --from backing base.qcow2)" "0 0x600000 data;"

# an image in use
hold qemu-io top.qcow2
fails 1 "an image that somebody writes to" "$QSNAP" diff --from id=1 --to tuesday top.qcow2
says "lock"
same "... its snapshots with -U" "$(text -U --from id=1 --to tuesday top.qcow2)" \
	"0x100000 0x20000 data;0x400000 0x100000 zero;0xc00000 0x10000 zero;"
let_go

# a snapshot deleted while it is looked at: more is printed than the pipe takes before its reader begins to read
qemu-img create -q -f qcow2 -o cluster_size=512 many.qcow2 16M
qemu-img snapshot -c a many.qcow2
for ((i = 0; i < 2000; i++)); do echo "write -q -P 1 $((i * 1024)) 512"; done | qemu-io -t unsafe many.qcow2 > io.out
qemu-img snapshot -c b many.qcow2
mkfifo pipe
"$QSNAP" diff -U --from a --to b --json many.qcow2 > pipe 2> diff.err &
diff=$!
exec 3< pipe
for ((i = 0; i < 250; i++)); do
	[ "$(sed -n 's/^State:\t\(.\).*/\1/p' /proc/$diff/status)" = S ] && break
	sleep 0.02
done
ok "a stock tool deletes the snapshot meanwhile" qemu-img snapshot -d a many.qcow2
cat <&3 > diff.out
exec 3<&-
got=0
wait $diff || got=$?
same "deleted: status" $got 1
same "... and the message tells" "$(grep -c "snapshot 'a' is not there any more" diff.err)" 1
ok "nobody deletes: status 0" "$QSNAP" diff -U --from b --json many.qcow2
finish

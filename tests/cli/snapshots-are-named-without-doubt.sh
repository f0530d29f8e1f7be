#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# snapshot: by id or by name, never by guess; options that go together; what is refused leaves the file as it was.
. "$(dirname "$0")/lib.sh"

names() { "$QSNAP" snapshot -l "$1" | awk 'NR > 2 { printf "%s:%s ", $1, $2 }'; }

"$QSNAP" create -q -f qcow2 disk.qcow2 1M
for name in one 3 two; do
	ok "take $name" "$QSNAP" snapshot -c "$name" disk.qcow2
done
same "ids count up" "$(names disk.qcow2)" "1:one 2:3 3:two "
ok "a name twice" "$QSNAP" snapshot -c one disk.qcow2
cp disk.qcow2 before.qcow2
for action in -a -d; do
	fails 1 "$action: one's id, another's name" "$QSNAP" snapshot $action 3 disk.qcow2
	says "the snapshot is not unique: id '2' name '3', id '3' name 'two'"
	fails 1 "$action: a name that two have" "$QSNAP" snapshot $action one disk.qcow2
	says "the snapshot is not unique: id '1' name 'one', id '4' name 'one'"
	fails 1 "$action: name= does not help there" "$QSNAP" snapshot $action name=one disk.qcow2
	says "id '4' name 'one'"
	fails 1 "$action: nobody's id" "$QSNAP" snapshot $action id=one disk.qcow2
done
ok "nothing was changed" cmp disk.qcow2 before.qcow2
fails 1 "convert -l of an ambiguous name" "$QSNAP" convert -l 3 -O raw disk.qcow2 out.raw
says "the snapshot is not unique"
ok "go back by id=" "$QSNAP" snapshot -a id=3 disk.qcow2
ok "delete by name=" "$QSNAP" snapshot -d name=3 disk.qcow2
ok "delete by id" "$QSNAP" snapshot -d 4 disk.qcow2
ok "what is left has one name" "$QSNAP" snapshot -a one disk.qcow2
ok "and the id is unique now" "$QSNAP" snapshot -d 3 disk.qcow2
same "one is left" "$(names disk.qcow2)" "1:one "
ok "the next id counts on from the highest" "$QSNAP" snapshot -c more disk.qcow2
same "two are left" "$(names disk.qcow2)" "1:one 2:more "
ok "check" "$QSNAP" check -q disk.qcow2

ln -s "$QSNAP" qemu-img
fails 1 "qemu-img -d does not know ids" ./qemu-img snapshot -d 2 disk.qcow2
says "qemu-img: Could not delete snapshot '2': snapshot not found"
ok "qemu-img -a does" ./qemu-img snapshot -a 2 disk.qcow2
ok "qemu-img -d knows names" ./qemu-img snapshot -d more disk.qcow2

fails 1 "two actions" "$QSNAP" snapshot -c a -d one disk.qcow2
says "Cannot mix '-l', '-a', '-c', '-d'"
fails 1 "-U and a change" "$QSNAP" snapshot -U -c a disk.qcow2
says "force-share=on can only be used with read-only images"
fails 1 "no image" "$QSNAP" snapshot -c a
truncate -s 1M disk.raw
fails 1 "a raw image" "$QSNAP" snapshot -f raw -c a disk.raw
says "Could not create snapshot 'a': Operation not supported"
"$QSNAP" create -q -f qcow2 -o data_file=data.raw external.qcow2 1M
fails 1 "an external data file" "$QSNAP" snapshot -c a external.qcow2
says "an image with an external data file has no internal snapshots"
ok "-l --json of no snapshots" "$QSNAP" snapshot -l --json external.qcow2
same "is an empty list" "$(tr -d ' \n' <out)" "[]"
"$QSNAP" create -q -f qcow2 -o refcount_bits=1 narrow.qcow2 1M
"$QSNAP" io -f qcow2 -c 'write -P 7 0 64k' narrow.qcow2 >/dev/null
cp narrow.qcow2 before.qcow2
fails 1 "a count that does not fit" "$QSNAP" snapshot -c a narrow.qcow2
says "refcounts of 1 bits cannot hold; nothing was changed (--widen: 2 bits would do)"
ok "nothing was" cmp narrow.qcow2 before.qcow2
ok "--widen" "$QSNAP" snapshot -c a --widen narrow.qcow2
same "2 bits" "$("$QSNAP" info narrow.qcow2 | grep -c 'refcount bits: 2')" 1
ok "check" "$QSNAP" check -q narrow.qcow2
ok "without threads" "$QSNAP" snapshot -c b --threads 0 --widen narrow.qcow2
ok "--untrusted changes the one file" "$QSNAP" --untrusted snapshot -f qcow2 -c c --widen narrow.qcow2
same "three" "$(names narrow.qcow2)" "1:a 2:b 3:c "
# three snapshots share what the disk has no more: going back to one needs a count of 4
"$QSNAP" io -f qcow2 -c 'write -P 8 0 64k' narrow.qcow2 >/dev/null
ok "3 fits into 2 bits" "$QSNAP" amend -f qcow2 -o refcount_bits=2 narrow.qcow2
cp narrow.qcow2 before.qcow2
fails 1 "-a that does not fit" "$QSNAP" snapshot -a b narrow.qcow2
says "refcounts of 2 bits cannot hold; nothing was changed (--widen: 4 bits would do)"
ok "nothing was" cmp narrow.qcow2 before.qcow2
ok "-a --widen" "$QSNAP" snapshot -a b --widen narrow.qcow2
ok "is the old disk" "$QSNAP" io -f qcow2 -c 'read -P 7 0 64k' narrow.qcow2
ok "check" "$QSNAP" check -q narrow.qcow2
finish

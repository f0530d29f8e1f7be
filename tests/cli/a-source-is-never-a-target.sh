#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A target that is one of the files a source is read from is refused, by whatever name, and nothing is changed.
. "$(dirname "$0")/lib.sh"
mkdir images elsewhere
head -c 2M /dev/urandom >images/base.raw
# a data file's name starts at the current folder
"$QSNAP" convert -f raw -O qcow2 -o data_file=images/outside.data images/base.raw images/outside.qcow2
cd images || exit 1
"$QSNAP" create -q -f qcow2 -b base.raw -F raw middle.qcow2
"$QSNAP" create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2
ln base.raw ../elsewhere/hard
ln -s ../images/base.raw ../elsewhere/soft
ln -s soft ../elsewhere/softer
ln -s ../images ../elsewhere/folder
cd .. || exit 1
state() { (cd images && sha256sum -- * && stat -c '%n %i %Y %s %a' -- *) && ls -A elsewhere; }
before=$(state)

refused() { # NAME TARGET ARGUMENTS...
	local name=$1 target=$2
	shift 2
	fails 1 "$name" "$QSNAP" convert "$@" "$target"
	says "the target is"
	same "... nothing is changed" "$(state)" "$before"
}
for options in "-O raw" "-O qcow2" "-O qcow2 -c" "-n -O raw" "-U -O raw"; do
	# shellcheck disable=SC2086 # options are words
	refused "the source itself: $options" images/base.raw -f raw $options images/base.raw
done
refused "the source by another way to it" ./images/../images/top.qcow2 -O raw images/top.qcow2
refused "... its full path" "$PWD/images/top.qcow2" -O raw images/top.qcow2
refused "... a folder's symlink" elsewhere/folder/top.qcow2 -O raw images/top.qcow2
refused "... file:" images/base.raw -f raw -O raw file:images/base.raw
refused "... json:" images/base.raw -O raw 'json:{"driver":"raw","file":{"driver":"file","filename":"images/base.raw"}}'
refused "its backing file" images/middle.qcow2 -O raw images/top.qcow2
refused "the backing file of that" images/base.raw -O raw images/top.qcow2
refused "... by a hard link" elsewhere/hard -O raw images/top.qcow2
refused "... by a symlink" elsewhere/soft -O raw images/top.qcow2
refused "... by a symlink to that" elsewhere/softer -O qcow2 images/top.qcow2
refused "its data file" images/outside.data -O raw images/outside.qcow2
refused "the second of two sources" images/base.raw -O raw images/outside.qcow2 images/base.raw
refused "the new data file is a backing file" new.qcow2 -O qcow2 -o data_file=elsewhere/soft images/top.qcow2
same "... and there is no new image" "$(ls -A)" "$(printf '%s\n' elsewhere err images out)"
fails 1 "dd onto its source" "$QSNAP" dd -f raw if=images/base.raw of=elsewhere/hard
same "... nothing is changed" "$(state)" "$before"
fails 1 "create over its backing file" "$QSNAP" create -q -f qcow2 -b base.raw -F raw images/base.raw
same "... nothing is changed" "$(state)" "$before"
fails 1 "... by another name" "$QSNAP" create -q -f qcow2 -b ../images/base.raw -F raw elsewhere/hard
same "... nothing is changed" "$(state)" "$before"
ok "a copy is no source" cp images/base.raw elsewhere/copy
ok "... and may be a target" "$QSNAP" convert -O raw images/top.qcow2 elsewhere/copy

if [ "$(id -u)" = 0 ] && loop=$(losetup -f --show images/base.raw 2>/dev/null); then
	trap 'losetup -d $loop' EXIT
	fails 1 "a block device as its own target" "$QSNAP" convert -f raw -O raw -n "$loop" "$loop"
	says "the target is"
	mknod node b "$((0x$(stat -c %t "$loop")))" "$((0x$(stat -c %T "$loop")))"
	fails 1 "... by another node" "$QSNAP" convert -f raw -O raw -n "$loop" node
	says "the target is"
else
	skip "a block device as its own target" "there is no loop device for us"
fi
finish

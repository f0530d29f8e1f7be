#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# resize, rebase and commit killed at any moment: the disk reads as before (after resize: with the old size or the new), and
# qemu-img's check finds nothing but leaks once the image was opened again.
# time limit: 300
# sanitizers: no
. "$(dirname "$0")/lib.sh"
command -v qemu-io >/dev/null || { echo "there is no qemu-io" && exit 77; }

"$QSNAP" create -q -f raw base.raw 12M
qemu-io -f raw -c 'write -P 9 0 10M' base.raw >/dev/null
"$QSNAP" create -q -f qcow2 -o cluster_size=4k -b base.raw -F raw mid.orig 14M
"$QSNAP" create -q -f qcow2 -o cluster_size=4k -b mid.qcow2 -F qcow2 -u top.orig 16M
cp mid.orig mid.qcow2 && cp top.orig top.qcow2
qemu-io -c 'write -P 1 1M 3M' -c 'write -z 6M 1M' -c 'write -P 2 12M 2M' mid.qcow2 >/dev/null
qemu-io -c 'write -P 3 0 2M' -c 'write -P 4 8M 2M' -c 'write -z 3M 1M' -c 'write -P 5 13M 3M' top.qcow2 >/dev/null
mv mid.qcow2 mid.orig && mv top.qcow2 top.orig
cp mid.orig mid.qcow2 && "$QSNAP" convert -f qcow2 -O raw top.orig want
"$QSNAP" convert -f qcow2 -O raw top.orig want.longer && truncate -s 20M want.longer

killed=0
round() { # MILLISECONDS WORDS: kills it after that time, says whether it was still at work
	cp mid.orig mid.qcow2 && cp top.orig top.qcow2 && cp base.orig base.raw
	"$QSNAP" "${@:2}" >/dev/null 2>&1 &
	local pid=$!
	sleep "$(printf '0.%03d' "$1")"
	if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); fi
	wait $pid 2>/dev/null
}
holds() { # NAME: one of the wanted disks, in images that can be put right
	local wanted=want
	[ "$("$QSNAP" info --output=json top.qcow2 | grep -m1 -c '"virtual-size": 20971520')" = 0 ] || wanted=want.longer
	"$QSNAP" compare -q -F raw top.qcow2 $wanted || bad "$1" "the disk is another one"
	for image in mid.qcow2 top.qcow2; do
		"$QSNAP" check -q -r all -f qcow2 $image >/dev/null 2>&1 || bad "$1" "$image cannot be put right"
		qemu-img check -q $image >/dev/null || bad "$1" "qemu-img finds errors in $image"
	done
	"$QSNAP" compare -q -F raw top.qcow2 $wanted || bad "$1" "the disk is another one after the repair"
}
cp base.raw base.orig
rounds=12
[ "${LONG:-0}" = 0 ] || rounds=100
for verb in "resize -f qcow2 --preallocation=full top.qcow2 20M" "rebase -f qcow2 -b base.raw -F raw top.qcow2" \
	"rebase -f qcow2 -c -b base.raw -F raw top.qcow2" "commit -f qcow2 top.qcow2" "commit -f qcow2 -b base.raw top.qcow2"; do
	before=$failures
	for ((i = 0; i < rounds; i++)); do
		# shellcheck disable=SC2086 # words
		round $((1 + RANDOM % 30)) $verb
		holds "$verb, killed"
	done
	[ "$failures" != "$before" ] || good "$verb, killed at any moment, leaves the disk"
done
same "some were killed at work" "$((killed > rounds / 2))" 1
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Clouds run these commands under 1 GiB of address space and 30 s of CPU: that must do, also for the largest disks that an image
# may have. No map is made of a petabyte, and no thread gets a stack that nobody uses.
# sanitizers: no
. "$(dirname "$0")/lib.sh"
within() { (ulimit -v 1048576 && ulimit -t 30 && exec "$QSNAP" "$@"); }

"$QSNAP" create -q -f qcow2 -o cluster_size=2M petabyte.qcow2 1P || exit 1
"$QSNAP" create -q -f qcow2 -o cluster_size=512 small-clusters.qcow2 100G || exit 1
"$QSNAP" create -q -f qcow2 -o preallocation=metadata metadata.qcow2 256G || exit 1
head -c 3000000 "$QSNAP" >data.raw && truncate -s 16M data.raw
"$QSNAP" convert -f raw -O qcow2 -c data.raw compressed.qcow2 || exit 1

for image in petabyte small-clusters metadata compressed; do
	for verb in "info" "info --output=json" "check" "map --output=json" "measure -O qcow2" "snapshot -l"; do
		# shellcheck disable=SC2086  # words are wanted
		ok "$verb of $image" within $verb $image.qcow2
	done
	ok "compare of $image" within compare $image.qcow2 $image.qcow2
	ok "convert of $image" within convert -O qcow2 -o cluster_size=2M $image.qcow2 out.qcow2
	ok "convert of $image with 16 threads" within convert --threads 16 -c -O qcow2 -o cluster_size=2M $image.qcow2 out.qcow2
	ok "... is sound" within check -q out.qcow2
done

cp petabyte.qcow2 l1.qcow2 && printf '\200\0\0\0' | dd of=l1.qcow2 bs=1 seek=36 conv=notrunc status=none
for verb in info check "map --output=json" "convert -O raw"; do
	# shellcheck disable=SC2086
	target=
	[ "$verb" != "convert -O raw" ] || target=out.raw
	fails 1 "$verb with an L1 table of 2^31 entries" within $verb l1.qcow2 ${target:+"$target"}
done
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every command of README.md's examples, one after the other.
. "$(dirname "$0")/lib.sh"
if ! peer; then
	echo "qemu-img makes the images of this test, and there is none"
	exit 77
fi
# what --untrusted confines cannot be looked at by the leak checker
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
mkdir bin && ln -s "$QSNAP" bin/qsnap
PATH=$PWD/bin:$PATH
head -c 3000000 "$QSNAP" >base.raw && truncate -s 4M base.raw
"$peer" convert -f raw -O qcow2 -c base.raw base.qcow2
"$peer" create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
qemu-io -c 'write -q -P 1 1M 200k' top.qcow2
"$peer" snapshot -c monday top.qcow2
qemu-io -c 'write -q -P 2 2M 200k' top.qcow2

# shellcheck disable=SC2016  # the marks of a code block
examples() { sed -n '/^```sh$/,/^```$/p' "$TREE/README.md" | grep -v '^```'; }
count=0
while IFS= read -r line; do
	case $line in '#'* | '') continue ;; esac
	count=$((count + 1))
	ok "$line" bash -o pipefail -c "$line"
done < <(examples)
same "README.md has examples" "$((count > 10))" 1
ok "the flattened disk is the chain's" "$peer" compare -q top.qcow2 disk.raw
ok "... compressed, too" "$peer" compare -q top.qcow2 tight.qcow2
ok "... and through the overlay" "$peer" compare -q top.qcow2 overlay.qcow2
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A snapshot that is deleted, or deleted and made again under the same name, while it is read out: no output, status 1. The
# backing files under an extraction cannot be committed into; other snapshots may come and go.
. "$(dirname "$0")/lib.sh"
for tool in qemu-img qemu-io; do
	command -v $tool > /dev/null || { echo "$tool is not installed"; exit 77; }
done

qemu-img create -q -f qcow2 base.qcow2 16M
qemu-io -c 'write -q -P 9 0 16M' base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 start.qcow2 16M
qemu-io -c 'write -q -P 1 0 8M' start.qcow2
qemu-img snapshot -c keep start.qcow2
qemu-io -c 'write -q -P 2 1M 2M' start.qcow2
qemu-img snapshot -c other start.qcow2
"$QSNAP" convert -O raw -l keep start.qcow2 wanted.raw

# reads slowly in the background, and is surely in the middle when `middle` returns
begin() { # MODE TARGET
	cp start.qcow2 src.qcow2
	rm -f target "$2"
	"$QSNAP" convert -U --threads 0 -r 8M -l keep -O "$1" src.qcow2 "$2" > reader.out 2> reader.err < /dev/null &
	reader=$!
	for ((i = 0; i < 100; i++)); do
		grep -q "$(stat -c %i src.qcow2)" /proc/locks && break
		sleep 0.02
	done
	sleep 0.3
	kill -0 $reader 2> /dev/null || bad "the reader is still reading" "it ended: $(cat reader.err)"
}
ends() { # STATUS NAME
	local got=0
	wait $reader || got=$?
	same "$2: status" $got "$1"
}

for mode in raw qcow2; do
	begin $mode target.$mode
	ok "$mode: a stock tool deletes the snapshot meanwhile" qemu-img snapshot -d keep src.qcow2
	ends 1 "$mode: deleted"
	same "$mode: deleted: nothing is left" "$(compgen -G 'target*' | wc -l)" 0
	same "$mode: deleted: the message tells" "$(grep -c 'napshot' reader.err)" 1

	begin $mode target.$mode
	qemu-img snapshot -d keep src.qcow2 && qemu-io -c 'write -q -P 7 0 1M' src.qcow2 && qemu-img snapshot -c keep src.qcow2
	ends 1 "$mode: made again under the same name"
	same "$mode: made again: nothing is left" "$(compgen -G 'target*' | wc -l)" 0

	begin $mode target.$mode
	ok "$mode: another snapshot may go" qemu-img snapshot -d other src.qcow2
	ok "$mode: and one may come" qemu-img snapshot -c new src.qcow2
	fails 1 "$mode: a commit into the backing file is refused" qemu-img commit -q src.qcow2
	fails 1 "$mode: so is any write there" qemu-io -c 'write -P 5 0 64k' base.qcow2
	ends 0 "$mode: undisturbed"
	ok "$mode: the content is the snapshot's" "$QSNAP" compare wanted.raw target.$mode
	rm -f target.$mode
done
finish

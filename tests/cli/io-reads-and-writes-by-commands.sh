#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `qsnap io`: what each command does and says, when the status is 1, and what it refuses.
. "$(dirname "$0")/lib.sh"

fresh() {
	rm -f base.raw top.qcow2
	head -c 1M /dev/zero | tr '\0' '\7' >base.raw
	"$QSNAP" create -q -f qcow2 -b base.raw -F raw -o cluster_size=4k top.qcow2 2M
}
io() { "$QSNAP" io -f qcow2 "$@"; }

fresh
ok "a pattern is written" io -c 'write -P 3 4096 8k' top.qcow2
same "... told as qemu-io does" "$(cat out)" "wrote 8192/8192 bytes at offset 4096"
ok "... and read" io -c 'read -P 3 0x1000 8k' -c 'read -P7 0 4k' -c 'r -P 7 12k 4k' top.qcow2
same "... and told" "$(head -n 1 out)" "read 8192/8192 bytes at offset 4096"
fails 1 "other bytes than the pattern" io -c 'read -P 3 4k 12k' -c length top.qcow2
says "Pattern verification failed at offset 4096, 12288 bytes"
says "0x07 instead of 0x03 at offset 12288"
says "2 MiB"
ok "bytes are shown" io -c 'read -v 4094 4' top.qcow2
says "00000ffe:  07 07 03 03"
ok "-q says nothing" io -c 'write -q 0 1' -c 'read -q 0 1' -c 'discard -q 0 1' top.qcow2
same "... nothing at all" "$(cat out err)" ""
ok "-q before the image, too" io -q -c 'write 0 1' top.qcow2
same "... nothing either" "$(cat out err)" ""
ok "0xcd is the pattern when none is given" io -c 'read -P 0xcd 0 1' top.qcow2

fresh
ok "zeros, discards and compressed clusters" io -c 'write -z 0 6k' -c 'read -P 0 0 6k' -c 'read -P 7 6k 2k' \
	-c 'write -c -P 9 8k 8k' -c 'read -P 9 8k 8k' -c 'write -P 1 32k 8k' -c 'write -zu 32k 4k' -c 'read -P 0 32k 4k' \
	-c 'discard 36k 4k' -c 'read -P 0 36k 4k' -c 'discard 41k 6k' -c 'read -P 7 40k 4k' -c flush top.qcow2
says "discard 4096/4096 bytes at offset 36864"
ok "what is there and what is below" io -r -c map -c 'alloc 0 64k' top.qcow2
says "16 KiB (0x4000) bytes     allocated at offset 0 B (0x0)"
says "16 KiB (0x4000) bytes not allocated at offset 16 KiB (0x4000)"
says "24576/65536 bytes allocated at offset 0 B"
ok "the image is clean" "$QSNAP" check -q top.qcow2

printf '%s\n' '# a line that says nothing' '' 'write -P 5 0 512' 'flush' 'quit' 'read 0 0 0 0' >commands
status=0
io top.qcow2 <commands >out 2>err || status=$?
same "commands come from standard input until quit" "$status $(cat out err)" "0 wrote 512/512 bytes at offset 0"
ok "the disk can be opened again in between" io -c 'write -P 6 0 512' -c reopen -c 'read -P 6 0 512' top.qcow2
run io -c 'write -P 8 0 512' -c flush -c 'write -P 9 1M 512' -c abort top.qcow2
same "abort ends it as a crash does" "$status" 137
ok "... and what was flushed is there" io -c 'read -P 8 0 512' top.qcow2

cp base.raw other.raw
ok "a raw disk" "$QSNAP" io -f raw -c 'write -P 1 0 4k' -c 'write -z 4k 4k' -c 'discard 8k 4k' -c 'read -P 1 0 4k' \
	-c 'read -P 0 4k 8k' -c 'read -P 7 12k 4k' other.raw
ok "... can be longer" "$QSNAP" io -f raw -c 'truncate 2M' -c 'read -P 0 1M 1M' other.raw
same "... which the file is, too" "$(stat -c %s other.raw)" 2097152
fails 1 "... is not changed when it was only guessed" "$QSNAP" io -c 'write 0 1' other.raw
says "say -f raw"
ok "... but read" "$QSNAP" io -r -c 'read -P 1 0 4k' other.raw

# ---- refusals ----
fails 1 "past the end" io -c 'write 2M 1' top.qcow2
says "not within the disk of 2097152 bytes"
fails 1 "half a cluster compressed" io -c 'write -c 0 512' top.qcow2
says "only whole clusters can be compressed"
fails 1 "an unknown command" io -c 'frobnicate' top.qcow2
says 'command "frobnicate" not found'
for words in 'write 0' 'write -y 0 1' 'read -P' 'read 0 1 2' 'flush 1' 'length -q'; do
	fails 1 "'$words'" io -c "$words" top.qcow2
	says "usage: ${words%% *}"
done
fails 1 "a pattern beyond a byte" io -c 'write -P 256 0 1' top.qcow2
fails 1 "zeros with a pattern" io -c 'write -z -P 1 0 1' top.qcow2
fails 1 "compressed zeros" io -c 'write -z -c 0 4k' top.qcow2
fails 1 "writing with -r" io -r -c 'write 0 1' top.qcow2
says "read-only"
fails 1 "-U without -r" io -U -c length top.qcow2
fails 1 "no image" io
fails 1 "an image that is not there" io -c length missing.qcow2
"$QSNAP" check -q top.qcow2 || bad "the image is clean at the end" "$?"
finish

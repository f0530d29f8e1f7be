#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What becomes of a target: its name, mode, owner, links, when all goes well, when the disk is full, when the process is killed,
# when a guest has it open.
. "$(dirname "$0")/lib.sh"
umask 022
head -c 3M /dev/urandom >src.raw
"$QSNAP" convert -q -f raw -O qcow2 src.raw src.qcow2
source_sum=$(sha256sum <src.qcow2)

# ---- names, modes, owners ----
for mask in 022 027 077; do
	rm -f new
	ok "a new file, umask $mask" sh -c "umask $mask && exec '$QSNAP' convert -O raw src.qcow2 new"
	same "... has the mode that the umask leaves" "$(stat -c %a new)" "$(printf %o $((0666 & ~0$mask)))"
done
ok "... and the bytes" cmp new src.raw
echo old >old && chmod 4751 old
mkdir folder && ln -s ../real folder/link && cp -p old real
for format in raw qcow2; do
	cp -p old target
	[ "$(id -u)" != 0 ] || chown 12:34 target
	owner=$(stat -c %u:%g target)
	inode=$(stat -c %i target)
	ok "an existing file is replaced, $format" "$QSNAP" convert -f qcow2 -O $format src.qcow2 target
	same "... keeps its mode" "$(stat -c %a target | tail -c 4)" 751
	same "... and owner" "$(stat -c %u:%g target)" "$owner"
	same "... and is another file" "$(test "$(stat -c %i target)" != "$inode" && echo another)" another
	ok "... with the disk" "$QSNAP" compare -f $format -F raw target src.raw
done
ok "a symlink as target" "$QSNAP" convert -f qcow2 -O raw src.qcow2 folder/link
same "... stays one" "$(readlink folder/link)" ../real
ok "... and what it leads to is new" cmp real src.raw
same "... in its own folder" "$(ls folder)" link
rm real
ok "a symlink to nothing" "$QSNAP" convert -f qcow2 -O raw src.qcow2 folder/link
ok "... makes what it leads to" cmp real src.raw
mkdir locked
fails 1 "a folder as target" "$QSNAP" convert -f qcow2 -O raw src.qcow2 locked
fails 1 "a folder that is not there" "$QSNAP" convert -f qcow2 -O raw src.qcow2 nowhere/new
says "nowhere"
same "nothing lies about" "$(ls -A)" "$(printf '%s\n' err folder locked new old out real src.qcow2 src.raw target)"

# ---- killed ----
# Slow by its rate, so that it is surely in the middle when the signal comes.
for signal in KILL INT TERM; do
	mkdir killed
	env --default-signal=INT "$QSNAP" convert -r 300k -f raw -O qcow2 --threads 0 src.raw killed/new >out 2>err &
	pid=$!
	for ((i = 0; i < 200; i++)); do
		if find "/proc/$pid/fd" -lname '*/killed/*' 2>/dev/null | grep -q .; then break; fi
		sleep 0.02
	done
	same "SIG$signal: it was writing" "$((i < 200))" 1
	if [ $signal = KILL ] && ! find "/proc/$pid/fd" -lname '*(deleted)' | grep -q .; then
		skip "SIGKILL: nothing is left" "this file system has no unnamed files"
		kill -KILL $pid && wait $pid 2>/dev/null
	else
		kill -$signal $pid
		wait $pid 2>/dev/null
		same "SIG$signal: status" $? $((128 + $(kill -l $signal)))
		same "SIG$signal: nothing is left" "$(ls -A killed)" ""
	fi
	rm -rf killed
done

# ---- a full disk ----
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=2m none small 2>/dev/null; then
	trap 'umount small' EXIT
	for options in "-O raw" "-O qcow2" "-O raw -o preallocation=full" "-O raw -o preallocation=falloc" "-O qcow2 -c" \
		"-O qcow2 --threads 0"; do
		# shellcheck disable=SC2086 # options are words
		fails 1 "a full disk: $options" "$QSNAP" convert -f raw $options src.raw small/new
		says "No space left on device"
		same "... nothing is left" "$(ls -A small)" ""
		same "... and the room is free again" "$(df --output=used -k small | tail -n 1 | tr -d ' ')" 0
	done
	cp old small/target
	fails 1 "a full disk under an old target" "$QSNAP" convert -f raw -O raw src.raw small/target
	ok "... leaves it as it was" cmp old small/target
	fails 1 "a full disk under a pipe's spool" sh -c "'$QSNAP' convert -c -O qcow2 --spool-dir small src.raw - >piped"
	says "No space left on device"
	same "... nothing is left" "$(ls -A small)" target
	fails 1 "create on a full disk" "$QSNAP" create -q -f qcow2 -o preallocation=full small/image 4M
	same "... nothing is left" "$(ls -A small)" target
else
	skip "a full disk" "mounting needs root"
fi

# ---- in use ----
if command -v qemu-io >/dev/null; then
	for format in raw qcow2; do
		"$QSNAP" create -q -f $format used 1M
		before=$(sha256sum <used)
		hold qemu-io -f $format used
		fails 1 "a target that is in use ($format)" "$QSNAP" convert -f raw -O $format src.raw used
		says "lock"
		fails 1 "... and with -n" "$QSNAP" convert -n -f raw -O $format src.raw used
		fails 1 "... and create there" "$QSNAP" create -q -f $format used 4M
		same "... is not touched" "$(sha256sum <used)" "$before"
		let_go
		ok "... nobody uses it any more" "$QSNAP" convert -f raw -O $format src.raw used
		rm -f used
	done
else
	skip "a target that is in use" "there is no qemu-io"
fi
same "the source is as it was" "$(sha256sum <src.qcow2)" "$source_sum"
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# convert --since: what goes together and what does not; a snapshot that goes away while the delta is written; deltas from an
# image in use. What deltas hold is judged in tests/interop.
. "$(dirname "$0")/lib.sh"
# what --untrusted confines cannot be looked at by the leak checker
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
for tool in qemu-img qemu-io; do
	command -v $tool > /dev/null || { echo "$tool is not installed"; exit 77; }
done

qemu-img create -q -f qcow2 start.qcow2 32M
qemu-io -c 'write -q -P 1 0 8M' start.qcow2
qemu-img snapshot -c old start.qcow2
qemu-io -c 'write -q -P 2 1M 4M' -c 'write -q -z 6M 1M' start.qcow2
qemu-img snapshot -c new start.qcow2
qemu-io -c 'write -q -P 3 20M 4M' start.qcow2
cp start.qcow2 src.qcow2
"$QSNAP" convert -l old -O raw src.qcow2 old.raw
"$QSNAP" convert -l new -O raw src.qcow2 new.raw
"$QSNAP" convert -O raw src.qcow2 active.raw
over=(-B old.raw -F raw -O qcow2)
convert() { "$QSNAP" convert "$@"; }

ok "to the active state" convert --since old "${over[@]}" src.qcow2 delta.qcow2
ok "... gives it" qemu-img compare -q delta.qcow2 active.raw
ok "to another snapshot" convert --since old -l new "${over[@]}" src.qcow2 delta.qcow2
ok "... gives that" qemu-img compare -q delta.qcow2 new.raw
ok "ids and names are both names" convert --since id=1 -l name=new "${over[@]}" src.qcow2 again.qcow2
ok "... and mean the same" cmp delta.qcow2 again.qcow2
ok "from a later snapshot to an earlier one" convert --since new -l old -B new.raw -F raw -O qcow2 src.qcow2 back.qcow2
ok "... gives that" qemu-img compare -q back.qcow2 old.raw
ok "of a snapshot to itself" convert --since old -l old "${over[@]}" src.qcow2 none.qcow2
same "... holds nothing" "$("$QSNAP" map --output=json none.qcow2 | grep -c '"depth": 0')" 0
"$QSNAP" convert --since old -O qcow2 -B old.raw -F raw src.qcow2 - > piped.qcow2
ok "into a pipe" qemu-img compare -q piped.qcow2 active.raw
for n in 0 1 2 8; do convert --threads $n -c --since old "${over[@]}" src.qcow2 "t$n.qcow2"; done
ok "the same bytes for any number of threads" cmp t0.qcow2 t1.qcow2
ok "... 2" cmp t0.qcow2 t2.qcow2
ok "... 8" cmp t0.qcow2 t8.qcow2

# a disk that grew: zeros of the new part are told where the backing file would show something, and only there
cp start.qcow2 grown.qcow2 && qemu-img resize -q grown.qcow2 40M && "$QSNAP" convert -O raw grown.qcow2 grown.raw
cp old.raw longer.raw && tr '\0' '\356' < /dev/zero | head -c 3M >> longer.raw
zeros() { "$QSNAP" map --output=json "$1" | grep '"depth": 0, "present": true, "zero": true' | sed -E 's/.*"start": ([0-9]+), "length": ([0-9]+),.*/\1+\2/' | tr '\n' ' '; }
ok "a grown disk" convert --since new -B new.raw -F raw -O qcow2 grown.qcow2 delta.qcow2
ok "... is rebuilt" qemu-img compare -q delta.qcow2 grown.raw
same "... without zeros behind a backing file's end" "$(zeros delta.qcow2)" ""
ok "a grown disk over a longer backing file" convert --since old -B longer.raw -F raw -O qcow2 grown.qcow2 delta.qcow2
ok "... is rebuilt" qemu-img compare -q delta.qcow2 grown.raw
same "... with zeros as far as that shows" "$(zeros delta.qcow2)" "6291456+1048576 33554432+3145728 "
truncate -s 3M old.raw
ok "a backing file that is cut" convert --since old "${over[@]}" src.qcow2 delta.qcow2
ok "... is made up for" qemu-img compare -q delta.qcow2 active.raw
"$QSNAP" convert -l old -O raw src.qcow2 old.raw

# an image from a stranger
ok "untrusted: a delta" "$QSNAP" --untrusted convert -f qcow2 --since old "${over[@]}" src.qcow2 delta.qcow2
ok "... gives the active state" qemu-img compare -q delta.qcow2 active.raw
ok "untrusted: diff" "$QSNAP" --untrusted diff -f qcow2 --from old src.qcow2

rm -f out.*
refused() { # WORDS-IN-THE-MESSAGE OPTIONS...
	local words=$1
	shift
	fails 1 "refused: $*" "$QSNAP" convert "$@"
	says "$words"
	[ ! -e out.qcow2 ] || bad "refused: $*" "it left a target"
}
refused "overlay" --since old -O qcow2 src.qcow2 out.qcow2
refused "not supported for file format" --since old -B old.raw -F raw -O raw src.qcow2 out.qcow2
refused "one source" --since old "${over[@]}" src.qcow2 src.qcow2 out.qcow2
refused "keep-snapshots" --since old --keep-snapshots "${over[@]}" src.qcow2 out.qcow2
refused "salvage" --since old --salvage "${over[@]}" src.qcow2 out.qcow2
refused "Could not find snapshot 'nosuch'" --since nosuch "${over[@]}" src.qcow2 out.qcow2
refused "no snapshots" --since old "${over[@]}" -f raw old.raw out.qcow2
refused "Could not open 'nosuch.raw'" --since old -B nosuch.raw -F raw -O qcow2 src.qcow2 out.qcow2
refused "source itself" --since old -B src.qcow2 -F qcow2 -O qcow2 src.qcow2 out.qcow2
refused "backing format" --since old -B old.raw -O qcow2 src.qcow2 out.qcow2
cp delta.qcow2 n.qcow2
fails 1 "refused: -n" "$QSNAP" convert -n --since old "${over[@]}" src.qcow2 n.qcow2
says "no -n"
ok "... and the target is as it was" cmp delta.qcow2 n.qcow2

# reads slowly in the background, and is surely in the middle when `begin` returns
begin() { # OPTIONS...
	cp start.qcow2 src.qcow2
	rm -f target*
	"$QSNAP" convert -U --threads 0 -r 2M --since old "${over[@]}" "$@" src.qcow2 target.qcow2 > reader.out 2> reader.err < /dev/null &
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
	[ "$1" = 0 ] && return
	same "$2: nothing is left" "$(compgen -G 'target*' | wc -l)" 0
	same "$2: the message tells" "$(grep -c 'napshot' reader.err)" 1
}
begin -l new
ok "the earlier snapshot is deleted meanwhile" qemu-img snapshot -d old src.qcow2
ends 1 "the earlier one deleted"
begin -l new
ok "the later snapshot is deleted meanwhile" qemu-img snapshot -d new src.qcow2
ends 1 "the later one deleted"
begin -l new
qemu-img snapshot -d old src.qcow2 && qemu-io -c 'write -q -P 7 0 1M' src.qcow2 && qemu-img snapshot -c old src.qcow2
ends 1 "the earlier one made again under its name"
begin -l new
ok "the active state is written to meanwhile" qemu-io -c 'write -q -P 8 0 32M' src.qcow2
ends 0 "a writer"
ok "... does not touch the delta" qemu-img compare -q target.qcow2 new.raw
begin
kill -9 $reader
wait $reader 2> /dev/null
same "killed: nothing is left" "$(compgen -G 'target*' | wc -l)" 0
finish

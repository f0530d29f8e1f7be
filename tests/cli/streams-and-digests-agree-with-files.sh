#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# --hash is what sha256sum says, for files and for streams; a stream is the file that the same options make, or at least the same
# disk; a spool and two passes give the same bytes; where the spool lies.
. "$(dirname "$0")/lib.sh"
for part in {1..6}; do cat /bin/bash && echo "$part"; done >some
{ cat some && head -c 300k /dev/zero && head -c 1M /dev/urandom; } >src.raw
truncate -s 12M src.raw
"$QSNAP" convert -f raw -O qcow2 src.raw base.qcow2
"$QSNAP" create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 14M
sum() { sha256sum | cut -d' ' -f1; }

for options in "-O raw" "-O raw -S 0" "-O qcow2" "-O qcow2 -c" "-O qcow2 -o compat=0.10" "-O qcow2 -o extended_l2=on"; do
	# shellcheck disable=SC2086 # options are words
	{
		rm -f file
		ok "--hash of a file: $options" "$QSNAP" convert --hash sha256 $options top.qcow2 file
		same "... is what sha256sum says" "$(cat out)" "$(sum <file)  file"
		same "... for an existing one, too" "$("$QSNAP" convert --hash sha256 $options top.qcow2 file)" "$(sum <file)  file"
		ok "--hash of a stream: $options" sh -c "'$QSNAP' convert --hash sha256 $options top.qcow2 - >piped"
		same "... is on stderr" "$(cat err)" "$(sum <piped)  -"
		ok "... and has the disk" "$QSNAP" compare -F "$(cut -d" " -f2 <<<"$options")" top.qcow2 piped
	}
done
cp src.raw device
ok "--hash with -n" "$QSNAP" convert --hash sha256 -n -f raw -O raw src.raw device
same "... is of the disk" "$(cat out)" "$(sum <src.raw)  device"
truncate -s 20M device
ok "--hash with -n into a larger file" "$QSNAP" convert --hash sha256 -n -f raw -O raw src.raw device
same "... is of what was written" "$(cat out)" "$(sum <src.raw)  device"
for algorithm in md5 sha1 sha512; do
	ok "--hash $algorithm" "$QSNAP" convert --hash $algorithm -O raw top.qcow2 file
	same "... is right" "$(cat out)" "$(${algorithm}sum file)"
done
ok "-q keeps the digest to itself" "$QSNAP" convert -q --hash sha256 -O raw top.qcow2 file
same "... and prints nothing" "$(cat out err)" ""
rm file
fails 1 "a digest nobody knows" "$QSNAP" convert --hash rot13 -O raw top.qcow2 file
same "... is told of before the work" "$(compgen -G file)" ""

# ---- a spool and two passes ----
for options in "" "-o compression_type=zstd" "-o cluster_size=4k" "--threads 0" "--recompress -o compression_level=1"; do
	# shellcheck disable=SC2086 # options are words
	"$QSNAP" convert -c -O qcow2 $options top.qcow2 - >spooled
	# shellcheck disable=SC2086
	"$QSNAP" convert -c -O qcow2 $options --two-pass top.qcow2 - >twice
	ok "a spool: $options" "$QSNAP" check spooled
	ok "... has the disk" "$QSNAP" compare top.qcow2 spooled
	ok "two passes: $options" "$QSNAP" check twice
	ok "... have the disk" "$QSNAP" compare top.qcow2 twice
	# shellcheck disable=SC2086
	same "... the same bytes with any number of threads" \
		"$("$QSNAP" convert -c -O qcow2 $options --threads 3 --two-pass top.qcow2 - | sum)" "$(sum <twice)"
	# shellcheck disable=SC2086
	"$QSNAP" convert -c -O qcow2 $options top.qcow2 file
	ok "... the spool has the file's bytes" cmp spooled file
done

# ---- where the spool lies ----
mkdir spools
mkfifo pipe
TMPDIR=$PWD/nowhere "$QSNAP" -v convert -c -O qcow2 --spool-dir spools top.qcow2 - >pipe 2>told &
pid=$!
exec 5<pipe
for ((i = 0; i < 200; i++)); do
	if find "/proc/$pid/fd" -lname "$PWD/spools/*" 2>/dev/null | grep -q .; then break; fi
	sleep 0.02
done
same "--spool-dir is where the spool lies" "$((i < 200))" 1
same "... without a name" "$(ls -A spools)" ""
cat <&5 >piped
exec 5<&-
wait $pid
same "... and all goes well" "$?" 0
ok "... in the image, too" "$QSNAP" compare top.qcow2 piped
same "... -v tells how much was spooled" "$(grep -c "$(stat -c %s piped) spooled" told)" 1
fails 1 "a folder for spools that is not there" "$QSNAP" convert -c -O qcow2 --spool-dir nowhere top.qcow2 -
says "nowhere"
fails 1 "TMPDIR that is not there" env TMPDIR="$PWD/nowhere" "$QSNAP" convert -c -O qcow2 top.qcow2 -
says "nowhere"
ok "... is not needed with two passes" env TMPDIR="$PWD/nowhere" "$QSNAP" convert -c -O qcow2 --two-pass top.qcow2 -
ok "... nor without compression" env TMPDIR="$PWD/nowhere" "$QSNAP" convert -O qcow2 top.qcow2 -

# ---- what a stream cannot be ----
for options in "-O raw -o preallocation=full" "-O qcow2 -o data_file=x" "-O qcow2 --bitmaps" \
	"-O qcow2 --keep-snapshots"; do
	# shellcheck disable=SC2086
	fails 1 "no stream: $options" "$QSNAP" convert $options top.qcow2 -
	same "... and nothing is written" "$(cat out)" ""
done
finish

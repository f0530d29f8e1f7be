#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# resize, rebase and commit by qemu-img and by qsnap under its name, each on images of its own: stdout, messages and status are the
# same, and so are the disks and what info says of them.
# shellcheck disable=SC2086  # lists of words are meant to be split
# time limit: 300
# sanitizers: no
. "$(dirname "$0")/lib.sh"
peer || { echo "there is no qemu-img to compare with" && exit 77; }
"$peer" --version | grep -q 'version 1[0-9]\.' || { echo "only an old qemu-img is here, whose texts differ" && exit 77; }
io=${peer%-img}-io
ln -s "$QSNAP" qemu-img
mine=$PWD/qemu-img

mkdir images && cd images || exit 1
q() { "$peer" "$@" >/dev/null || exit 1; }
w() { "$io" "$@" >/dev/null || exit 1; }
q create -f raw base.raw 3M
w -f raw -c 'write -P 9 0 3M' base.raw
q create -f qcow2 -b base.raw -F raw mid.qcow2 4M
w -c 'write -P 1 0 256k' -c 'write -z 1M 64k' -c 'write -P 3 3M 100k' mid.qcow2
q create -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 5M
w -c 'write -P 4 2M 64k' -c 'write -z 100k 10k' -c 'write -P 5 4M 1M' top.qcow2
q create -f qcow2 alone.qcow2 4M
w -c 'write -P 6 1M 1M' alone.qcow2
q create -f qcow2 -o data_file=data.raw,data_file_raw=on data.qcow2 4M
q create -f qcow2 -o extended_l2=on,cluster_size=128k -b base.raw -F raw sub.qcow2
w -c 'write -P 7 4k 4k' sub.qcow2
printf abc >odd.raw && truncate -s 1000 odd.raw
q create -f qcow2 -o cluster_size=4k small.qcow2 1M
w -c 'write -P 8 64k 64k' small.qcow2
mkdir folder
q create -f qcow2 -b ../base.raw -F raw folder/rel.qcow2
cd .. || exit 1

# What is in the folder afterwards: each disk's bytes and what info tells but for sizes on disk.
state() {
	for name in *.qcow2 folder/*.qcow2; do
		"$peer" info --output=json "$name" 2>&1 | grep -E '^    "(virtual-size|backing-filename.*|full-backing.*|compat)"' | sed "s#$PWD##"
		rm -f flat
		"$peer" convert -O raw "$name" flat 2>&1 | sed "s#$PWD##"
		[ ! -e flat ] || sha256sum <flat
		"$peer" check -q "$name" 2>&1
	done
	stat -c '%n %s' ./*.raw
	sha256sum ./*.raw
}
# Runs the words with each program on fresh images. "except-messages" first: stderr may differ.
twice() {
	local messages=1 program status
	if [ "$1" = except-messages ]; then messages=0 && shift; fi
	for program in "$peer" "$mine"; do
		local to=theirs
		[ "$program" = "$peer" ] || to=ours
		rm -rf work.$to && cp -r images work.$to && cd work.$to || exit 1
		status=0
		"$program" "$@" >../$to.out 2>../$to.err </dev/null || status=$?
		echo "status $status" >>../$to.out
		sed -i -E "s#^[^ :]*qemu-img( [a-z]+)?: #qemu-img\1: #; s#'[^' ]*qemu-img ([a-z]+) --help' for more info.*#'\1 --help'#" ../$to.err
		cd .. || exit 1
	done
	echo same | tee theirs.state >ours.state
	if ! diff -rq work.theirs work.ours >/dev/null; then
		(cd work.theirs && state) >theirs.state
		(cd work.ours && state) >ours.state
	fi
	if ! cmp -s theirs.out ours.out; then
		bad "$*" "$(diff theirs.out ours.out | head -5) $(head -c 300 ours.err)"
	elif [ $messages = 1 ] && ! cmp -s theirs.err ours.err; then
		bad "$*" "$(diff theirs.err ours.err | head -6)"
	elif ! cmp -s theirs.state ours.state; then
		bad "$*" "$(diff theirs.state ours.state | head -8)"
	else
		good "$*"
	fi
}

twice resize
twice resize alone.qcow2
twice resize a b c
twice resize alone.qcow2 8M
twice resize alone.qcow2 +1M
twice resize -q alone.qcow2 +0.5M
twice resize -f qcow2 alone.qcow2 0.05G
twice resize small.qcow2 64M
twice resize alone.qcow2 4M
twice resize alone.qcow2 +0
twice resize alone.qcow2 -1M
twice resize --shrink alone.qcow2 -1M
twice resize --shrink alone.qcow2 1000k
twice resize --shrink alone.qcow2 -4M
twice resize --shrink alone.qcow2 -100M
twice resize --shrink alone.qcow2 0
twice resize alone.qcow2 +1b
twice resize alone.qcow2 1z
twice resize alone.qcow2 ""
twice resize alone.qcow2 7E
twice resize alone.qcow2 9E
twice resize --preallocation=frob alone.qcow2 8M
for mode in off metadata falloc full; do
	twice resize --preallocation=$mode alone.qcow2 8M
	twice resize --preallocation $mode --shrink alone.qcow2 2M
	twice resize --preallocation=$mode top.qcow2 7M
	twice resize --preallocation=$mode -f raw base.raw 7M
done
twice resize top.qcow2 8M
twice resize --shrink mid.qcow2 2M
twice resize sub.qcow2 +1M
twice resize --shrink sub.qcow2 -- -1000k
twice resize data.qcow2 +1M
twice resize --shrink data.qcow2 -1M
twice resize base.raw +1M
twice resize -f raw base.raw +1b
twice resize -f raw odd.raw +1k
twice resize -f raw --shrink base.raw 1000
twice resize -f raw base.raw 1000
twice resize missing 1M
twice resize -f frob alone.qcow2 8M
twice resize --frob alone.qcow2 8M

twice rebase
twice rebase a b
twice rebase top.qcow2
twice rebase -F raw top.qcow2
twice rebase -b base.raw top.qcow2
twice rebase -b base.raw -F raw top.qcow2
twice rebase -f qcow2 -t none -T none -b base.raw -F raw top.qcow2
twice rebase -b "" top.qcow2
twice rebase -c -b "" top.qcow2
twice rebase -b "" sub.qcow2
twice rebase -c -b alone.qcow2 -F qcow2 top.qcow2
twice rebase -b alone.qcow2 -F qcow2 mid.qcow2
twice rebase -U -b alone.qcow2 -F qcow2 top.qcow2
twice rebase -b base.raw -F raw alone.qcow2
twice rebase -b "" alone.qcow2
twice rebase -b ../alone.qcow2 -F qcow2 folder/rel.qcow2
twice rebase -b base.raw -F raw folder/rel.qcow2
twice except-messages rebase -b top.qcow2 -F qcow2 mid.qcow2
twice except-messages rebase -b none -F raw top.qcow2
twice rebase -b base.raw -F frob top.qcow2
twice rebase -u -b none -F frob top.qcow2
twice rebase -u -b none -F raw top.qcow2
twice rebase -u -b none -F vmdk top.qcow2
twice rebase -u -b none top.qcow2
twice rebase -u top.qcow2
twice rebase -u -b "" top.qcow2
twice rebase -t frob -b base.raw -F raw top.qcow2
twice rebase -T frob -b base.raw -F raw top.qcow2
twice rebase -b "" base.raw
twice rebase -f raw -b "" base.raw
twice rebase -f raw -c -b "" base.raw
twice except-messages rebase -b base.raw -F raw data.qcow2
twice rebase -f frob -b "" top.qcow2
twice rebase -p -u -b base.raw -F raw alone.qcow2

twice commit
twice commit a b
twice commit top.qcow2
twice commit -q top.qcow2
twice commit -f qcow2 -t none top.qcow2
twice commit -d top.qcow2
twice commit -b base.raw top.qcow2
twice commit -b mid.qcow2 top.qcow2
twice commit -b none top.qcow2
twice commit -b top.qcow2 top.qcow2
twice commit -b ../base.raw folder/rel.qcow2
twice commit -b base.raw folder/rel.qcow2
twice commit mid.qcow2
twice commit sub.qcow2
twice commit -r 100M top.qcow2
twice commit -r 1z top.qcow2
twice commit -t frob top.qcow2
twice commit alone.qcow2
twice commit base.raw
twice commit -f raw base.raw
twice commit -f frob top.qcow2
twice commit missing

# qemu-img 10.0 ends with an assertion here
cp -r images subclusters && cd subclusters || exit 1
q convert -O raw sub.qcow2 wanted
ok "rebase -c of an image with subclusters" "$mine" rebase -c -b alone.qcow2 -F qcow2 sub.qcow2
ok "... keeps the disk" "$peer" compare -F raw sub.qcow2 wanted
ok "... in an image without errors" "$peer" check sub.qcow2
cd .. || exit 1

# ---- cache modes ----
cp -r images caches && cd caches || exit 1
flushes() { # WORDS: how often files are flushed
	ASAN_OPTIONS=detect_leaks=0 strace -f -e trace=fsync,fdatasync,sync_file_range,msync -o trace "$mine" "$@" >/dev/null 2>&1 || echo "failed: "
	grep -cE ' (fsync|fdatasync)\(' trace
}
if strace -o /dev/null true 2>/dev/null; then
	for verb in "rebase -f qcow2 -b base.raw -F raw" "commit -f qcow2"; do
		cp -r ../images/. .
		# shellcheck disable=SC2086 # words
		same "$verb -t unsafe flushes nothing" "$(flushes $verb -t unsafe top.qcow2)" 0
		cp -r ../images/. .
		# shellcheck disable=SC2086
		same "... which it does else" "$(($(flushes $verb -t writeback top.qcow2) > 1))" 1
	done
else
	skip "what -t unsafe leaves out" "strace may not trace here"
fi
cd .. || exit 1

# ---- locks ----
cp -r images locks && cd locks || exit 1
for verb in "resize top.qcow2 +1M" "commit top.qcow2" "rebase -b base.raw -F raw top.qcow2"; do
	hold "$io" top.qcow2
	fails 1 "$verb while a writer has the image" "$mine" $verb
	says 'Failed to get'
	let_go
done
hold "$io" mid.qcow2
fails 1 "commit into an image that is being written to" "$mine" commit top.qcow2
let_go
hold "$io" -r mid.qcow2
fails 1 "commit into an image that is being read" "$mine" commit top.qcow2
says 'Failed to get "write" lock'
ok "rebase beside a reader of the backing file" "$mine" rebase -b base.raw -F raw top.qcow2
let_go
cd .. || exit 1
finish

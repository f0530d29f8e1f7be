#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/lib.sh"

fails 1 "no command" "$QSNAP"
says "qsnap: Not enough arguments"
says "Try 'qsnap --help' for more information"
fails 1 "an unknown command" "$QSNAP" frobnicate
says "qsnap: Command not found: frobnicate"
fails 1 "bench" "$QSNAP" bench a
says "qsnap: bench is not supported"
fails 1 "an unknown global option" "$QSNAP" --frobnicate
fails 1 "a global -T" "$QSNAP" -T enable=x info a
says "not supported"
fails 1 "an unknown option" "$QSNAP" info --frobnicate a
says "qsnap info: unrecognized option '--frobnicate'"
says "Try 'qsnap info --help' for more information"
fails 1 "an ambiguous abbreviation" "$QSNAP" info --o=json a
fails 1 "a missing argument" "$QSNAP" info -f
fails 1 "no image" "$QSNAP" info
says "qsnap: Expecting one image file name"
fails 1 "two images for info" "$QSNAP" info a b
fails 1 "an unknown output format" "$QSNAP" info --output=xml a
says "--output expects 'human' or 'json' not 'xml'"
for sub in info map check compare measure dd snapshot convert; do
	fails 1 "$sub --image-opts" "$QSNAP" $sub --image-opts driver=raw,file.filename=a
	says "--image-opts is not supported"
done
for sub in info map check compare measure dd snapshot convert create; do
	fails 1 "$sub --object" "$QSNAP" $sub --object secret,id=a a
	says "--object is not supported"
done
for format in vmdk vdi luks; do
	fails 1 "create -f $format" "$QSNAP" create -f $format a 1M
	says "not supported"
done
truncate -s 1M a
fails 1 "a format nobody knows" "$QSNAP" info -f frob a
says "qsnap: Could not open 'a': Unknown driver 'frob'"
fails 1 "a protocol" "$QSNAP" info nbd://localhost/x
says "not supported"
for target in nbd://localhost/x ssh:x rbd:a/b; do
	fails 1 "a target over the network: $target" "$QSNAP" convert -f raw -O raw a "$target"
	says "not supported"
	fails 1 "... created" "$QSNAP" create -q "$target" 1M
	says "not supported"
done
fails 1 "a target of a protocol nobody knows" "$QSNAP" convert -f raw -O raw a b:c
says "Unknown protocol 'b'"
fails 1 "a target without a name" "$QSNAP" dd -f raw if=a of=
says "The file name is empty"
ok "a target with file:" "$QSNAP" convert -f raw -O raw a file:b:c
ok "... has the name behind it" cmp a b:c
ok "... created" "$QSNAP" create -q file:b:d 1M
ok "... is there" test -f b:d
ok "a path with a colon" "$QSNAP" dd -f raw if=a of=./e:f
ok "... is a path" cmp a e:f
fails 1 "a missing image" "$QSNAP" info missing
says "qsnap: Could not open 'missing': Could not open 'missing': No such file or directory"
fails 1 "compare with one image" "$QSNAP" compare a
fails 2 "compare with a missing image" "$QSNAP" compare a missing
fails 63 "check of a raw image" "$QSNAP" check -f raw a
same "... prints nothing on stdout" "$(cat out)" ""
fails 1 "check of a missing image" "$QSNAP" check missing
fails 1 "check -r with another word" "$QSNAP" check -r some a
says "--repair (-r) expects 'leaks' or 'all' not 'some'"
fails 1 "check -r and -U" "$QSNAP" check -U -r all a
says "force-share=on can only be used with read-only images"
fails 63 "check -r of a raw image" "$QSNAP" check -f raw -r all a
for verb in -c -a -d; do
	fails 1 "snapshot $verb" "$QSNAP" snapshot $verb x a
	says "not supported"
done
fails 2 "a cache mode nobody knows" "$QSNAP" compare -T warm a a
says "Invalid source cache option: warm"
# shellcheck disable=SC2016
fails 1 "no room for the output" sh -c '"$0" info "$1" >/dev/full' "$QSNAP" a
says "Could not write to standard output"
"$QSNAP" create -q -f qcow2 base.qcow2 1M
"$QSNAP" create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
ln -s base.qcow2 other-name
fails 1 "a new image in place of its backing file" "$QSNAP" create -f qcow2 -b top.qcow2 -F qcow2 other-name
says "The new image would replace"
ok "... which is still there" "$QSNAP" check top.qcow2

# with its standard descriptors closed a program gets 1 and 2 for its files: nothing that is printed may end up in them
printf x >source
truncate -s 512 source
: >target
truncate -s 512 target
# shellcheck disable=SC2016
fails 1 "closed standard descriptors" sh -c '"$0" convert -n --hash md5 -p -f raw -O raw source target <&- >&- 2>&-' "$QSNAP"
ok "... and the target has the source's bytes" cmp source target

for there in no yes; do
	fails 1 "convert to an image that is its own data file ($there file there)" \
		"$QSNAP" convert -f raw -O qcow2 -o data_file=./own source own
	fails 1 "create of one" "$QSNAP" create -f qcow2 -o data_file="$PWD/own" own 1M
	same "... leaves it as it was" "$(tail -n 1 own 2>/dev/null)" "$([ $there = no ] || echo old)"
	echo old >own
done
fails 1 "standard input as source" "$QSNAP" convert - target
says "Standard input cannot be a source"
fails 1 "a backing file that is not there" "$QSNAP" convert -f raw -O qcow2 -B missing -F qcow2 source overlay
says "Could not open backing file of 'overlay': Could not open 'missing': Could not open 'missing': No such file or directory"
same "... leaves no target" "$(find . -name overlay)" ""
ok "-q silences -p" "$QSNAP" convert -p -q -f raw source target
same "... wholly" "$(cat out err)" ""

# ---- vm has a status of its own for them ----
fails 2 "vm alone" "$QSNAP" vm
says "qsnap: Not enough arguments"
says "Try 'qsnap vm --help' for more information"
fails 2 "an unknown verb of vm" "$QSNAP" vm frobnicate web
says "qsnap: Command not found: frobnicate"
fails 2 "an unknown option of vm" "$QSNAP" vm --frobnicate list web
says "qsnap vm: unrecognized option '--frobnicate'"
fails 2 "an unknown option of vm list" "$QSNAP" vm list --frobnicate web
says "qsnap vm list: unrecognized option '--frobnicate'"
says "Try 'qsnap vm list --help' for more information"
fails 2 "--untrusted" "$QSNAP" --untrusted vm list web
for words in snapshot list disks delete "delete web" "list a b" "recover a b" "snapshot a b c" "list --tree" show "show a b c" \
	"delete --children web" "prune --keep-last 1" "prune a b --keep-last 1"; do
	# shellcheck disable=SC2086 # words
	fails 2 "vm $words" "$QSNAP" vm $words
	says "Expecting the name of a domain"
done
for words in "--mode hot" "--via nbd" "--via internal --mode live" "--via overlay --mode cold --extract stopped --to d" "--extract running" "--extract stopped" "--quiesce=perhaps" \
	"--disks vda,,vdb" "--max-pause 0" "--max-pause x" "--wait -1" "--threads 9999" "--format raw" "--to d --format vmdk" \
	"--to d --format raw --compress zlib" "--to d --compress lz4" "--to d --compress zlib:13" "--to d --compress zstd:" \
	"--to d --compress zlib,size=1M" "--keep --mode live --to d" "--keep --via overlay --to d" "--mode live" "--via overlay" \
	"--synchronous-writes --mode cold" "--progress=never"; do
	# shellcheck disable=SC2086 # words
	fails 2 "vm snapshot web $words" "$QSNAP" vm snapshot web $words
done
for words in export "export web" "export web a b --to c"; do
	# shellcheck disable=SC2086 # words
	fails 2 "vm $words" "$QSNAP" vm $words
	says "Expecting the name of a domain and of a snapshot"
done
for words in "" "--to" "--to d --compress lz4" "--to d --threads x" "--format raw --to d"; do
	# shellcheck disable=SC2086 # words
	fails 2 "vm export web a $words" "$QSNAP" vm export web a $words
done
fails 2 "vm export web a --to with an empty name" "$QSNAP" vm export web a --to ""
for words in "" "a b"; do
	# shellcheck disable=SC2086 # words
	fails 2 "vm import $words" "$QSNAP" vm import $words
	says "Expecting a bundle"
done
fails 2 "prune without a rule" "$QSNAP" vm prune web --yes
says "at least one --keep-... is needed"
for words in "--keep-last 0" "--keep-daily x" "--keep-weekly -1" "--keep-within 7" "--keep-within 7x" "--keep-within 2h7d" \
	"--keep-last 1 --yes --dry-run" "--keep-last 1 --yes -n"; do
	# shellcheck disable=SC2086 # words
	fails 2 "vm prune web $words" "$QSNAP" vm prune web $words
done
fails 2 "--to with an empty name" "$QSNAP" vm snapshot web --to ""
fails 1 "no hypervisor" "$QSNAP" -c "qemu:///system?socket=$PWD/none" vm list web
ok "... its state folder is not made by a list" test ! -e state

ok "options may follow operands" "$QSNAP" info a -f raw
ok "an option may be abbreviated" "$QSNAP" info --form raw --out json a
ok "-- ends the options" "$QSNAP" info -f raw -- a

ln -s "$QSNAP" qemu-img
ok "--version" "$QSNAP" --version
same "... is one line" "$(sed 's/[0-9.]*$/N/' out)" "qsnap N"
ok "--version as qemu-img" ./qemu-img --version
same "... is one that programs parse" "$(sed -nE '1s/^qemu-img version ([0-9]+\.[0-9]+)\.[0-9]+ \(qsnap [0-9.]+\)$/\1/p' out)" 10.0
fails 1 "as qemu-img there is no vm" ./qemu-img vm list web
says "qemu-img: Command not found: vm"
ok "... and its help does not tell of it" ./qemu-img --help
same "... at all" "$(grep -c '^  vm ' out)" 0
fails 1 "as qemu-img, messages have its name" ./qemu-img info missing
says "qemu-img: Could not open 'missing'"
finish

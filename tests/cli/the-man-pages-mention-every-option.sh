#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# sanitizers: no
#
# What the program says it takes is in its manual pages, which are clean mdoc, lead to pages that exist, and whose examples run.
. "$(dirname "$0")/lib.sh"
command -v mandoc >/dev/null || { echo "mandoc is not installed" && exit 77; }
man=$TREE/man

# ---- options ----
text_of() { mandoc -T ascii -O width=1000 "$man/$1" | sed 's/.\x08//g'; }
# Long and short names in a help text, one a line.
names() { grep -oE '^ {1,6}(-[A-Za-z], )?--[a-z-]+|^ {2}-[A-Za-z]\b' "$1" | grep -oE -- '--[a-z-]+|-[A-Za-z]\b'; }
missing() { # HELP PAGE: names in HELP that PAGE lacks
	text_of "$2" >text
	names "$1" | sort -u >wanted
	grep -oE -e '(^|[^-a-z])(--[a-z-]+|-[A-Za-z]\b)' text | grep -oE -e '-.*' | sort -u | comm -23 wanted -
}
"$QSNAP" --help >help
same "there are global options" "$(names help | grep -cE 'untrusted|version|verbose')" 3
same "qsnap.1 has all global options" "$(missing help qsnap.1)" ""
mapfile -t commands < <(sed -n 's/^  \([a-z][a-z]*\)  *[A-Z].*/\1/p' help)
same "there are commands" "$((${#commands[@]} >= 10))" 1
text_of qsnap.1 >overview
for command in "${commands[@]}"; do
	page=qsnap-$command.1
	[ "$command" != completion ] || page=qsnap.1
	"$QSNAP" "$command" --help >help
	same "$page has all options of $command" "$(missing help "$page")" ""
	for verb in $(sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p' help); do
		"$QSNAP" "$command" "$verb" --help >help
		same "$page has all options of $command $verb" "$(missing help "$page")" ""
		same "... and tells of $verb" "$(grep -cE "^ +qsnap $command $verb " <(text_of "$page" | sed '/^EXAMPLES/,$d'))" 1
	done
	same "... and qsnap.1 tells of $command" "$(grep -cE "^ +$command( |$)" overview)" 1
	case $command in
	convert) run "$QSNAP" convert -O qcow2 -o help x y ;;
	create) run "$QSNAP" create -f qcow2 -o help x ;;
	*) continue ;; # measure's page leads to create's
	esac
	text_of "$page" >text
	same "... and the keys of -o" "$(sed -n 's/^  \([a-z_0-9]*\)=.*/\1/p' out | while read -r key; do
		grep -qE "^ +([a-z_]+, )?$key(,|$| )" text || echo "$key"
	done)" ""
	same "... which are many" "$(($(grep -c = out) > 10))" 1
done

# ---- the library ----
text_of libqsnap.3 >text
same "libqsnap.3 has all functions" "$(grep -oE '\bqsnap_[a-z_]+\(' "$TREE/lib/qsnap.h" | sort -u | while read -r name; do
	grep -qF "$name" text || echo "$name"
done)" ""
same "... and all errors" "$(grep -oE 'QSNAP_ERROR_[A-Z_]+' "$TREE/lib/qsnap.h" | sort -u | while read -r name; do
	grep -qw "$name" text || echo "$name"
done)" ""

# ---- the pages themselves ----
for page in "$man"/*.[13]; do
	# what is installed on this machine is no matter of ours
	same "${page##*/} is clean mdoc" \
		"$(mandoc -T lint "$page" 2>&1 | grep -vE 'referenced manual not found|mandoc.db')" ""
	same "... and names pages that exist" "$(sed -n 's/^\.Xr \([a-z-]*qsnap[a-z-]*\) \([13]\).*/\1.\2/p' "$page" |
		sort -u | while read -r other; do [ -e "$man/$other" ] || echo "$other"; done)" ""
done

# ---- examples ----
fresh() { # in a folder of its own: the images that examples speak of
	rm -rf images && mkdir images && cd images || exit 1
	"$QSNAP" create -q -f qcow2 base.qcow2 4M
	head -c 3000000 "$QSNAP" >some
	"$QSNAP" convert -n -O qcow2 some base.qcow2
	cp base.qcow2 upload.qcow2
	"$QSNAP" create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
	if command -v qemu-io >/dev/null; then
		qemu-io -f qcow2 -c 'write -P 7 1M 100k' top.qcow2 >/dev/null
		qemu-img snapshot -c monday top.qcow2
	fi
}
command -v qemu-io >/dev/null || skip "examples with snapshots" "there is no qemu-io"
# shellcheck disable=SC2317 # the examples call it
qsnap() { "$QSNAP" "$@"; }
nowhere=$PWD/no-libvirt
export LIBVIRT_DEFAULT_URI="qemu:///system?socket=$nowhere"
"$QSNAP" vm list web 2>&1 | grep -qF "$nowhere" || nowhere="this build has no libvirt"
# nor a cloud
unset "${!OS_@}" XDG_CONFIG_HOME
export HOME=$PWD
no_cloud="auth_url is not known"
"$QSNAP" images 2>&1 | grep -qF "$no_cloud" || no_cloud="this build has no image service"
for page in "$man"/*.1; do
	fresh
	if [ "${page##*/}" = qsnap.1 ]; then rm top.qcow2; fi # it makes one
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/{/^qsnap/p}' "$page" >../examples
	same "${page##*/} has examples" "$(($(wc -l <../examples) > 0))" 1
	while read -r line; do
		case $line in
		*monday*) command -v qemu-io >/dev/null || continue ;;
		esac
		run eval "$line"
		# no machine is here: that the line is understood is what can be seen
		if [[ $line == "qsnap vm "* && $status = 1 ]] && grep -qF "$nowhere" err; then status=0; fi
		if [[ $line =~ ^"qsnap "(upload|download|images) && $status = 1 ]] && grep -qF "$no_cloud" err; then status=0; fi
		if [ $status = 0 ]; then good "example: $line"; else bad "example: $line" "$status: $(head -c 300 err)"; fi
	done <../examples
	cd ..
done
finish

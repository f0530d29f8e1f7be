# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# For scripts in tests/cli: `. "$(dirname "$0")/lib.sh"` goes to the empty folder TEST_TMP and offers the functions below.
# End a script with `finish`: exit status 1 when a case failed, else 0.
#
#   ok NAME COMMAND...          the command succeeds
#   fails STATUS NAME COMMAND.. the command ends with that status
#   says TEXT                   the last command run by ok, fails or run printed TEXT on stdout or stderr
#   same NAME GOT WANTED        two strings are the same
#   run COMMAND...              runs it; output in files out and err, status in $status
#   skip NAME WHY, good NAME, bad NAME WHY
#   peer                        sets $peer to the newest qemu-img there is, or fails
#   hold PROGRAM WORDS..., let_go   from the one to the other that qemu-io has an image open, as WORDS say
set -u
QSNAP=${QSNAP:-$PWD/build/qsnap}
TEST_TMP=${TEST_TMP:-$(mktemp -d)}
TREE=$PWD
cd "$TEST_TMP" || exit 1
failures=0

good() { echo "ok $1"; }
bad() {
	echo "not ok $1: $2"
	failures=$((failures + 1))
}
skip() { echo "skip $1: $2"; }
finish() { exit $((failures > 0)); }

run() {
	status=0
	"$@" >out 2>err </dev/null || status=$?
}
fails() {
	local wanted=$1 name=$2
	shift 2
	run "$@"
	if [ $status = "$wanted" ]; then
		good "$name"
	else
		bad "$name" "status $status instead of $wanted: $(head -c 300 err)"
	fi
}
ok() { fails 0 "$@"; }
says() {
	if grep -qF -e "$1" out err; then
		good "... and says $1"
	else
		bad "... and says $1" "$(cat out err | head -c 300)"
	fi
}
same() {
	if [ "$2" = "$3" ]; then
		good "$1"
	else
		bad "$1" "got '$(head -c 200 <<<"$2")', wanted '$(head -c 200 <<<"$3")'"
	fi
}
peer() {
	local lines
	lines=$(cd "$TREE" && scripts/peer 2>/dev/null)
	peer=$(sort -V <<<"$lines" | tail -n 1 | cut -d' ' -f2)
	[ -n "$peer" ]
}
hold() {
	rm -f held.in
	mkfifo held.in
	"$@" <held.in >held.out 2>&1 &
	holder=$!
	exec 8>held.in
	echo help >&8
	# the second prompt: the image was opened, the command done
	until [ "$(grep -c 'qemu-io> ' held.out)" -ge 2 ]; do
		kill -0 $holder 2>/dev/null || { bad "$*" "$(cat held.out)" && break; }
		sleep 0.02
	done
}
let_go() {
	echo quit >&8
	exec 8>&-
	wait "$holder"
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
. "$(dirname "$0")/lib.sh"

for part in {1..60}; do cat /bin/bash "$QSNAP" && echo "$part"; done >large.raw
size=$(($(stat -c %s large.raw) / 512 * 512))
truncate -s $size large.raw
slow() { exec "$QSNAP" convert -f raw -O qcow2 -c --threads 0 -o compression_level=12 large.raw target; }

# ---- progress ----
ok "-p" "$QSNAP" convert -p -f raw -O raw large.raw copy.raw
same "... ends at 100 %" "$(tr '\r' '\n' <out | grep . | tail -n 1)" "    (100.00/100%)"
same "... in qemu-img's form" "$(tr '\r' '\n' <out | grep -cvE '^(    \([0-9]+\.[0-9]{2}/100%\))?$')" 0
ok "--progress json" "$QSNAP" convert --progress json -f raw -O raw large.raw copy.raw
same "... prints nothing on stdout" "$(cat out)" ""
ok "... one object a line" python3 - err $size <<'P'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
assert all(set(e) == {"event", "done", "total"} for e in events), events
assert [e["done"] for e in events] == sorted(e["done"] for e in events), events
assert all(e["event"] == "progress" for e in events[:-1]), events
assert events[-1] == {"event": "done", "done": int(sys.argv[2]), "total": int(sys.argv[2])}, events[-1]
P
"$QSNAP" convert --progress json -c -f raw -O qcow2 large.raw - 2>err | cat >piped
ok "a spool is sent in the second half" python3 - err $size <<'P'
import json, sys
last = [json.loads(line) for line in open(sys.argv[1])][-1]
assert last == {"event": "done", "done": 2 * int(sys.argv[2]), "total": 2 * int(sys.argv[2])}, last
P
ok "--progress=json" "$QSNAP" compare --progress=json large.raw copy.raw
same "... leaves stdout as it is" "$(cat out)" "Images are identical."
fails 1 "an unknown kind of progress" "$QSNAP" compare --progress=loud large.raw copy.raw
ok "progress stays out of an image on stdout" sh -c "'$QSNAP' convert -p -f raw -O raw large.raw - >piped"
ok "... which is whole" cmp piped large.raw
rm -f piped copy.raw

# ---- signals ----
echo old >old && cp old target
for signal in INT TERM HUP; do
	slow >out 2>err &
	pid=$!
	sleep 0.3
	if ! kill -$signal $pid 2>/dev/null; then
		skip "SIG$signal" "this machine is too fast for the test"
		cp old target
		continue
	fi
	wait $pid
	same "SIG$signal ends a conversion with its status" $? $((128 + $(kill -l $signal)))
	same "... the old target is as it was" "$(cat target)" old
	same "... and nothing lies beside it" "$(ls)" "$(printf '%s\n' err large.raw old out target)"
done
exec 9> >(sleep 3)
"$QSNAP" convert -f raw -O raw large.raw - >&9 2>err &
pid=$!
sleep 0.3
kill -TERM $pid
wait $pid
same "SIGTERM ends a wait for a pipe that nobody reads" $? 143
exec 9>&-
(
	trap '' HUP
	slow >out 2>err
) &
pid=$!
sleep 0.3
kill -HUP $pid 2>/dev/null
kill -USR1 $pid 2>/dev/null
for ((tries = 0; tries < 100; tries++)); do
	sleep 0.1
	if [ -s err ] || ! kill -0 $pid 2>/dev/null; then break; fi
done
if ! kill -0 $pid 2>/dev/null; then
	skip "SIGHUP that was ignored stays so" "this machine is too fast for the test"
else
	good "SIGHUP that was ignored stays so"
	same "SIGUSR1 tells how far the work is" "$(grep -cE '^    \([0-9.]+/100%\)$' err)" 1
fi
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
same "killed, nothing is left either" "$(ls)" "$(printf '%s\n' err large.raw old out target)"

"$QSNAP" convert -f raw -O raw large.raw - 2>err | head -c 1 >/dev/null
same "a closed pipe is an error, not a signal" "${PIPESTATUS[0]}" 1
grep -q "Broken pipe" err || bad "... and is told" "$(cat err)"
finish

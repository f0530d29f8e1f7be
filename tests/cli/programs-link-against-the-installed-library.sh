#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The examples of lib/example, compiled as a stranger would against what `make install` puts in place.
# sanitizers: no
. "$(dirname "$0")/lib.sh"
command -v cc >/dev/null || { echo "there is no C compiler" && exit 77; }
ok "make install" make -s -C "$TREE" install B="${BUILD:-build}" PREFIX="$TEST_TMP/inst"
export PKG_CONFIG_PATH=$TEST_TMP/inst/lib/pkgconfig
example=$TREE/lib/example/extents.c

# shellcheck disable=SC2046  # words are wanted
ok "the example compiles" cc -Wall -Wextra -Werror -o shared "$example" $(pkg-config --cflags --libs qsnap)
# shellcheck disable=SC2046
ok "... and with the static library" \
	cc -o static "$example" $(pkg-config --cflags qsnap) "$TEST_TMP/inst/lib/libqsnap.a" \
	$(pkg-config --static --libs-only-l qsnap | sed 's/-lqsnap//')
# shellcheck disable=SC2046
ok "the example that changes an image" cc -Wall -Wextra -Werror -o changes "$TREE/lib/example/changes.c" $(pkg-config --cflags --libs qsnap)
printf '#include <qsnap.h>\nint main() { return qsnap_version()[0] == 0; }\n' >plus.cc
if command -v c++ >/dev/null; then
	# shellcheck disable=SC2046
	ok "the header is C++, too" c++ -Wall -Werror -o plus plus.cc $(pkg-config --cflags --libs qsnap)
fi
same "all that is exported begins with qsnap_" \
	"$(nm -D --defined-only inst/lib/libqsnap.so | awk '$3 !~ /^qsnap_/ { print $3 }')" ""
same "... in the static library, too" \
	"$(nm --defined-only --extern-only inst/lib/libqsnap.a | awk 'NF == 3 && $3 !~ /^qsnap_/ { print $3 }')" ""

truncate -s 1M base.raw && printf abc | dd of=base.raw bs=1 seek=65536 conv=notrunc 2>/dev/null
"$QSNAP" create -q -f qcow2 -b base.raw -F raw top.qcow2 2M
export LD_LIBRARY_PATH=$TEST_TMP/inst/lib
ok "the example runs" ./shared top.qcow2
same "... and finds the data" "$(cat out)" "65536 +4096: layer 1, 61"
ok "... statically linked" ./static top.qcow2
same "... with the same answer" "$(cat out)" "65536 +4096: layer 1, 61"

cp top.qcow2 changed.qcow2
ok "the other example runs" ./changes changed.qcow2
same "... and tells what it changed" "$(cat out)" "65536 +65536 differ"
ok "... takes it back" "$QSNAP" compare -q -f qcow2 -F qcow2 top.qcow2 changed.qcow2
same "... and leaves its snapshot" "$("$QSNAP" snapshot -l changed.qcow2 | awk 'NR > 2 { print $2 }')" before
ok "... all of it sound" "$QSNAP" check -q changed.qcow2
fails 1 "it is told when somebody has the image" ./changes missing

# Several layers, holes between: the walk shows what map shows.
"$QSNAP" create -q -f qcow2 base.qcow2 8M
for range in '1 0 64k' '2 192k 64k' '3 1M 300k' '4 7M 1M'; do
	read -r pattern at length <<<"$range"
	qemu-io -f qcow2 -c "write -P $pattern $at $length" base.qcow2 >/dev/null || exit 77
done
"$QSNAP" create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 chain.qcow2 10M
qemu-io -f qcow2 -c 'write -P 9 100k 4k' -c 'write -z 1M 64k' -c 'write -P 10 9M 8k' chain.qcow2 >/dev/null
ok "the example walks a chain" ./shared chain.qcow2
cp out walked
run "$QSNAP" map --output=json chain.qcow2
same "... and shows what map shows" "$(sed 's/, [0-9a-f]*$//' walked)" "$(sed -n 's/.*"start": \([0-9]*\), '\
'"length": \([0-9]*\), "depth": \([0-9]*\), .*"data": true.*/\1 +\2: layer \3/p' out)"
same "... with the bytes that were written" "$(sed 's/.*, //' walked | sort | uniq | tr '\n' ' ')" "01 02 03 04 09 0a "

fails 1 "it tells of a missing image" ./shared missing
says "Could not open 'missing': No such file or directory"
finish

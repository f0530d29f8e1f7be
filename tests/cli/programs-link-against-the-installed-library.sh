#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The example of lib/example, compiled as a stranger would against what `make install` puts in place.
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
fails 1 "it tells of a missing image" ./shared missing
says "Could not open 'missing': No such file or directory"
finish

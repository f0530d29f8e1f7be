#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make install with PREFIX and DESTDIR, what is there then, and make uninstall.
# sanitizers: no
. "$(dirname "$0")/lib.sh"
list() { (cd "$TEST_TMP/root" 2>/dev/null && find . ! -type d | sort); }

ok "make install" make -s -C "$TREE" install B="${BUILD:-build}" DESTDIR="$TEST_TMP/root" PREFIX=/opt/q
for file in bin/qsnap lib/libqsnap.so lib/libqsnap.so.0 lib/libqsnap.a include/qsnap.h lib/pkgconfig/qsnap.pc \
	share/man/man1/qsnap.1 share/bash-completion/completions/qsnap; do
	if [ -s "root/opt/q/$file" ]; then
		good "installed: $file"
	else
		bad "installed: $file" "it is not: $(list | tr '\n' ' ')"
	fi
done
ok "the installed program runs" "root/opt/q/bin/qsnap" --version
if [ -e "${BUILD:-build}/qsnap-libvirt.so" ]; then
	fails 1 "it finds its module" root/opt/q/bin/qsnap vm -c 'qemu+unix:///system?socket=/nowhere' list web
	says "no connection to libvirt"
	rm root/opt/q/libexec/qsnap/qsnap-libvirt.so
	fails 1 "without it vm does not run" root/opt/q/bin/qsnap vm list web
	says "the module 'libvirt' cannot be loaded"
else
	skip "it finds its module" "a build without libvirt"
fi
same "the pkg-config file has the prefix" "$(sed -n 's/^prefix=//p' root/opt/q/lib/pkgconfig/qsnap.pc)" /opt/q
ok "make uninstall" make -s -C "$TREE" uninstall B="${BUILD:-build}" DESTDIR="$TEST_TMP/root" PREFIX=/opt/q
same "nothing is left" "$(list)" ""
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2086,SC2317  # lists of words; u is run by the others
. "$(dirname "$0")/lib.sh"
# what is confined cannot be looked at by the leak checker, which is a process beside it
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
u() { "$QSNAP" --untrusted "$@"; }

"$QSNAP" create -q -f qcow2 plain.qcow2 64M || exit 1
"$QSNAP" create -q -f qcow2 -b plain.qcow2 -F qcow2 overlay.qcow2 || exit 1
"$QSNAP" create -q -f qcow2 -o data_file=outside.raw data.qcow2 1M || exit 1
"$QSNAP" create -q -f qcow2 huge.qcow2 17T || exit 1
truncate -s 1M zeros.raw

# ---- refused ----
for verb in "info" "map" "check" "measure -O qcow2" "snapshot -l"; do
	fails 1 "$verb without a format" u $verb plain.qcow2
	says "--untrusted needs the image's format"
	ok "$verb of a plain image" u $verb -f qcow2 plain.qcow2
	fails 1 "$verb of an overlay" u $verb -f qcow2 overlay.qcow2
	says "a backing file is not accepted in an untrusted image"
	fails 1 "$verb of an image with a data file" u $verb -f qcow2 data.qcow2
	says "an external data file is not accepted in an untrusted image"
	fails 1 "$verb of a disk of 17 TiB" u $verb -f qcow2 huge.qcow2
	ok "$verb of a disk of 17 TiB that is allowed" "$QSNAP" --untrusted --max-virtual-size 18T $verb -f qcow2 huge.qcow2
done
fails 1 "an overlay is not copied" u convert -f qcow2 -O raw overlay.qcow2 out.raw
[ ! -e out.raw ] || bad "nothing is left of it" "there is out.raw"
fails 2 "an overlay is not compared" u compare -f qcow2 -F qcow2 overlay.qcow2 plain.qcow2
fails 1 "an overlay is not cut" u dd -f qcow2 if=overlay.qcow2 of=out.raw
fails 1 "no image over an overlay" u create -f qcow2 -b overlay.qcow2 -F qcow2 out.qcow2
fails 1 "qcow2 that is called raw" u info -f raw plain.qcow2
says "its content is qcow2"
fails 1 "raw that is called qcow2" u info -f qcow2 zeros.raw
fails 1 "a json: name" u info -f qcow2 'json:{"driver":"qcow2","file":{"driver":"file","filename":"plain.qcow2"}}'

# 8192 entries that all lead to one cluster: 512 MiB of data out of some hundred KiB
python3 - <<'P' || exit 1
import struct
b = bytearray(open('plain.qcow2', 'rb').read())
b[24:32] = struct.pack('>Q', 512 << 20)
b += bytes(-len(b) % 65536)
l1, = struct.unpack('>Q', b[40:48])
l2, data = len(b), len(b) + 65536
b[l1:l1 + 8] = struct.pack('>Q', l2 | 1 << 63)
b += struct.pack('>Q', data | 1 << 63) * 8192 + b'x' * 65536
open('bomb.qcow2', 'wb').write(b)
P
ok "info of a bomb" u info -f qcow2 bomb.qcow2
for verb in "convert -f qcow2 -O raw bomb.qcow2 out.raw" "dd -f qcow2 if=bomb.qcow2 of=out.raw"; do
	fails 1 "a bomb does not go off: ${verb%% *}" u $verb
	says "--max-expansion"
	[ ! -e out.raw ] || bad "nothing is left of it" "there is out.raw"
done
fails 2 "a bomb does not go off: compare" u compare -f qcow2 -F qcow2 bomb.qcow2 plain.qcow2
ok "it may when that is allowed" "$QSNAP" --untrusted --max-expansion 100000 compare -f qcow2 -F qcow2 bomb.qcow2 bomb.qcow2

# ---- bounded ----
for part in {1..100}; do cat /bin/bash "$QSNAP" && echo "$part"; done >large.raw
run "$QSNAP" --untrusted --max-seconds 1 convert -f raw -O qcow2 -c --threads 0 -o compression_level=12 large.raw out.qcow2
if [ $status = 0 ]; then
	skip "time is bounded" "this machine is too fast for the test"
else
	same "time is bounded" $status 1
	says "the time limit of --max-seconds is over"
fi
[ $status = 0 ] || [ ! -e out.qcow2 ] || bad "nothing is left of it" "there is out.qcow2"

# ---- confined ----
"$QSNAP" -v --untrusted info -f qcow2 plain.qcow2 >/dev/null 2>told
same "-v tells what holds" "$(grep -c "confined by" told)" 2
ok "a compressed copy works in confinement" u convert -f raw -O qcow2 -c zeros.raw copy.qcow2
ok "... to a pipe, too" sh -c "'$QSNAP' --untrusted convert -f qcow2 -O qcow2 -c plain.qcow2 - >piped.qcow2"
ok "... and is right" "$QSNAP" compare piped.qcow2 plain.qcow2
mkdir elsewhere && ln -s elsewhere/target link
ok "a target behind a symlink works" u convert -f qcow2 -O raw --hash sha256 plain.qcow2 link
[ -f elsewhere/target ] || bad "... and lands there" "it does not"

# A parser that was taken over: it tries, at its first read, what a burglar would.
cat >burglar.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static void attempt(const char *what, int r) { fprintf(stderr, "burglar: %s %s\n", what, r < 0 ? "denied" : "done"); }
ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
	static int tried;
	if (!tried++) {
		attempt("read", open("/etc/hostname", O_RDONLY));
		attempt("list", open("/", O_RDONLY | O_DIRECTORY));
		attempt("make", open("loot", O_WRONLY | O_CREAT, 0600));
		attempt("overwrite", open("plain.qcow2", O_WRONLY));
		attempt("connect", socket(AF_INET, SOCK_STREAM, 0));
		attempt("fork", vfork());
	}
	ssize_t (*real)(int, void *, size_t, off64_t) = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
	return real(fd, buf, n, at);
}
C
sed 's/vfork()/0/' burglar.c >free.c
if ! grep -q ": confined by Landlock" told || ! grep -q ": confined by seccomp" told; then
	skip "a burglar gets nothing" "the kernel or this build cannot confine: $(grep -v limit told | tr '\n' ' ')"
elif ! cc -shared -fPIC -o burglar.so burglar.c -ldl 2>/dev/null || ! cc -shared -fPIC -o free.so free.c -ldl 2>/dev/null; then
	skip "a burglar gets nothing" "there is no C compiler"
else
	LD_PRELOAD=$PWD/free.so "$QSNAP" info -f qcow2 plain.qcow2 >/dev/null 2>err
	same "without confinement a burglar gets all" "$(grep -c 'burglar: .* done' err)" 6
	rm -f loot
	LD_PRELOAD=$PWD/burglar.so "$QSNAP" --untrusted info -f qcow2 plain.qcow2 >/dev/null 2>err
	same "a burglar gets nothing" "$(grep -c 'burglar: .* denied' err) of $(grep -c burglar err)" "6 of 6"
	[ ! -e loot ] || bad "nothing is left of it" "there is loot"
fi
finish

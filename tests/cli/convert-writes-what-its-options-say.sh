#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# -n and --target-is-zero on what exists, several sources, -B over any layer of the chain, the rate limit.
# time limit: 180
. "$(dirname "$0")/lib.sh"
k=1024
fill() { head -c "$2" /dev/zero | tr '\0' "$1"; } # BYTE COUNT
{ fill a $((64 * k)) && fill '\0' $((64 * k)) && fill b $((300 * k)) && fill '\0' $((84 * k)); } >src.raw # 512 KiB
"$QSNAP" convert -f raw -O qcow2 src.raw src.qcow2

# ---- -n into a raw file ----
old() { fill x $((1024 * k)) >target; }
for options in "" "--threads 0" "-S 0" "-S 64k" "-W -m 3" "-t none" "-t writethrough"; do
	old && chmod 640 target
	before=$(stat -c '%i %a' target)
	# shellcheck disable=SC2086 # options are words
	ok "-n $options into a larger file" "$QSNAP" convert -n -f qcow2 -O raw $options src.qcow2 target
	ok "... begins with the disk, zeros too" cmp -n $((512 * k)) src.raw target
	same "... keeps the rest" "$(tail -c $((512 * k)) target | tr -d x | wc -c)" 0
	same "... is the same file, as long as it was" "$(stat -c '%i %a %s' target)" "$before $((1024 * k))"
done
old
ok "--target-is-zero" "$QSNAP" convert -n --target-is-zero -f qcow2 -O raw src.qcow2 target
same "... writes no zeros" "$(dd if=target bs=64k skip=1 count=1 2>/dev/null | tr -d x | wc -c)" 0
same "... but the data" "$(dd if=target bs=64k count=1 2>/dev/null | tr -d a | wc -c)" 0
fill x $((256 * k)) >target
fails 1 "-n into a smaller file" "$QSNAP" convert -n -f qcow2 -O raw src.qcow2 target
same "... leaves it as it was" "$(stat -c %s target) $(tr -d x <target | wc -c)" "$((256 * k)) 0"
fails 1 "-n without a target" "$QSNAP" convert -n -f qcow2 -O raw src.qcow2 absent
same "... makes none" "$(compgen -G absent)" ""
fails 1 "--target-is-zero without -n" "$QSNAP" convert --target-is-zero -f qcow2 -O raw src.qcow2 target
fails 1 "-n with -o" "$QSNAP" convert -n -o size=1M -f qcow2 -O raw src.qcow2 target

# ---- -n into a qcow2 image: it keeps its options ----
"$QSNAP" create -q -f qcow2 -o cluster_size=4k,refcount_bits=8,compat=1.1,lazy_refcounts=on made.qcow2 1M
ok "-n into an empty image" "$QSNAP" convert -n -f raw -O qcow2 src.raw made.qcow2
ok "... that is larger" "$QSNAP" compare -f raw -F qcow2 src.raw made.qcow2
run "$QSNAP" info made.qcow2
same "... keeps its options" "$(grep -cE 'cluster_size: 4096|lazy refcounts: true|refcount bits: 8|\(1048576 bytes\)' out)" 4
ok "... and is sound" "$QSNAP" check made.qcow2

# ---- several sources ----
fill c $((100 * k)) >second.raw
fill d 1000 >odd.raw # is a sector longer, in qemu-img's view, and so in ours
cat src.raw second.raw src.raw odd.raw >wanted.raw && truncate -s %512 wanted.raw
for options in "-O raw" "-O qcow2" "-O qcow2 -c" "-O qcow2 -o cluster_size=2M" "-O raw --threads 0"; do
	# shellcheck disable=SC2086
	ok "several sources: $options" "$QSNAP" convert -f raw $options src.raw second.raw src.raw odd.raw joined
	ok "... follow one another" "$QSNAP" compare -f "$(cut -d' ' -f2 <<<"$options")" -F raw joined wanted.raw
	same "... and end with the last one's sector" \
		"$("$QSNAP" info -f "$(cut -d' ' -f2 <<<"$options")" joined | sed -n 's/^virtual size.*(\([0-9]*\) bytes)/\1/p')" \
		"$(stat -c %s wanted.raw)"
done
fails 1 "several sources and a backing file" "$QSNAP" convert -f raw -O qcow2 -B src.qcow2 -F qcow2 src.raw second.raw x
fails 1 "several sources, one of them missing" "$QSNAP" convert -f raw -O raw src.raw absent x
same "... no target" "$(compgen -G x)" ""

# ---- -B: what lies above any layer of the chain ----
if command -v qemu-io >/dev/null; then
	"$QSNAP" convert -f raw -O qcow2 src.raw l0
	for n in 1 2 3; do
		"$QSNAP" create -q -f qcow2 -b l$((n - 1)) -F qcow2 l$n
		qemu-io -f qcow2 -c "write -P $n $((n * 64))k 64k" -c "write -z $((256 + n * 64))k 64k" l$n >/dev/null
	done
	held() { # IMAGE DEPTHS: bytes that these layers say something about
		"$QSNAP" map --output=json "$1" |
			sed -nE "s/.*\"length\": ([0-9]+), \"depth\": $2, \"present\": true.*/\1/p" | awk '{ n += $1 } END { print n }'
	}
	for n in 0 1 2; do
		ok "-B layer $n of 0 to 3" "$QSNAP" convert -O qcow2 -B l$n -F qcow2 l3 over
		ok "... the same disk" "$QSNAP" compare over l3
		same "... over that layer" "$("$QSNAP" info over | sed -n 's/^backing file: //p')" l$n
		same "... holding what is above it, nothing else" "$(held over 0)" "$(held l3 "[0-$((2 - n))]")"
	done
else
	skip "-B" "there is no qemu-io"
fi
fails 1 "-B without -F" "$QSNAP" convert -O qcow2 -B src.qcow2 src.qcow2 x
says "backing format must be specified"

# ---- the rate ----
head -c 2M /dev/urandom >random.raw
truncate -s 500M random.raw # zeros do not count
began=$(date +%s%N)
ok "-r 1M, 2 MiB of data" "$QSNAP" convert -r 1M -f raw -O raw random.raw limited.raw
milliseconds=$((($(date +%s%N) - began) / 1000000))
if [ $milliseconds -ge 700 ] && [ $milliseconds -le 20000 ]; then
	good "... takes about two seconds"
else
	bad "... takes about two seconds" "$milliseconds ms"
fi
ok "... and all arrives" cmp random.raw limited.raw
finish

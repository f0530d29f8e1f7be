#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sanitizers: no
# shellcheck disable=SC2086,SC2206,SC1091,SC2317  # no command may be an empty word; the script is made here
. "$(dirname "$0")/lib.sh"

# `-x, --long`: every name that --help shows at the start of a line
options_of() { sed -nE 's/^  (-., )?(    )?(--?[[:alnum:]-]+).*/\1\3/p' | tr -d ','; }

ok "--help succeeds" "$QSNAP" --help
cp out help
commands_of() { sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'; }
commands=$(commands_of <help)
same "--help lists the commands" "$(tr '\n' ' ' <<<"$commands")" \
	"amend bitmap check commit compare completion convert create dd diff download images info io map measure rebase resize snapshot trim upload vm "
"$QSNAP" completion bash >script || bad "completion bash succeeds" "status $?"
ok "the completion script is bash" bash -n script

subs=("")
while read -r sub; do
	subs+=("$sub")
	for verb in $("$QSNAP" $sub --help | commands_of); do subs+=("$sub $verb"); done
done <<<"$commands"
for sub in "${subs[@]}"; do
	ok "$sub --help succeeds" "$QSNAP" $sub --help
	same "... on stdout only" "$(cat err)" ""
	for option in $(options_of <out); do
		(
			. ./script
			COMP_WORDS=(qsnap $sub "$option") COMPREPLY=()
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			_qsnap
			[[ " ${COMPREPLY[*]} " == *" $option "* ]]
		) || bad "completion knows '$sub $option'" "it does not"
	done
done

complete_line() { # WORDS...: what is offered for the last
	(
		. ./script
		compopt() { :; }
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
		_qsnap
		echo "${COMPREPLY[*]}"
	)
}
touch image.qcow2
same "commands are completed" "$(complete_line qsnap com)" "commit compare completion"
same "formats" "$(complete_line qsnap convert -O "")" "raw qcow2"
same "cache modes" "$(complete_line qsnap check --cache n)" "none"
same "kinds of output" "$(complete_line qsnap info --output "")" "human json"
same "files" "$(complete_line qsnap info im)" "image.qcow2"
same "verbs of a verb" "$(complete_line qsnap -c qemu:///system vm --state dir re)" "recover revert"
same "modes" "$(complete_line qsnap vm snapshot web --mode c)" "cold"
same "after the argument of an option, too" "$(complete_line qsnap --max-memory 2G inf)" "info"
same "after a global option, too" "$(complete_line qsnap --untrusted inf)" "info"
finish

#!/usr/bin/env bash
# `vggflow docs` from outside: the committed reference pages are what the program prints, bash completes commands, keys and values
# with its script, and the other shells and man read theirs where they are installed. Usage: docs.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$vggflow" docs out="$out/pages" >"$out/log.txt" || die "vggflow docs failed"
diff -r docs/reference "$out/pages" >"$out/diff.txt" || die "docs/reference is not what the program says; run: $vggflow docs
$(head -20 "$out/diff.txt")"
for command in $("$vggflow" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
  [ -s "docs/reference/$command.md" ] || die "the command $command has no page"
done
refuse "expected one of man=true and completion=SHELL" "$vggflow" docs --man --completion bash

# completes WANTED WORD...: completing the last of the words gives what is wanted, in order.
completes() {
  local wanted=$1
  shift
  COMP_WORDS=(vggflow "$@") COMP_CWORD=$# COMPREPLY=()
  _vggflow
  [ "${COMPREPLY[*]}" = "$wanted" ] || die "'vggflow $*' completes to '${COMPREPLY[*]}', expected '$wanted'"
}
"$vggflow" docs --completion bash >"$out/vggflow.bash" || die "no completion for bash"
. "$out/vggflow.bash"
completes "sample" sam
completes "updates=" align upd
completes "--negative-prompt" sample --neg
completes "true false" align resume =
completes "refl" align method = re
completes "README.md" inspect READ
for shell in zsh fish; do
  "$vggflow" docs --completion $shell >"$out/vggflow.$shell" || die "no completion for $shell"
  command -v $shell >/dev/null || { echo "left out: $shell is not installed to read its completion"; continue; }
  $shell -n "$out/vggflow.$shell" || die "$shell does not read its completion"
done
"$vggflow" docs --man >"$out/vggflow.1" || die "no man page"
if command -v man >/dev/null; then
  MANWIDTH=90 man --warnings -l "$out/vggflow.1" >"$out/man.txt" 2>"$out/warnings.txt" || die "man does not read the page"
  [ ! -s "$out/warnings.txt" ] || die "man warns: $(head -3 "$out/warnings.txt")"
  grep -q "policy_optimizer.lr=" "$out/man.txt" || die "the man page misses policy_optimizer.lr"
else
  echo "left out: man is not installed to read the page"
fi
echo "docs: the committed pages are the program's; completion works"

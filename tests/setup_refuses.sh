#!/usr/bin/env bash
# A package that does not exist ends the set-up with its name and a non-zero exit. Usage: setup_refuses.sh SOURCE_DIR
set -u
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/scripts" "$copy/bin"
cp "$1/scripts/setup.sh" "$copy/scripts/"
cp "$1/requirements.txt" "$copy/"
echo "no-such-package-vggflow" >"$copy/packages.txt"
# An apt-get that fails at once stands in for the real one: no network, and nothing installed on this machine.
printf '#!/bin/sh\nexit 100\n' >"$copy/bin/apt-get"
printf '#!/bin/sh\nexec "$@"\n' >"$copy/bin/sudo"
chmod +x "$copy/bin/apt-get" "$copy/bin/sudo"
output=$(PATH="$copy/bin:$PATH" bash "$copy/scripts/setup.sh" 2>&1)
code=$?
[ $code -ne 0 ] || { echo "expected a non-zero exit, got 0: $output"; exit 1; }
grep -q "error: these Debian packages could not be installed: no-such-package-vggflow" <<<"$output" ||
  { echo "expected the package's name in the error, got: $output"; exit 1; }
output=$(bash "$copy/scripts/setup.sh" --cuda13 2>&1) && { echo "expected a refusal of --cuda13, got: $output"; exit 1; }
grep -q "expected --test or --cuda, got --cuda13" <<<"$output" || { echo "expected the option's name in the error, got: $output"; exit 1; }
# The CUDA set is the CPU's with more: the same versions, or the program would be built with one LibTorch and run with another.
grep -v '^#' "$1/requirements.txt" | while read -r wheel; do
  grep -qxF "$wheel" "$1/requirements-cuda.txt" || { echo "requirements-cuda.txt lacks $wheel of requirements.txt"; exit 1; }
done || exit 1
echo "set-up refused as it should: $code"

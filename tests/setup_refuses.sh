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
echo "set-up refused as it should: $code"

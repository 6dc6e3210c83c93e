#!/usr/bin/env bash
# Refuses C and C++ files that .clang-format would change. Usage: check_format.sh SOURCE_DIR
# The version of clang-format is the one in requirements-test.txt: another one lays lines out differently.
set -euo pipefail
cd "$1"
want=$(sed -n 's/^clang-format==//p' requirements-test.txt)
tool=.venv-test/bin/clang-format
if [ ! -x $tool ] || [ "$($tool --version | grep -o '[0-9][0-9.]*' | head -1)" != "$want" ]; then
  echo "check_format: expected clang-format $want as $tool; run scripts/setup.sh --test" >&2
  exit 77
fi
# clang-format fails where it finds something, and so would the pipe.
problems=$(git ls-files -z '*.c' '*.cpp' '*.h' '*.cu' | xargs -0 $tool --dry-run -Werror 2>&1 | grep -E 'error:' | head -5 || true)
[ -z "$problems" ] || {
  echo "$problems" >&2
  echo "check_format: run: git ls-files '*.c' '*.cpp' '*.h' '*.cu' | xargs $tool -i" >&2
  exit 1
}
echo "formatted by clang-format $want"

#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) on the sources of the named folders under src/vggflow, default core kernels ops flow algorithms:
# scripts/tidy.sh [FOLDER...]. Needs Debian's clang and clang-tidy. VGGFLOW_JOBS files at a time, default 2.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-tidy > /dev/null || { echo "tidy: expected clang-tidy on the PATH: apt-get install clang clang-tidy" >&2; exit 1; }
cmake --preset cpu-clang > /dev/null
cmake --build --preset cpu-clang --target vggflow_commit > /dev/null  # a header that is made
[ $# -gt 0 ] || set -- core kernels ops flow algorithms
files=()
for folder in "$@"; do
  [ -d "src/vggflow/$folder" ] || { echo "tidy: expected a folder under src/vggflow, got '$folder'" >&2; exit 1; }
  while IFS= read -r file; do files+=("$file"); done < <(git ls-files "src/vggflow/$folder/*.cpp" | grep -v '_test\.cpp$')
done
printf '%s\n' "${files[@]}" | xargs -P "${VGGFLOW_JOBS:-2}" -n 1 clang-tidy -p build/cpu-clang --quiet
echo "tidy: ${#files[@]} files, no finding"

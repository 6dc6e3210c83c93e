#!/usr/bin/env bash
# vggflow beside its PyTorch twins on this machine's CPU, in one call: nano_bench, twin.py eager and twin.py under torch.compile in turn,
# round by round (bench/compare.py says what is printed, and its --help how to choose).
# Usage: bench/compare.sh [BUILD_FOLDER] [OPTIONS OF compare.py]   (build/cpu; PYTHON: one that imports torch 2.11, else .venv-test's, .venv's
# or python3). Without a torch there is --programs vggflow.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../build/cpu
if [ $# -gt 0 ] && [ -d "$1" ]; then
  build=$1
  shift
fi
python=${PYTHON:-}
for candidate in "$here/../.venv-test/bin/python3" "$here/../.venv/bin/python3"; do
  if [ -z "$python" ] && "$candidate" -c 'import torch' 2>/dev/null; then python=$candidate; fi
done
exec "${python:-python3}" "$here/compare.py" --build "$build" "$@"

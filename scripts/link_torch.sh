#!/usr/bin/env bash
# Lets the vggflow beside this script use an installed PyTorch: link_torch.sh [FOLDER of the package torch]. Without FOLDER: the
# one of .venv here, else of python3. Says what is missing where the programs cannot load then.
set -euo pipefail
cd "$(dirname "$0")"
die() { echo "link_torch: error: $*" >&2; exit 1; }
wanted=$(sed -n 's/^torch==//p' requirements.txt)

folder=${1:-}
if [ -z "$folder" ]; then
  python=.venv/bin/python
  [ -x "$python" ] || python=python3
  folder=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
    die "no torch in .venv here nor in python3: install requirements.txt or requirements-cuda.txt (README.txt), or pass torch's folder"
fi
[ -f "$folder/lib/libtorch_cpu.so" ] || die "expected PyTorch's package folder, with lib/libtorch_cpu.so in it, got $folder"
found=$(sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$folder/version.py")
[ "$found" = "$wanted" ] || die "expected torch $wanted, which vggflow was built with, got $found in $folder"
ln -sfn "$(cd "$folder" && pwd)" torch
missing=$(ldd ./vggflow | awk '/not found/ { print $1 }' | sort -u | xargs)
[ -z "$missing" ] || die "torch is linked, but these libraries are missing: $missing"
echo "link_torch: torch $found of $folder"

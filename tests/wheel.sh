#!/usr/bin/env bash
# scripts/wheel.sh from outside: the wheel is installed by pip into an empty virtual environment that has PyTorch, and the console script
# and the module sample from another folder; without PyTorch, or NumPy, they say what to install. With NumPy the examples of
# examples/python run, and tests/python_module.py. Usage: wheel.sh SOURCE_DIR BUILD_DIR
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
source=$PWD build=$2
find_torch "$build"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

scripts/wheel.sh "$build" "$out" >"$out/log.txt" 2>&1 || die "wheel.sh failed: $(tail -3 "$out/log.txt")"
tail -1 "$out/log.txt"
# Ubuntu 22.04 has 2.35; a library of the system's own C library among the bundled ones would ask for more.
ls "$out" | grep -q manylinux_2_35_ || die "expected a wheel for a C library of 2.35 and later, got $(ls "$out")"
python3 -m venv "$out/venv" || die "python3 -m venv failed"
"$out/venv/bin/pip" install -q --no-index --no-deps --disable-pip-version-check "$out"/*.whl || die "pip refuses the wheel"
"$out/venv/bin/pip" show vggflow | grep -q "^Requires: torch" || die "the wheel does not ask for torch"
cd "$out" || exit 1
refuse "vggflow needs PyTorch: pip install 'torch==2.11.*'" "$out/venv/bin/vggflow" --version

# The user's own PyTorch; of the wheels of torch nothing is downloaded here.
ln -s "$(realpath "$torch")" "$(echo "$out"/venv/lib/python3*/site-packages)/torch"
env -i "OMP_NUM_THREADS=1" "$out/venv/bin/vggflow" sample "prompts=[red heart]" out=images >log.txt 2>&1 || die "the console script cannot sample: $(tail -3 log.txt)"
[ -s images/grid.png ] || die "the console script drew nothing"
"$out/venv/bin/vggflow" plan --config configs/nano.yaml --gflops 100 | grep -q "memory at the fullest moment" || die "configs/nano.yaml of the wheel is not found"
"$out/venv/bin/python" -m vggflow --version | grep -q "^vggflow " || die "python -m vggflow does not run"
"$out/venv/bin/python" -c 'import vggflow; vggflow.run("inspect", "models/none").check_returncode()' >/dev/null 2>&1 && die "a failure's exit code is lost"
packages=$(echo "$out"/venv/lib/python3*/site-packages)
foreign=$(ldd "$(echo "$out"/venv/lib/python3*/site-packages/vggflow/_program)/vggflow" | awk '/not found/ { print $1 }')
[ -z "$foreign" ] || die "libraries are missing: $foreign"
foreign=$(ldd "$packages/vggflow/_program/lib/libvggflow_c.so" | awk '/not found/ { print $1 }')
[ -z "$foreign" ] || die "libraries of libvggflow_c.so are missing: $foreign"
refuse "vggflow.Model needs NumPy: pip install numpy" "$out/venv/bin/python" -c 'import vggflow; vggflow.Model()'
echo "wheel: installed into an empty virtual environment, it samples from another folder"

# NumPy as requirements-test.txt has it; nothing is downloaded here either.
numpy=$(echo "$source"/.venv-test/lib/python3*/site-packages/numpy)
[ -d "$numpy" ] || { echo "left out: the Python module, as NumPy is missing (scripts/setup.sh --test installs it)"; exit 0; }
for folder in "$numpy" "$numpy.libs"; do ln -s "$(realpath "$folder")" "$packages/"; done
python=$out/venv/bin/python
"$python" "$source/examples/python/sample.py" images.npy >example.txt 2>&1 || die "examples/python/sample.py fails: $(tail -3 example.txt)"
grep -q "wrote images.npy (3, 32, 32, 3) uint8" example.txt || die "examples/python/sample.py prints $(cat example.txt)"
"$python" "$source/examples/python/score.py" 3 >example.txt 2>&1 || die "examples/python/score.py fails: $(tail -3 example.txt)"
[ "$(grep -c "^seed" example.txt)" = 3 ] && grep -q "^best: seed" example.txt || die "examples/python/score.py prints $(cat example.txt)"
"$python" "$source/examples/python/align.py" run 1 >example.txt 2>&1 || die "examples/python/align.py fails: $(tail -3 example.txt)"
grep -q "^update 1/1: reward" example.txt && grep -q "finished after 1 updates" example.txt || die "examples/python/align.py prints $(cat example.txt)"
"$python" "$source/tests/python_module.py" >module.txt 2>&1 || die "tests/python_module.py fails: $(tail -30 module.txt)"
echo "wheel: the examples of examples/python run; $(grep '^Ran' module.txt)"

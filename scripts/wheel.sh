#!/usr/bin/env bash
# Makes a Python wheel of the built program and its library for Python: them, Debian's libraries, the nano models and the
# configurations. PyTorch is a dependency (torch==2.11.*, the user's own, CPU or CUDA), found beside the package by RPATH; NumPy one of
# the extra "arrays".
# Usage: scripts/wheel.sh [BUILD_FOLDER [OUTPUT_FOLDER]] (build/cpu, build/wheel)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/cpu} out=${2:-build/wheel}
die() { echo "wheel: error: $*" >&2; exit 1; }
[ -f "$build/lib/libvggflow_c.so" ] || die "$build/lib/libvggflow_c.so is missing; run scripts/build.sh ${build##*/}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

VGGFLOW_BUNDLE_TARBALL=no scripts/bundle.sh "$build" "$work/bundle"
mkdir -p "$work/wheel"
cp -r packaging/python/vggflow "$work/wheel/"
program=$work/wheel/vggflow/_program
mv "$work"/bundle/vggflow-linux-* "$program"
(cd "$program" && rm -f gpu_bench gpu_test gpu_runs_test link_torch.sh README.txt requirements*.txt)

cp "$build/lib/libvggflow_c.so" "$program/lib/"
strip --strip-unneeded "$program/lib/libvggflow_c.so"

# site-packages/vggflow/_program/vggflow and site-packages/torch/lib.
patchelf --force-rpath --set-rpath '$ORIGIN/lib:$ORIGIN/../../torch/lib' "$program/vggflow"
for library in "$program"/lib/*.so*; do patchelf --force-rpath --set-rpath '$ORIGIN:$ORIGIN/../../../torch/lib' "$library"; done

version=$(sed -n 's/^project(vggflow VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
[ -n "$version" ] || die "CMakeLists.txt names no version"
# The newest C library that the program or a library asks for decides which systems may install it.
needed=$(objdump -T "$program/vggflow" "$program"/lib/*.so* | grep -oE 'GLIBC_2\.[0-9]+' | sort -Vu | tail -1 | sed 's/GLIBC_2\.//')
# Libraries of Debian's own C library ask for it whole, besides its versions.
if objdump -p "$program/vggflow" "$program"/lib/*.so* | grep -q GLIBC_ABI_DT_RELR && [ "$needed" -lt 36 ]; then needed=36; fi
python3 scripts/write_wheel.py "$work/wheel" "$out" "$version" "manylinux_2_${needed}_$(uname -m)"

#!/usr/bin/env bash
# Makes a folder that runs wherever it is put, and its tarball: the program, the GPU benchmark and tests and the CUDA plug-in
# where they are built, Debian's libraries, the nano models and the configurations. PyTorch is not in it: link_torch.sh
# links an installed one. Usage: scripts/bundle.sh [BUILD_FOLDER [OUTPUT_FOLDER]] (build/cpu, build/bundle)
# Left to the system: the C library, libstdc++ and libgcc_s, because plug-ins compiled there need those that are there
# (GLIBC 2.35 and GLIBCXX 3.4.29 at least: Ubuntu 22.04, Debian 12); libtorch, libgomp and CUDA, which come with PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/cpu} out=${2:-build/bundle}
die() { echo "bundle: error: $*" >&2; exit 1; }
command -v patchelf >/dev/null || die "patchelf is missing; run scripts/setup.sh"
[ -x "$build/vggflow" ] || die "$build/vggflow is missing; run scripts/build.sh ${build##*/} --target vggflow"

name=vggflow-linux-$(uname -m)
folder=$out/$name
rm -rf "$folder"
mkdir -p "$folder/lib"

# What the build made of these: name in the bundle's root or lib.
programs=(vggflow)
cp "$build/vggflow" "$folder/"
for program in gpu_bench gpu_test gpu_runs_test; do
  file=$(find "$build" -name "$program" -type f -perm -u+x | head -1)
  [ -n "$file" ] || { echo "bundle: $program is not built, left out"; continue; }
  cp "$file" "$folder/"
  programs+=("$program")
done
plugin=$(find "$build" -name libvggflow_cuda.so -type f | head -1)
if [ -n "$plugin" ]; then cp "$plugin" "$folder/lib/"; else echo "bundle: libvggflow_cuda.so is not built, left out"; fi

# Paths of the Debian libraries that the programs load.
libraries() {
  local program
  for program in "${programs[@]}"; do ldd "$folder/$program"; done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libutil|libstdc\+\+|libgcc_s|ld-linux[^/]*)\.so' |
    grep -vE '/(libtorch[^/]*|libc10[^/]*|libgomp[^/]*|libcudart|libcupti|libnv[^/]*|libcu[bdfs][^/]*)\.so'
}
libraries | while read -r library; do cp -L "$library" "$folder/lib/"; done

strip --strip-unneeded "$folder"/lib/*.so* "${programs[@]/#/$folder/}"
# RPATH and not RUNPATH: it holds for the libraries' own needs and for what is opened later, too.
for program in "${programs[@]}"; do patchelf --force-rpath --set-rpath '$ORIGIN/lib:$ORIGIN/torch/lib' "$folder/$program"; done
for library in "$folder"/lib/*.so*; do patchelf --force-rpath --set-rpath '$ORIGIN:$ORIGIN/../torch/lib' "$library"; done

cp -r models configs "$folder/"
cp requirements.txt requirements-cuda.txt scripts/link_torch.sh "$folder/"
cat >"$folder/README.txt" <<'TEXT'
vggflow, without PyTorch. Once:
  python3 -m venv .venv
  .venv/bin/pip install --no-deps -r requirements.txt        # CPU, 544 MB; or
  .venv/bin/pip install --no-deps -r requirements-cuda.txt   # NVIDIA GPUs, 2.5 GB
  ./link_torch.sh                                            # or link_torch.sh FOLDER of any torch 2.11
Then, in this folder:
  ./vggflow sample "prompts=[red heart]"
TEXT

[ "${VGGFLOW_BUNDLE_TARBALL:-yes}" = yes ] || exit 0  # scripts/wheel.sh takes the folder
# One block with a dictionary as large as the folder: the program and its GPU tests hold much of the same code.
tar -C "$out" --owner=0 --group=0 --sort=name -c "$name" | xz -T1 -9 >"$folder.tar.xz"
echo "bundle: $folder.tar.xz, $(stat -c %s "$folder.tar.xz") bytes; unpacked $(du -sb "$folder" | cut -f1)"

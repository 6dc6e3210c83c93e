#!/usr/bin/env bash
# scripts/bundle.sh from outside: the tarball is small, runs after a move with an empty environment and with libraries of its own alone,
# runs in an empty root of another system where one is given, refuses a PyTorch that does not fit; and all parts of bench/gpu.sh
# run through with it on the pretend device. Usage: bundle.sh SOURCE_DIR BUILD_DIR
# VGGFLOW_EMPTY_ROOT: a root with only a base system, from `debootstrap --variant=minbase noble FOLDER http://archive.ubuntu.com/ubuntu`.
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
build=$2
find_torch "$build"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

scripts/bundle.sh "$build" "$out" >"$out/log.txt" 2>&1 || die "bundle.sh failed: $(tail -3 "$out/log.txt")"
tail -1 "$out/log.txt"
tarball=$(echo "$out"/*.tar.xz)
size=$(stat -c %s "$tarball")
[ "$size" -le 25000000 ] || die "expected a tarball of at most 25 MB, got $size bytes"

moved="$out/moved to here"
mkdir "$moved"
tar -C "$moved" --strip-components=1 -xJf "$tarball"
rm -rf "$out"/vggflow-linux-*/
refuse "expected PyTorch's package folder" "$moved/link_torch.sh" "$out"
mkdir -p "$out/old/lib"
touch "$out/old/lib/libtorch_cpu.so"
echo "__version__ = '2.10.0+cpu'" >"$out/old/version.py"
refuse "expected torch 2.11.0, which vggflow was built with, got 2.10.0" "$moved/link_torch.sh" "$out/old"
[ ! -e "$moved/torch" ] || die "a refused PyTorch was linked"
"$moved/link_torch.sh" "$torch" || die "link_torch.sh refused $torch"

# Of the system, nothing but the base that every program has.
foreign=$(cd "$moved" && ldd ./vggflow | sed -n 's/.* => \(.*\) (0x.*/\1/p' | xargs -d '\n' realpath |
  grep -vE "^($moved|$(realpath "$torch")|.*/nvidia)/|/(libc|libm|libdl|librt|libpthread|libresolv|libutil|libstdc\+\+|libgcc_s)\.so")
[ -z "$foreign" ] || die "expected the bundle's own libraries, got $foreign"
sample() { env -i OMP_NUM_THREADS=1 "$@" ./vggflow sample "prompts=[red heart]" "out=$images"; }
images="$out/images"
(cd "$moved" && sample) >"$out/log.txt" 2>&1 || die "the moved bundle cannot sample: $(tail -3 "$out/log.txt")"
[ -s "$out/images/00000.png" ] || [ -s "$out/images/grid.png" ] || die "the moved bundle drew nothing: $(ls "$out/images")"
echo "moved, with an empty environment: sampled"

# The root is the base system with the bundle and PyTorch (with its CUDA companions) laid into it, in name spaces of our own; the
# loader finds a program's $ORIGIN in /proc.
in_empty_root() {
  local root=$VGGFLOW_EMPTY_ROOT
  mount --rbind /proc "$root/proc" && mount -t tmpfs tmpfs "$root/mnt" && mkdir "$root/mnt/bundle" "$root/mnt/site" &&
    mount --bind "$moved" "$root/mnt/bundle" && mount --bind "$(realpath "$(dirname "$torch")")" "$root/mnt/site" &&
    chroot "$root" env -i PATH=/usr/bin:/bin OMP_NUM_THREADS=1 bash -c \
      'cd /mnt/bundle && ./link_torch.sh /mnt/site/torch && ./vggflow sample "prompts=[red heart]" out=/mnt/images && [ -s /mnt/images/grid.png ] && . /etc/os-release && echo "in an empty root of $PRETTY_NAME: sampled"'
}
if [ -d "${VGGFLOW_EMPTY_ROOT:-}" ]; then
  export -f in_empty_root
  export moved torch VGGFLOW_EMPTY_ROOT
  unshare -rm bash -c in_empty_root >"$out/log.txt" 2>&1 || die "the bundle fails in $VGGFLOW_EMPTY_ROOT: $(tail -3 "$out/log.txt")"
  tail -1 "$out/log.txt"
else
  echo "left out: an empty root of another system (VGGFLOW_EMPTY_ROOT is not set)"
fi

if [ ! -x "$moved/gpu_bench" ]; then
  echo "left out: the dry run of bench/gpu.sh, as gpu_bench is not built"
  exit 0
fi
# The twin wants a PyTorch that loads: CUDA's wheels, and a few packages besides (docs/gpu.md).
twin=${GPU_PYTHON:-}
for candidate in .venv/bin/python python3; do
  [ -n "$twin" ] || ! "$candidate" -c "import torch, sympy, networkx" 2>/dev/null || twin=$candidate
done
# bench/gpu.sh with all its parts, on the pretend device: LibTorch is given it by a library that is loaded before the program.
pretend=$(find "$(realpath "$build")" -name libvggflow_pretend.so | head -1)
[ -n "$pretend" ] || die "libvggflow_pretend.so is not built"
env OMP_NUM_THREADS=1 GPU_DEVICE=pretend GPU_WRAP="env LD_PRELOAD=$pretend" GPU_TWIN_DEVICE=cpu GPU_TORCH="$torch" GPU_SHAPES=tiny GPU_PIXELS=64 GPU_TRAJECTORIES=2 \
  GPU_ALIGN="updates=2 batch=2 time_grid.steps=5 grid_images=4 eval.images=2" GPU_PYTHON="${twin:-python3}" GPU_FLAGS="--text-tokens 5 --side 64 --steps 6 --repeats 1 --warm-ups 1" \
  bench/gpu.sh "$tarball" "$out/gpu" >"$out/log.txt" 2>&1 || die "bench/gpu.sh failed: $(tail -5 "$out/log.txt")"
grep -q '"error"' "$out/gpu/gpu.json" && die "a measure failed: $(grep -m1 '"error"' "$out/gpu/gpu.json")"
for measure in forward/base forward/lora forward/merged backward backward/checkpointed rollout tangent update; do
  grep -q "^| tiny | 64 | $measure | [0-9]" "$out/gpu/gpu.md" || die "expected $measure in the table, got $(cat "$out/gpu/gpu.md")"
done
python3 -c "import json, sys; lines = json.load(open(sys.argv[1]))['lines']; assert all(l['median_ms'] > 0 for l in lines), lines" "$out/gpu/gpu.json" ||
  die "gpu.json holds no figures"
grep -q '"device":"pretend"' "$out/gpu/log.txt" || die "nothing was measured on the pretend device: $(cat "$out/gpu/log.txt")"
for part in "vggflow check" "align nano" ceilings "tests on the device: gpu_test" "tests on the device: gpu_runs_test"; do
  awk -F'\t' -v part="$part" '$1 == part && $3 == 0 { found = 1 } END { exit !found }' "$out/gpu/parts.tsv" || die "expected '$part' to succeed: $(cat "$out/gpu/parts.tsv" "$out/gpu/log.txt")"
done
grep -q "everything holds" "$out/gpu/log.txt" || die "vggflow check on the pretend device: $(cat "$out/gpu/log.txt")"
grep -q "gradient on the GPU differs by" "$out/gpu/log.txt" || die "the GPU's runs were left out on the pretend device"
echo "bench/gpu.sh on the pretend device, all parts: $(grep -c median_ms "$out/gpu/gpu.json") measures in $(awk -F'\t' '{ s += $2 } END { print s }' "$out/gpu/parts.tsv") s"
[ -n "$twin" ] || echo "left out: the PyTorch twin (no Python here loads torch; GPU_PYTHON names one that does)"

# A part that hangs or fails leaves the others' figures: without any time nothing is measured, and the report says so.
env GPU_LIMIT=1 GPU_DEVICE=cpu GPU_TORCH="$torch" bench/gpu.sh "$tarball" "$out/late" >"$out/log.txt" 2>&1 && die "expected a failure without any time"
grep -q "left out for want of time" "$out/log.txt" || die "expected the parts that were left out, got $(cat "$out/log.txt")"

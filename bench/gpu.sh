#!/usr/bin/env bash
# One call on a machine with a GPU, with nothing to build or fetch there: unpacks the bundle, links PyTorch, runs the program's own
# check and the GPU tests, and times vggflow beside PyTorch (eager and torch.compile) in the same run.
# Usage: bench/gpu.sh BUNDLE.tar.xz [OUTPUT_FOLDER]   (scripts/bundle.sh makes the bundle; output: $OUT, else runs/gpu)
# Writes gpu.json, gpu.md (the table of docs/gpu.md), log.txt and the tests' XML, anew after every part. Each part has a time cap of its own:
# one that hangs or fails leaves the others' figures. Settings, as environment variables:
#   GPU_LIMIT    seconds in all (540); what does not fit is listed as left out
#   GPU_PARTS    some of: check test align ceilings times update compile (all)
#   GPU_DEVICE   cuda (or another: a dry run)     GPU_PYTHON  a Python that imports torch (python3)
#   GPU_WRAP     words before each program of the bundle, such as a profiler's     GPU_TWIN_DEVICE  the twin's (GPU_DEVICE)
#   GPU_SHAPES   sd3-medium sd35-medium           GPU_PIXELS  512 1024
#   GPU_ALIGN    settings of the run of nano (updates=10)
#   GPU_FLAGS    further flags of gpu_bench and gpu_twin.py    GPU_TRAJECTORIES  of the update at the first size (32)
set -uo pipefail
SECONDS=0
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,14s/^# //p' "$0"; exit 2; }
bundle=$(realpath "$1")
OUT=$(realpath -m "${2:-${OUT:-runs/gpu}}")
limit=${GPU_LIMIT:-540} device=${GPU_DEVICE:-cuda} python=${GPU_PYTHON:-python3}
parts=${GPU_PARTS:-check test align ceilings times update compile}
shapes=${GPU_SHAPES:-sd3-medium sd35-medium} pixels=${GPU_PIXELS:-512 1024}
twin_device=${GPU_TWIN_DEVICE:-$device}
read -ra flags <<<"${GPU_FLAGS:-}"
read -ra wrap <<<"${GPU_WRAP:-}"
read -ra align <<<"${GPU_ALIGN:-updates=10}"
mkdir -p "$OUT"
for file in parts.tsv log.txt facts.txt; do : >"$OUT/$file"; done
export PYTHONUNBUFFERED=1 VGGFLOW_GPU_TEST_DEVICE=$device

say() { echo "[$SECONDS s] $*" | tee -a "$OUT/log.txt"; }
wanted() { [[ " $parts " == *" $1 "* ]]; }
report() { "$python" "$here/gpu_report.py" "$OUT" >>"$OUT/log.txt" 2>&1; }

# ours NAME CAP PROGRAM...: a part by a program of the bundle.
ours() { part "$1" "$2" ${wrap[@]+"${wrap[@]}"} "${@:3}"; }

# part NAME CAP COMMAND...: its lines go to the terminal and to the log, where the report finds the JSON among them.
part() {
  local name=$1 cap=$2 left=$((limit - SECONDS - 5)) begin=$SECONDS code=0
  shift 2
  if [ $left -lt 10 ]; then
    say "left out for want of time: $name"
    printf '%s\t0\tleft out\n' "$name" >>"$OUT/parts.tsv"
    return 1
  fi
  [ "$cap" -le $left ] || cap=$left
  say "== $name (at most $cap s)"
  timeout -k 5 "$cap" "$@" </dev/null 2>&1 | tee -a "$OUT/log.txt"
  code=${PIPESTATUS[0]}
  printf '%s\t%s\t%s\n' "$name" $((SECONDS - begin)) "$code" >>"$OUT/parts.tsv"
  [ "$code" = 0 ] || say "$name: exit code $code$([ "$code" -ge 124 ] && echo ' (its time was up, or it was killed)')"
  report
  return "$code"
}

facts() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
  echo "$(nproc) cores, $(awk '/MemTotal/ { print int($2 / 2^20) }' /proc/meminfo) GiB"
  "$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())' || echo "no torch in $python"
}

# Python opens the tarball, because xz need not be there.
set_up() {
  "$python" -m tarfile -e "$bundle" "$work"
  mv "$work"/*/* "$work"
  "$work/link_torch.sh" ${GPU_TORCH:+"$GPU_TORCH"}
}

work=$(mktemp -d "${TMPDIR:-/tmp}/vggflow-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PATH="$(dirname "$(command -v "$python")"):$PATH"
export work bundle python
part "set up" 90 bash -c "$(declare -f set_up); set -e; set_up" || { say "nothing can run without the bundle"; exit 1; }
cd "$work"
facts >"$OUT/facts.txt" 2>&1
cat "$OUT/facts.txt"

if wanted check; then
  ours "vggflow check" 60 ./vggflow check --device "$device"
fi
if wanted test; then
  for tests in gpu_test gpu_runs_test; do
    if [ -x "$tests" ]; then
      ours "tests on the device: $tests" 80 "./$tests" --gtest_brief=1 --gtest_output="xml:$OUT/$tests.xml"
    else
      say "left out: the bundle has no $tests"
    fi
  done
fi
# A whole run of the program, by prompt files: the emoji's font need not be there.
if wanted align; then
  printf '%s\n' "red heart" ghost "cat face" pizza "green apple" rocket snowman >prompts.txt
  ours "align nano" 60 ./vggflow align --config configs/nano.yaml run=run device="$device" prompts.train=prompts.txt \
    prompts.eval=prompts.txt eval_every=10 eval.prompts=7 eval.images=8 "${align[@]}"
  cp run/metrics.jsonl "$OUT/align.jsonl" 2>/dev/null
fi
if wanted ceilings; then
  ours "ceilings" 40 ./gpu_bench --device "$device" --measures product,copy --seconds 5 ${flags[@]+"${flags[@]}"}
fi

measures=forward/base,forward/lora,forward/merged,backward,backward/checkpointed,rollout,tangent
run_bench() {  # NAME CAP SHAPE PIXELS FLAGS...
  ours "$1: vggflow $3 $4 px" "$2" ./gpu_bench --device "$device" --shape "$3" --pixels "$4" "${@:5}" ${flags[@]+"${flags[@]}"}
}
run_twin() {  # NAME CAP SHAPE PIXELS FLAGS...
  part "$1 $3 $4 px" "$2" "$python" "$here/gpu_twin.py" --device "$twin_device" --shape "$3" --pixels "$4" "${@:5}" ${flags[@]+"${flags[@]}"}
}
if wanted times; then
  for side in $pixels; do
    for shape in $shapes; do
      run_bench times 50 "$shape" "$side" --measures $measures --trajectories 4 --seconds 5
      run_twin "times: torch eager" 50 "$shape" "$side" --measures $measures --trajectories 4 --seconds 5
    done
  done
fi
if wanted update; then
  update=(--measures update --trajectories "${GPU_TRAJECTORIES:-32}" --warm-ups 1 --repeats 2 --seconds 15)
  for shape in $shapes; do
    run_bench update 60 "$shape" "${pixels%% *}" "${update[@]}"
    run_twin "update: torch eager" 60 "$shape" "${pixels%% *}" "${update[@]}"
  done
fi
if wanted compile; then
  for side in $pixels; do
    for shape in $shapes; do
      run_twin "times: torch.compile" 90 "$shape" "$side" --compile --measures forward/merged,backward --seconds 5
    done
  done
fi
report
say "done"
cat "$OUT/gpu.md"

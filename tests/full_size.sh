#!/usr/bin/env bash
# `vggflow plan` against `vggflow align` on a Stable Diffusion 3 of full size: the peak within 15 %, the time of an update beside the planned one.
# The folder comes from VGGFLOW_SD3_FOLDER (tools/reference/make_random_sd3.py makes one with random weights). 14 GiB of free memory are needed.
# Usage: full_size.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
if [ -z "${VGGFLOW_SD3_FOLDER:-}" ]; then
  echo "full_size: left out, because VGGFLOW_SD3_FOLDER is not set: a full-size Stable Diffusion 3 folder (docs/sd3.md)"
  exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

echo 'a photo of a cat' >"$out/prompts.txt"
cat >"$out/config.yaml" <<END
model: $VGGFLOW_SD3_FOLDER
precision: bf16
reward: colorfulness
prompts: {train: $out/prompts.txt, eval: $out/prompts.txt}
sd3: {height: 256, width: 256, t5_tokens: 20}
updates: 1
batch: 1
micro_batch: 1
checkpointing: true
merge: false
guidance: 5
time_grid: {steps: 3}
vgg: {beta: 100, bins: 1}
value: {kind: none}
eval: {prompts: 1, images: 4, batch: 1}
eval_steps: 1
END

runs=0
within() {  # SETTINGS...
  local run=$out/run$((++runs)) free
  free=$(awk '/MemAvailable/ { print int($2 / 2 ^ 20) }' /proc/meminfo)
  "$vggflow" plan --config "$out/config.yaml" "$@" --json >"$run.json" || die "plan failed for $*"
  [ "$free" -gt "$(awk -v p="$(number peak_bytes "$run.json")" 'BEGIN { print int(p / 2 ^ 30) }')" ] || die "only $free GiB of memory are free"
  "$vggflow" align --config "$out/config.yaml" "run=$run" "$@" 2>"$run.txt" >&2 || die "align failed for $*: $(tail -3 "$run.txt")"
  seconds=$(grep '"kind":"update"' "$run/metrics.jsonl" | tail -1 | grep -o '"seconds":{[^}]*}' | grep -o ':[0-9.e-]*' | awk -F: '{ sum += $2 } END { print sum }')
  planned=$(grep -A3 '"this machine"' "$run.json" | grep -o '"seconds_per_update": *[0-9.e+-]*' | head -1 | sed 's/.*: *//')
  awk -v p="$(number peak_bytes "$run.json")" -v m="$(number peak_gib "$run/summary.json")" -v s="$seconds" -v q="$planned" -v what="${*:-as configured}" 'BEGIN {
    p /= 2 ^ 30; printf "%s: planned %.3f GiB, measured %.3f GiB, %+.1f %%; an update: planned %.1f s, measured %.1f s\n", what, p, m, 100 * (p / m - 1), q, s
    exit !(p / m > 0.85 && p / m < 1.15) }' || die "the plan is off by more than 15 %"
}

within
within merge=true value.kind=unet value.width=32
echo "full_size: ok"

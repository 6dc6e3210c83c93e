#!/usr/bin/env bash
# `vggflow plan` from outside: its peak against that of real runs of seconds, within 15 % for a tiny Stable Diffusion 3 and 20 % for nano; and refusals.
# Usage: plan.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
runs=0
within() {  # CONFIG SETTINGS...
  local config=$1 run=$out/run$((++runs))
  shift
  "$vggflow" plan "$config" "$@" --json --gflops 100 >"$run.json" || die "plan failed for $*"
  "$vggflow" align --config "$config" "run=$run" updates=2 eval_every=2 checkpoint_every=2 "$@" 2>"$run.txt" >&2 || die "align failed for $*: $(tail -3 "$run.txt")"
  awk -v p="$(number peak_bytes "$run.json")" -v m="$(number peak_gib "$run/summary.json")" -v what="$config $*" -v bound="$bound" 'BEGIN {
    p /= 2 ^ 30; printf "%s: planned %.3f GiB, measured %.3f GiB, %+.1f %%\n", what, p, m, 100 * (p / m - 1); exit !(p / m > 1 - bound && p / m < 1 + bound) }' \
    || die "the plan is off by more than $bound"
}

bound=0.2  # the nano runs' own peaks differ by 3 % from one time to the next
quick=(threads=1 eval.prompts=4 eval.images=4)
within configs/nano.yaml "${quick[@]}"
within configs/nano.yaml "${quick[@]}" value.kind=none
within configs/nano.yaml "${quick[@]}" checkpointing=true
within configs/nano.yaml "${quick[@]}" method=draft
within configs/nano.yaml "${quick[@]}" method=adjoint-matching

printf 'a photo of a cat\na dog\n' >"$out/prompts.txt"
cat >"$out/tiny.yaml" <<END
model: src/vggflow/models/testdata/sd3_tiny
precision: fp32
reward: colorfulness
prompts: {train: $out/prompts.txt, eval: $out/prompts.txt}
sd3: {height: 32, width: 32, t5_tokens: 20}
batch: 4
guidance: 3
time_grid: {steps: 4}
vgg: {beta: 100, bins: 2}
value: {kind: none}
eval: {prompts: 2, images: 4, batch: 4}
threads: 1
END
bound=0.15
within "$out/tiny.yaml"

"$vggflow" plan configs/nano.yaml --gflops 100 >"$out/text.txt" || die "plan failed"
grep -q "memory at the fullest moment" "$out/text.txt" || die "no memory in: $(cat "$out/text.txt")"
grep -q "^checkpointing=true" "$out/text.txt" || die "no switches in: $(cat "$out/text.txt")"
refuse "unknown setting 'batsh'; did you mean 'batch'?" "$vggflow" plan configs/nano.yaml batsh=2
refuse "File does not exist" "$vggflow" plan nowhere.yaml
refuse "docs/model_index.json does not exist" "$vggflow" plan configs/nano.yaml model=docs
echo "plan: ok"

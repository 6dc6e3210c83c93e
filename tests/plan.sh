#!/usr/bin/env bash
# `vggflow plan` from outside: its peak against that of real runs of seconds, and refusals. Peaks are compared twice: of the process, and of what networks and
# passes take, the program's own share left out on both sides: by plan's constant and by the peak of a run whose tensors are a megabyte.
# Usage: plan.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
runs=0
program=0  # GiB, measured by the first run
within() {  # CONFIG SETTINGS...
  local config=$1 run=$out/run$((++runs))
  shift
  "$vggflow" plan --config "$config" "$@" --json --gflops 100 >"$run.json" || die "plan failed for $*"
  "$vggflow" align --config "$config" "run=$run" updates=2 eval_every=2 checkpoint_every=2 "$@" 2>"$run.txt" >&2 || die "align failed for $*: $(tail -3 "$run.txt")"
  peak=$(number peak_gib "$run/summary.json")
  awk -v p="$(number peak_bytes "$run.json")" -v own="$(number program "$run.json")" -v m="$peak" -v program="$program" -v what="$(basename "$config") $*" -v bound="$bound" -v inner="${inner:-0}" 'BEGIN {
    p /= 2 ^ 30; own /= 2 ^ 30; error = p / m - 1
    printf "%s: planned %.3f GiB, measured %.3f GiB, %+.1f %%", what, p, m, 100 * error
    if (inner > 0) printf "; without the program %.3f and %.3f GiB, %+.1f %%", p - own, m - program, 100 * ((p - own) / (m - program) - 1)
    printf "\n"
    exit error < -0.15 || error > bound || (inner > 0 && ((p - own) / (m - program) - 1) ^ 2 > inner * inner) }' \
    || die "the plan is more than 0.15 too low or $bound too high, or without the program off by more than ${inner:-0}"
}

# The tiny Stable Diffusion 3 tells what the program takes, and nothing of networks.
printf 'a photo of a cat\na dog\n' >"$out/prompts.txt"
cat >"$out/tiny.yaml" <<END
model: tests/data/sd3_tiny
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
program=$peak

# One of 84 M parameters: weights, graph and passes are 0.8 GiB beside the program's 0.17.
python3 tests/widen_sd3.py tests/data/sd3_tiny "$out/wide" 6 16 || die "no wider model was made"
sed -e "s|^model:.*|model: $out/wide|" -e 's/height: 32, width: 32/height: 64, width: 64/' "$out/tiny.yaml" >"$out/wide.yaml"
wide=(batch=2 guidance=1 time_grid.steps=3 vgg.bins=1 eval.images=2 eval_steps=1)
inner=0.15
within "$out/wide.yaml" "${wide[@]}"

# The nano runs' own peaks depend on the machine: with and without a value network, one program took 0.77 and 0.53 GiB on one, 0.83 and 0.48 GiB on another.
bound=0.3
inner=0.4
quick=(threads=1 time_grid.steps=6 eval.prompts=4 eval.images=4)
within configs/nano.yaml "${quick[@]}"
within configs/nano.yaml "${quick[@]}" value.kind=none
within configs/nano.yaml "${quick[@]}" checkpointing=true
within configs/nano.yaml "${quick[@]}" method=draft
within configs/nano.yaml "${quick[@]}" method=adjoint-matching "guidance_in=[rollout,gradient,adjoint,base]"

"$vggflow" plan --config configs/nano.yaml --gflops 100 >"$out/text.txt" || die "plan failed"
grep -q "memory at the fullest moment" "$out/text.txt" || die "no memory in: $(cat "$out/text.txt")"
grep -q "^checkpointing=true" "$out/text.txt" || die "no switches in: $(cat "$out/text.txt")"
"$vggflow" plan --config configs/sd3-medium/pickscore.yaml --gflops 100 >"$out/preset.txt" || die "the plan of a preset failed"
grep -q "^note: no prompts are given, and align will ask for prompts.train" "$out/preset.txt" || die "no word of prompts in: $(cat "$out/preset.txt")"
grep -q "^reward_recompute=true" "$out/preset.txt" || die "no switch of the reward in: $(cat "$out/preset.txt")"
refuse "unknown setting 'batsh'; did you mean 'batch'?" "$vggflow" plan --config configs/nano.yaml batsh=2
refuse "there is no file nowhere.yaml" "$vggflow" plan --config nowhere.yaml
refuse "docs is no model: expected vocabulary.txt (nano) or model_index.json" "$vggflow" plan --config configs/nano.yaml model=docs
refuse "expected prompts for tests/data/sd3_tiny" "$vggflow" align --config "$out/tiny.yaml" "run=$out/none" prompts.train= prompts.eval=
[ -e "$out/none" ] && die "a refused run left its folder"
echo "plan: ok"

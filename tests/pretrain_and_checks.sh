#!/usr/bin/env bash
# `vggflow pretrain` from outside: each of its emoji models for two updates, going on, and that the commands that read such folders take
# them. And the two proofs that no other script runs: check --analytic with its figures, check --value-gradient.
# Usage: pretrain_and_checks.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

train() {  # FOLDER SETTINGS...
  local run=$out/$1
  shift
  "$vggflow" pretrain "run=$run" fit.updates=2 fit.batch=4 fit.log_every=1 fit.checkpoint_every=1 fit.preview_every=2 "$@" >"$run.txt" 2>"$run.log" ||
    die "pretrain $*: $(tail -3 "$run.log")"
}
train flow target=flow model.network.layers=1
train clip target=emoji-clip adversarial=0.5
train judge target=judge
for model in flow clip judge; do
  [ -s "$out/$model/model/model.safetensors" ] || die "pretrain wrote no $model/model/model.safetensors"
  [ "$(grep -c '^step [12]/2 | loss ' "$out/$model.log")" -eq 2 ] || die "expected a line per update in: $(cat "$out/$model.log")"
done
[ -s "$out/flow/grids/preview_000002.png" ] || die "pretrain wrote no preview"
grep -q "the judge names [0-9.]* % of the unchanged images" "$out/judge.log" || die "the judge's accuracy is not told: $(cat "$out/judge.log")"

# One that goes on after its first update is the one that was not broken off.
cp -r "$out/clip" "$out/parts" && rm -r "$out"/parts/model "$out"/parts/checkpoints/*2 || die "expected checkpoints of both updates: $(ls "$out/clip/checkpoints")"
"$vggflow" pretrain --config "$out/parts/config.yaml" "run=$out/parts" resume=true >"$out/parts.txt" 2>"$out/parts.log" || die "going on failed: $(tail -3 "$out/parts.log")"
cmp -s "$out/parts/model/model.safetensors" "$out/clip/model/model.safetensors" || die "a pretraining that went on is another one"
refuse "already holds a run" "$vggflow" pretrain "run=$out/judge" target=judge
refuse "'latents' is not read by target=judge; it belongs to target=flow" "$vggflow" pretrain "run=$out/other" target=judge latents=x
[ ! -e "$out/other" ] || die "a refused pretraining left its folder"

# What was made is taken where it belongs.
"$vggflow" sample --model "$out/flow/model" --steps 2 "out=$out/samples" "prompts=[red heart]" >"$out/sample.txt" 2>&1 || die "sample does not take the flow model: $(tail -3 "$out/sample.txt")"
[ -s "$out/samples/grid.png" ] || die "no image of the flow model"

"$vggflow" check --value-gradient gradient.prompts=2 gradient.guidance=[3] "gradient.grids=[single_shift:4:1]" gradient.rewards=[colorfulness] gradient.precision=fp32 >"$out/gradient.txt" 2>"$out/gradient.log" ||
  die "check --value-gradient: $(tail -3 "$out/gradient.log")"
grep -q "^2 trajectories of held-out prompts" "$out/gradient.txt" || die "no trajectories in: $(cat "$out/gradient.txt")"
grep -q "^colorfulness, guidance 3, grid single_shift:4:1" "$out/gradient.txt" || die "no setting in: $(cat "$out/gradient.txt")"
refuse "expected a whole number for 'steps', got 'x'" "$vggflow" check --value-gradient "gradient.grids=[single_shift:x:1]"

# Each claim is a test of its own too (proofs_test): here are two.
refuse "expected claims=[...] with a part of a name, such as ExactValueGradients" "$vggflow" check --analytic "claims=[NoSuchThing]"
"$vggflow" check --analytic --figures "$out/figures" "claims=[AdjointsAreValueGradients,AdjointMatchingSamples]" >"$out/analytic.txt" 2>&1 || die "check --analytic: $(tail -5 "$out/analytic.txt")"
grep -qE "^2 claims, [0-9]+ numbers, 0 outside their bounds" "$out/analytic.txt" || die "no sum in: $(tail -2 "$out/analytic.txt")"
figures=0
for figure in "$out"/figures/*.svg; do
  python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$figure" || die "$figure is no SVG"
  figures=$((figures + 1))
done
[ "$figures" -gt 0 ] || die "check --analytic wrote no figures"
echo "pretrain_and_checks: ok, $figures figures"

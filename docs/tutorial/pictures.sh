#!/usr/bin/env bash
# The commands of first-alignment.md, and the pictures that it and README.md show, made of what they drew.
# Usage: docs/tutorial/pictures.sh VGGFLOW [RUN [STRONG]] from the checkout; about ten minutes. Runs that are there are taken as they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
vggflow=$1 run=${2:-runs/first} strong=${3:-runs/strong}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompts="prompts=[red heart, ghost, fire, dolphin, sunflower, rocket, pizza, owl]"

[ -e "$run/summary.json" ] || "$vggflow" align --config configs/nano.yaml "run=$run" updates=30 eval_every=10 value.kind=none \
  eval.prompts=10 eval.images=8
[ -e "$strong/summary.json" ] || "$vggflow" align --config configs/nano.yaml "run=$strong" updates=30 eval_every=30 value.kind=none \
  eval.prompts=10 eval.images=8 vgg.beta=50
"$vggflow" sample --out "$work/before" --seed 1 enlarge=3 "$prompts"
"$vggflow" sample --out "$work/after" --seed 1 enlarge=3 --lora "$run/lora_ema.safetensors" "$prompts"
"$vggflow" sample --out "$work/strong" --seed 1 enlarge=3 --lora "$strong/lora_ema.safetensors" "$prompts"
for name in before after strong; do cp "$work/$name/grid.png" "docs/tutorial/pictures/$name.png"; done
ls -l docs/tutorial/pictures

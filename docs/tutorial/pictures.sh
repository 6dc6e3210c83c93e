#!/usr/bin/env bash
# The commands of first-alignment.md, and the pictures that it and README.md show, made of what they drew.
# Usage: docs/tutorial/pictures.sh VGGFLOW [RUN] from the checkout; about ten minutes (RUN: a folder that a run is kept in, or goes on in).
set -euo pipefail
cd "$(dirname "$0")/../.."
vggflow=$1 run=${2:-runs/first}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompts="prompts=[red heart, ghost, fire, dolphin, sunflower, rocket, pizza, owl]"

[ -e "$run/summary.json" ] || "$vggflow" align --config configs/nano.yaml "run=$run" updates=30 eval_every=10 value.kind=none \
  eval.prompts=10 eval.images=8
"$vggflow" sample --out "$work/before" --seed 1 enlarge=3 "$prompts"
"$vggflow" sample --out "$work/after" --seed 1 enlarge=3 --lora "$run/lora_ema.safetensors" "$prompts"
for name in before after; do cp "$work/$name/grid.png" "docs/tutorial/pictures/$name.png"; done
ls -l docs/tutorial/pictures

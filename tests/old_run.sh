#!/usr/bin/env bash
# A run that the program of commit 9001bc5 began (nano, VGG-Flow with a value network, stopped after 2 of 4 updates) goes on to the end
# with the numbers that its own program gave (curve.json), and its LoRA and value network open. Usage: old_run.sh SOURCE_DIR VGGFLOW
set -euo pipefail
cd "$1"
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

cp -r tests/data/old_run "$out/run"
"$vggflow" align --config "$out/run/config.yaml" "run=$out/run" resume=true >"$out/log" 2>&1 ||
  { echo "old_run: the run does not go on: $(tail -3 "$out/log")" >&2; exit 1; }
python3 tests/golden.py "$out" tests/data/old_run/curve.json compare run
for file in lora value; do
  "$vggflow" inspect "tests/data/old_run/$file.safetensors" >"$out/log" 2>&1 || { echo "old_run: $(tail -1 "$out/log")" >&2; exit 1; }
done
"$vggflow" sample "out=$out/images" "prompts=[red heart]" generator.lora=tests/data/old_run/lora.safetensors generator.time_grid.steps=2 \
  >"$out/log" 2>&1 || { echo "old_run: the LoRA does not open: $(tail -1 "$out/log")" >&2; exit 1; }
echo "old_run: a run of commit 9001bc5 goes on and its files open"

#!/usr/bin/env bash
# Commands that compute over many images or prompts on one process and on two: the same files to the bit, written by rank 0. A comparison
# on two processes: each run is done by one of them, once. Usage: dist_work.sh SOURCE_DIR VGGFLOW [WORLD, 2]
set -euo pipefail
source "$1/tests/functions.sh"
cd "$1"
source tests/ranks.sh
vggflow=$(realpath "$2") world=${3:-2}
out=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1
torchrun=()  # a start takes torchrun seconds, and dist.sh tests it

lora=$PWD/tests/data/old_run/lora.safetensors
drawn=("generator.lora=$lora" generator.time_grid.steps=2 threads=1)
small=(eval.prompts=2 eval.images=2 eval.batch=3)
on() {  # on PROCESSES: all commands, in the folder of that number
  mkdir "$out/$1"
  cd "$out/$1"
  ranks "$1" "$vggflow" sample out=images "prompts=[red heart, ghost, wave]" images=2 batch=2 "${drawn[@]}"
  ranks "$1" "$vggflow" score images --reward colorfulness --reward "0.5*emoji-clip + jpeg" --out scores --batch 4 threads=1
  ranks "$1" "$vggflow" metrics images base out=metrics panel=[colorfulness] models.prompt_count=2 models.images=2 models.batch=3 \
    models.generator.time_grid.steps=2 metrics.batch=4 threads=1
  ranks "$1" "$vggflow" eval out=eval.json "${small[@]}" "${drawn[@]}"
  ranks "$1" "$vggflow" sweep out=sweep strengths=[1] "${small[@]}" "${drawn[@]}"
}
begun=()
for count in 1 "$world"; do
  (set -e; on "$count") >"$out/$count.log" 2>&1 &
  begun+=($!)
done
for job in "${begun[@]}"; do wait "$job" || { tail -n 5 "$out"/*.log >&2; die "a command failed"; }; done
[ -f "$out/1/images/00005.png" ] && [ -f "$out/1/sweep/sweep.html" ] || die "the commands wrote less than expected"
diff -r "$out/1" "$out/$world" || die "files of one process and of $world differ"
said() { grep -E '^(wrote|colorfulness|aligned|strength)' "$1"; }
diff <(said "$out/1.log") <(said "$out/$world.log") || die "one process and $world say other things"
echo "dist_work: sample, score, metrics, eval and sweep write the same on 1 and $world processes"

refuse "vggflow convert runs in one process, and torchrun started 2" env RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 \
  "$vggflow" convert tests/data/sd3_tiny "out=$out/converted"

cat >"$out/compare.yaml" <<YAML
out: $out/comparison
base: configs/nano.yaml
common: [updates=1, batch=2, eval_every=1, grid_images=4, eval.prompts=2, eval.images=2, time_grid.steps=2, value.kind=none]
seeds: [1, 2]
arms: [{first: [method=draft]}, {second: [method=refl, refl.k_min=1, refl.k_max=1]}]
YAML
ranks "$world" "$vggflow" compare --config "$out/compare.yaml" >"$out/compare.log" 2>&1 || { tail -5 "$out/compare.log" >&2; die "compare on $world processes failed"; }
[ "$(grep -c '"status":"finished"' "$out/comparison/grid.jsonl")" = 4 ] || die "expected four runs, each once: $(cat "$out/comparison/grid.jsonl")"
for log in log.txt log.rank1.txt; do
  grep -q "finished" "$out/comparison/$log" || die "a process had no run: $(cat "$out/comparison/"log*)"
done
grep -qF "second" "$out/comparison/results.md" || die "rank 0 wrote no report of all runs"
echo "dist_work: a comparison's runs are done once each, by $world processes"

#!/usr/bin/env bash
# Runs of nano on one, two and four processes under torchrun: the LoRA, its average, the value network and metrics.jsonl (but for times) must be the
# same to the bit, whatever the number of processes and where a run goes on with another number. Prints the hashes and the times.
# Usage: dist.sh SOURCE_DIR VGGFLOW [short]   ("short": two methods, a few updates, one and two processes: what the tests run)
set -euo pipefail
cd "$1"
vggflow=$(realpath "$2")
form=${3:-whole}
# torchrun where LibTorch's Python package can be loaded (a CPU set-up lacks CUDA's companions), else its variables set by hand.
torchrun=(.venv/bin/python -m torch.distributed.run --standalone --no-python)
"${torchrun[@]}" --nproc-per-node=1 true >/dev/null 2>&1 || torchrun=()
[ ${#torchrun[@]} -gt 0 ] || echo "dist: torchrun cannot be loaded from .venv; the ranks are started by hand, with its variables"
out=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

updates=20 methods="vgg-flow vgg-flow-pmp adjoint-matching draft" worlds="1 2 4" steps=6 batch=8
if [ "$form" = short ]; then updates=2 methods="vgg-flow adjoint-matching" worlds="1 2" steps=2 batch=4; fi

# begin_rank RANK WORLD PORT COMMAND...: one rank in the background, as torchrun would start it; its number goes to the list `pids`.
begin_rank() {
  RANK=$1 LOCAL_RANK=$1 WORLD_SIZE=$2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$3 "${@:4}" &
  pids+=($!)
}
free_port() { python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"; }

# ranks WORLD COMMAND...: starts it as so many ranks; fails where one does.
ranks() {
  local world=$1 port rank failed=0 pids=()
  shift
  if [ ${#torchrun[@]} -gt 0 ]; then "${torchrun[@]}" --nproc-per-node="$world" "$@"; return; fi
  port=$(free_port)
  for ((rank = 0; rank < world; ++rank)); do begin_rank "$rank" "$world" "$port" "$@"; done
  for rank in "${pids[@]}"; do wait "$rank" || failed=$?; done
  return $failed
}

# The words of a small run: words_of METHOD RUN [settings]
words_of() {
  words=("$vggflow" align --config configs/nano.yaml "run=$2" "method=$1" reward=emoji-clip precision=fp32 threads=1 seed=7
    "time_grid.steps=$steps" vgg.bins=2 "batch=$batch" shares=4 warmup=2 value.width=32 value.layers=1 eval_every=1000 eval.prompts=2 eval.images=2 "${@:3}")
}

# align WORLD METHOD RUN [settings]
align() {
  local world=$1 method=$2 run=$3 words
  words_of "${@:2}"
  if [ "$world" = 1 ]; then
    "${words[@]}" >"$run.log" 2>&1
  else
    ranks "$world" "${words[@]}" >"$run.log" 2>&1
  fi || { echo "dist: $method on $world processes failed:" >&2; tail -20 "$run.log" >&2; exit 1; }
}

# One line a file; of metrics.jsonl what does not tell of times and memory.
hashes() {
  python3 - "$1" <<'PY'
import hashlib, json, pathlib, struct, sys
run = pathlib.Path(sys.argv[1])
for name in ("lora.safetensors", "lora_ema.safetensors", "value.safetensors"):
    file = run / name
    if not file.exists():
        continue
    data = file.read_bytes()
    head = struct.unpack("<Q", data[:8])[0]
    # The header holds the run's settings, the folder and updates among them: the tensors' bytes tell.
    print(name, hashlib.sha256(data[8 + head:]).hexdigest()[:16])
lines = []
for line in (run / "metrics.jsonl").read_text().splitlines():
    entry = json.loads(line)
    for key in ("seconds", "images_per_second", "rss_gib", "device_peak_gib"):
        entry.pop(key, None)
    # A run that went on has evaluated after each of its parts.
    if entry["kind"] == "update":
        lines.append(json.dumps(entry, sort_keys=True))
print("metrics.jsonl", len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16])
PY
}

same() {  # same WHAT A B
  [ "$2" = "$3" ] || { echo "dist: $1 differs:" >&2; diff <(echo "$2") <(echo "$3") >&2 || true; exit 1; }
}

for method in $methods; do
  first=
  for world in $worlds; do
    run=$out/$method-$world
    begin=$(date +%s.%N)
    align "$world" "$method" "$run" "updates=$updates"
    end=$(date +%s.%N)
    now=$(hashes "$run")
    echo "$method on $world: $(tr '\n' ' ' <<<"$now")| $(python3 -c "print(f'{$end - $begin:.1f} s')")"
    [ -n "$first" ] || first=$now
    same "$method on $world processes" "$first" "$now"
  done
  # Two processes, then four, then one: the run of one piece.
  run=$out/$method-resumed
  if [ "$form" = short ]; then parts="2 1"; else parts="2 4 1"; fi
  done=0 resume=false count=$(wc -w <<<"$parts")
  for world in $parts; do
    done=$((done + (updates - done) / count)) count=$((count - 1))
    align "$world" "$method" "$run" "updates=$done" "resume=$resume"
    resume=true
  done
  same "$method that went on on $parts processes" "$first" "$(hashes "$run")"
  echo "$method on $parts, going on: the same"
done
echo "dist: numbers do not depend on the number of processes"

# Two ranks of a long run in the background; returns once it has done an update.
begin_two() {  # begin_two RUN [settings of rank 1]
  local run=$1 port words
  port=$(free_port) pids=()
  words_of vgg-flow "$run" updates=1000 checkpoint_every=1
  begin_rank 0 2 "$port" "${words[@]}" >"$run.0.log" 2>&1
  begin_rank 1 2 "$port" "${words[@]}" "${@:2}" >"$run.1.log" 2>&1
}
wait_for_update() {
  for _ in $(seq 600); do
    if grep -q '"kind":"update"' "$1/metrics.jsonl" 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "dist: no update within a minute:" >&2; cat "$1".*.log >&2; exit 1
}
# expect_end RUN RANK EXIT TEXT: the rank ends by itself within 10 s, so, and says that.
expect_end() {
  local begin=$SECONDS code=0
  wait "${pids[$2]}" || code=$?
  [ "$code" = "$3" ] && [ $((SECONDS - begin)) -le 10 ] && grep -q "$4" "$1.$2.log" && return
  echo "dist: expected rank $2 to end by $3 within 10 s saying '$4', got $code after $((SECONDS - begin)) s:" >&2
  tail -5 "$1.$2.log" >&2
  exit 1
}

run=$out/killed
begin_two "$run"
wait_for_update "$run"
kill -KILL "${pids[1]}"
expect_end "$run" 0 1 "rank 1 on .* is gone"
echo "dist: a rank that is killed ends the other, which names it"

run=$out/stopped
begin_two "$run"
wait_for_update "$run"
kill -TERM "${pids[1]}"
expect_end "$run" 0 130 "interrupted after update"
expect_end "$run" 1 130 "stopping after this update"
echo "dist: SIGTERM to one rank stops both after the update"

run=$out/other
begin_two "$run" grad_clip=2
expect_end "$run" 0 1 "the settings to be the same on all ranks; rank 1 differs"
expect_end "$run" 1 1 "the settings to be the same on all ranks; rank 1 differs"
[ ! -e "$run" ] || { echo "dist: a refused start left $run" >&2; exit 1; }
echo "dist: ranks with other settings are refused"

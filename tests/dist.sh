#!/usr/bin/env bash
# Runs of nano on one, two and four processes under torchrun: the LoRA, its average, the value network and metrics.jsonl (but for times) must be the
# same to the bit, whatever the number of processes and where a run goes on with another number. Prints the hashes and the times.
# Usage: dist.sh SOURCE_DIR VGGFLOW [short]   ("short": two methods, a few updates, one and two processes: what the tests run)
set -euo pipefail
cd "$1"
vggflow=$(realpath "$2")
form=${3:-whole}
python=.venv/bin/python
"$python" -c "import torch.distributed.run" 2>/dev/null || { echo "left out: $python has no torchrun"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

updates=20 methods="vgg-flow vgg-flow-pmp adjoint-matching draft" worlds="1 2 4" steps=6
if [ "$form" = short ]; then updates=4 methods="vgg-flow adjoint-matching" worlds="1 2"; fi

# align WORLD METHOD RUN [settings]
align() {
  local world=$1 method=$2 run=$3
  shift 3
  local words=("$vggflow" align --config configs/nano.yaml "run=$run" "method=$method" reward=emoji-clip precision=fp32 threads=1 seed=7
    "time_grid.steps=$steps" batch=8 shares=4 warmup=2 value.width=32 value.layers=1 eval_every=1000 eval.prompts=2 eval.images=2 "$@")
  if [ "$world" = 1 ]; then
    "${words[@]}" >"$run.log" 2>&1
  else
    "$python" -m torch.distributed.run --standalone --no-python --nproc-per-node="$world" "${words[@]}" >"$run.log" 2>&1
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

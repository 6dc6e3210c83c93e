# How the tests start ranks; they source this after functions.sh, in the source folder.
#   torchrun   its command where LibTorch's Python package can be loaded (a CPU set-up lacks CUDA's companions; VGGFLOW_TORCH_PYTHON names
#              a Python that can), else empty: then ranks are started by hand, with its variables
#   pids       the ranks that begin_rank began

find_torchrun() {
  torchrun=("${VGGFLOW_TORCH_PYTHON:-.venv/bin/python}" -m torch.distributed.run --standalone --no-python)
  "${torchrun[@]}" --nproc-per-node=1 true >/dev/null 2>&1 && return
  torchrun=()
  echo "torchrun cannot be loaded from .venv; the ranks are started by hand, with its variables"
}

free_port() { python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"; }

# begin_rank RANK WORLD PORT COMMAND...: one rank in the background, as torchrun would start it.
begin_rank() {
  RANK=$1 LOCAL_RANK=$1 WORLD_SIZE=$2 MASTER_ADDR=${MEETING:-127.0.0.1} MASTER_PORT=$3 "${@:4}" &
  pids+=($!)
}

# ranks WORLD COMMAND...: starts it as so many ranks; fails where one does.
ranks() {
  local world=$1 port rank failed=0
  shift
  if [ "$world" = 1 ]; then "$@"; return; fi
  if [ ${#torchrun[@]} -gt 0 ]; then "${torchrun[@]}" --nproc-per-node="$world" "$@"; return; fi
  port=$(free_port) pids=()
  for ((rank = 0; rank < world; ++rank)); do begin_rank "$rank" "$world" "$port" "$@"; done
  for rank in "${pids[@]}"; do wait "$rank" || failed=$?; done
  return $failed
}

# One line a file of a run; of metrics.jsonl what does not tell of times and memory.
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

# Seconds of an update, and the share that rank 0 spent in gathers, waiting for other ranks among it.
times_of() {
  python3 - "$1" <<'PY'
import json, pathlib, sys
lines = [json.loads(line) for line in (pathlib.Path(sys.argv[1]) / "metrics.jsonl").read_text().splitlines()]
seconds = [line["seconds"] for line in lines if line["kind"] == "update"]
whole = sum(sum(s.values()) for s in seconds)
print(f"{whole / len(seconds):.2f} s per update, gathers {100 * sum(s.get('ranks', 0) for s in seconds) / whole:.1f} %")
PY
}

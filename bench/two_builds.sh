#!/usr/bin/env bash
# Two builds of the program in turn, A B A B ...: seconds of an update of nano in one process, medians, and the ratios B / A by pair.
# Usage: bench/two_builds.sh A B [ROUNDS [SETTINGS...]]     (A and B: programs; 5 rounds; METHODS: some of "vgg-flow vgg-flow-pmp draft")
set -euo pipefail
cd "$(dirname "$0")/.."
a=$(realpath "$1") b=$(realpath "$2") rounds=${3:-5}
settings=("${@:4}")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# run PROGRAM METHOD: mean seconds of its updates but the first.
run() {
  "$1" align --config configs/nano.yaml "run=$out/run" "method=$2" reward=emoji-clip value.kind=none precision=fp32 threads=1 seed=7 updates=4 batch=8 \
    eval_every=1000 eval.prompts=2 eval.images=2 "${settings[@]}" >"$out/log" 2>&1 || { tail -3 "$out/log" >&2; exit 1; }
  python3 - "$out/run/metrics.jsonl" <<'PY'
import json, sys
seconds = [sum(line["seconds"].values()) for line in map(json.loads, open(sys.argv[1])) if line["kind"] == "update"]
print(sum(seconds[1:]) / len(seconds[1:]))
PY
  rm -rf "$out/run"
}

for method in ${METHODS:-vgg-flow vgg-flow-pmp draft}; do
  for ((round = 0; round < rounds; ++round)); do
    echo "$(run "$a" "$method") $(run "$b" "$method")" >>"$out/$method"
  done
  python3 - "$method" "$out/$method" <<'PY'
import statistics, sys
pairs = [tuple(map(float, line.split())) for line in open(sys.argv[2])]
ratios = sorted(b / a for a, b in pairs)
print(f"{sys.argv[1]}: A {statistics.median(a for a, _ in pairs):.3f} s, B {statistics.median(b for _, b in pairs):.3f} s, "
      f"B / A {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs)")
PY
done

#!/usr/bin/env bash
# Six updates of nano by each registered method against the stored curve tests/data/golden.json: losses, rewards, gradient norms and the LoRA.
# Bit for bit on the machine's kind that made a curve, nearly so elsewhere (golden.py). Proves that a change of structure changes no number.
# Usage: golden.sh SOURCE_DIR VGGFLOW [store [METHOD...]]   ("store" writes the curves anew, of all methods or some: only where numbers are
# meant to change, and say why in the commit)
set -euo pipefail
cd "$1"
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

# The program itself lists the methods, so that a new one is asked for its curve.
refusal=$("$vggflow" align method=no-such-method "run=$out/none" 2>&1 || true)
methods=$(sed -n "s/.*expected 'method' to be one of \(.*\), got .*/\1/p" <<<"$refusal" | tr -d ,)
[ -n "$methods" ] || { echo "golden: the program lists no methods" >&2; exit 1; }
[ "${3:-}" = store ] && [ $# -gt 3 ] && methods="${*:4}"
# Of two samples Adjoint Matching's quantile leaves one out: where their terms are close, a rounding would choose.
for method in $methods; do
  "$vggflow" align --config configs/nano.yaml "run=$out/$method" "method=$method" reward=emoji-clip precision=fp32 threads=1 seed=7 \
    adjoint_matching.clip=none time_grid.steps=6 batch=2 updates=6 warmup=2 value.width=32 value.layers=1 refl.k_min=3 refl.k_max=5 ram.group=2 grid_images=4 eval_every=6 eval.prompts=2 eval.images=2 \
    >"$out/$method.log" 2>&1 || { echo "golden: $method failed: $(tail -3 "$out/$method.log")" >&2; exit 1; }
done
python3 tests/golden.py "$out" tests/data/golden.json "${3:-compare}" $methods

#!/usr/bin/env bash
# What OpenMP's threads do while they wait for work, and what it costs: with the machine to ourselves, and beside as many busy
# processes as it has cores. Policies: "spin", GNU OpenMP's default; "sleep", at once; "ours", what vggflow chooses (a thirtieth of
# that spin, then sleep: src/vggflow/cli/wait_policy.cpp). Runs are interleaved, so that all policies see the same machine;
# medians and their ratio to "spin" are printed. Usage: wait_policy.sh VGGFLOW [REPEATS] [CASES]
# CASES: "idle busy" (the default), or one of them. For "idle" nothing else may run: the load is printed, and warned of.
set -euo pipefail
cd "$(dirname "$0")/.."
vggflow=$1 repeats=${2:-5} cases=${3:-idle busy}
out=$(mktemp -d)
others=()
quiet() {
  [ ${#others[@]} -eq 0 ] || kill "${others[@]}" 2>/dev/null || true
  others=()
}
trap 'quiet; rm -rf "$out"' EXIT

under() {  # POLICY COMMAND...
  local policy=$1
  shift
  case $policy in
    spin) env -u OMP_WAIT_POLICY GOMP_SPINCOUNT=300000 "$@" ;;
    sleep) env -u OMP_WAIT_POLICY GOMP_SPINCOUNT=0 "$@" ;;
    ours) env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT -u KMP_BLOCKTIME "$@" ;;
  esac
}
sampling() { "$vggflow" sample "out=$out/s" images=2; }  # 128 emoji
training() {
  rm -rf "$out/run"
  "$vggflow" align --config configs/nano.yaml "run=$out/run" updates=4 batch=8 eval.prompts=2 eval.images=2 eval_every=4
}
export -f sampling training
export vggflow out

echo "$("$vggflow" --version | head -1), $(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg), $(date -u '+%Y-%m-%d %H:%M UTC')"
for case in $cases; do
  if [ "$case" = busy ]; then
    for _ in $(seq "$(nproc)"); do
      (while :; do :; done) &
      others+=($!)
    done
  elif awk '{ exit !($1 > 0.5) }' /proc/loadavg; then
    echo "warning: the load is $(cut -d' ' -f1 /proc/loadavg): what is printed for 'idle' is not an idle machine's"
  fi
  for work in sampling training; do
    for _ in $(seq "$repeats"); do
      for policy in spin sleep ours; do
        before=$(date +%s.%N)
        under "$policy" bash -c "$work" >"$out/said" 2>&1 || { cat "$out/said" >&2; exit 1; }
        echo "$policy $(echo "$(date +%s.%N) $before" | awk '{ print $1 - $2 }')" >>"$out/$case.$work"
      done
    done
    for policy in spin sleep ours; do
      awk -v p=$policy '$1 == p { print $2 }' "$out/$case.$work" | sort -n |
        awk -v p=$policy '{ t[NR] = $1 } END { m = NR % 2 ? t[(NR + 1) / 2] : (t[NR / 2] + t[NR / 2 + 1]) / 2
          printf "%s %.2f %.2f %.2f\n", p, m, t[1], t[NR] }'
    done | awk -v what="$case $work" 'NR == 1 { spin = $2 }
      { printf "%-14s %-6s median %7.2f s (%.2f to %.2f), %.3f of spin\n", what, $1, $2, $3, $4, $2 / spin }'
  done
  quiet
done

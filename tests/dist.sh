#!/usr/bin/env bash
# Runs of nano on one, two and four processes under torchrun: the LoRA, its average, the value network and metrics.jsonl (but for times) must be the
# same to the bit, whatever the number of processes and where a run goes on with another number. Prints the hashes and the times.
# Usage: dist.sh SOURCE_DIR VGGFLOW [short|METHOD]   ("short": two methods, two updates, the first of them on two or four processes: what the
# tests run; a method: the whole form of this one alone)
set -euo pipefail
source "$1/tests/functions.sh"
cd "$1"
source tests/ranks.sh
vggflow=$(realpath "$2")
form=${3:-whole}
out=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1
find_torchrun

updates=20 methods="vgg-flow vgg-flow-pmp adjoint-matching draft" worlds="1 2 4" steps=6 batch=8 shares=4
case $form in short | whole) ;; *) methods=$form ;; esac
if [ "$form" = short ]; then updates=2 methods="vgg-flow adjoint-matching" worlds=1 steps=2; fi

# The words of a small run: words_of METHOD RUN [settings]
words_of() {
  words=("$vggflow" align --config configs/nano.yaml "run=$2" "method=$1" reward=emoji-clip precision=fp32 threads=1 seed=7
    "time_grid.steps=$steps" vgg.bins=2 "batch=$batch" "shares=$shares" warmup=2 value.width=32 value.layers=1 eval_every=1000 eval.prompts=2 eval.images=2 grid_images=4 "${@:3}")
}

# align WORLD METHOD RUN [settings]
align() {
  local words
  words_of "${@:2}"
  ranks "$1" "${words[@]}" >"$3.log" 2>&1 || { tail -20 "$3.log" >&2; die "$2 on $1 processes failed"; }
}

same() {  # same WHAT A B
  [ "$2" = "$3" ] || { diff <(echo "$2") <(echo "$3") >&2 || true; die "$1 differs"; }
}

prove() {  # prove METHOD
  local method=$1
  first= parts="2 4 1"
  case $form$method in
    shortvgg-flow) parts="2 1" batch=2 shares=2 ;;
    shortadjoint-matching) parts="4 1" batch=4 shares=4 ;;
  esac
  for world in $worlds; do
    run=$out/$method-$world
    begin=$(date +%s.%N)
    align "$world" "$method" "$run" "updates=$updates"
    end=$(date +%s.%N)
    now=$(hashes "$run")
    echo "$method on $world: $(tr '\n' ' ' <<<"$now")| $(python3 -c "print(f'{$end - $begin:.1f} s')"), $(times_of "$run")"
    [ -n "$first" ] || first=$now
    same "$method on $world processes" "$first" "$now"
  done
  # Two processes, then four, then one: the run of one piece.
  run=$out/$method-resumed
  done=0 resume=false count=$(wc -w <<<"$parts")
  for world in $parts; do
    done=$((done + (updates - done) / count)) count=$((count - 1))
    align "$world" "$method" "$run" "updates=$done" "resume=$resume"
    resume=true
  done
  same "$method that went on on $parts processes" "$first" "$(hashes "$run")"
  echo "$method on $parts, going on: the same"
  [ "$method" = vgg-flow ] || return 0
  # Frozen blocks that lie with two processes, a part each: the run of one process that holds all of them.
  run=$out/sharded
  align 2 vgg-flow "$run" "updates=$updates" checkpointing=true weights=sharded
  same "vgg-flow with sharded weights" "$first" "$(hashes "$run")"
  echo "$method on 2, with sharded weights: the same"
}

if [ "$form" = short ]; then  # side by side: one process leaves a core idle
  jobs=()
  for method in $methods; do (prove "$method") >"$out/$method.txt" 2>&1 & jobs+=($!); done
  for job in "${jobs[@]}"; do wait "$job" || { cat "$out"/*.txt >&2; die "a method failed"; }; done
  cat "$out"/*.txt
else
  for method in $methods; do prove "$method"; done
fi
echo "dist: numbers do not depend on the number of processes"

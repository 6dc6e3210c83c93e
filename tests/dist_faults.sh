#!/usr/bin/env bash
# What can go wrong with two ranks: each time both end with one clear error, name the rank and its host, and do not hang; a job that is
# started again goes on to the same end. Usage: dist_faults.sh SOURCE_DIR VGGFLOW [whole]
set -euo pipefail
source "$1/tests/functions.sh"
cd "$1"
source tests/ranks.sh
vggflow=$(realpath "$2") source=$PWD
out=$(mktemp -d) spaces=()
end_all() {
  kill -KILL $(jobs -p) 2>/dev/null || true
  for space in "${spaces[@]}"; do ip netns delete "$space" 2>/dev/null || true; done
  rm -rf "$out"
}
trap end_all EXIT
export OMP_NUM_THREADS=1
find_torchrun

# The words of a run: words_of RUN [settings]
words_of() {
  words=("$vggflow" align --config "$source/configs/nano.yaml" "run=$1" reward=colorfulness "eval.panel=[]" value.kind=none precision=fp32 threads=1 seed=7 time_grid.steps=2 vgg.bins=2
    batch=2 shares=2 eval_every=1000 grid_images=4 eval.prompts=2 eval.images=2 checkpoint_every=1 "${@:2}")
}
# begin RUN [settings]: two ranks in the background; FIRST and SECOND are words before those of rank 0 and 1, `apart` settings of rank 1.
begin() {
  local words port
  port=$(free_port) pids=()
  words_of "$@"
  begin_rank 0 2 "$port" ${FIRST:-} "${words[@]}" >"$1.0.log" 2>&1
  begin_rank 1 2 "$port" ${SECOND:-} "${words[@]}" ${apart:-} >"$1.1.log" 2>&1
}
wait_for_update() {
  for _ in $(seq 600); do
    if grep -q '"kind":"update"' "$1/metrics.jsonl" 2>/dev/null; then return; fi
    sleep 0.1
  done
  cat "$1".*.log >&2; die "no update within a minute"
}
# expect_end RUN RANK EXIT TEXT [SECONDS]: the rank ends by itself within so many s (60), so, and says that.
expect_end() {
  local begin=$SECONDS code=0
  wait "${pids[$2]}" || code=$?
  [ "$code" = "$3" ] && [ $((SECONDS - begin)) -le "${5:-60}" ] && grep -q "$4" "$1.$2.log" && return
  tail -5 "$1.$2.log" >&2
  die "expected rank $2 to end by $3 within ${5:-60} s saying '$4', got $code after $((SECONDS - begin)) s"
}
# expect_success RUN: both ranks come to the end of their run.
expect_success() {
  for rank in 0 1; do wait "${pids[$rank]}" || { tail -5 "$1.$rank.log" >&2; die "rank $rank failed"; }; done
  grep -q "report: " "$1.0.log" || die "rank 0 wrote no report"
}
# expect_error RUN TEXT_OF_0 TEXT_OF_1: both ranks fail with these words, in one line each.
expect_error() {
  expect_end "$1" 0 1 "$2"
  expect_end "$1" 1 1 "$3"
  for rank in 0 1; do
    [ "$(grep -c '^vggflow: ' "$1.$rank.log")" = 1 ] || die "expected one line, got: $(cat "$1.$rank.log")"
  done
}

whole=$out/whole
killed_and_restarted() {
  words_of "$whole" updates=6
  "${words[@]}" >"$whole.log" 2>&1 || { tail -3 "$whole.log" >&2; die "the run itself fails"; }

  run=$out/killed
  begin "$run" updates=6
  wait_for_update "$run"
  kill -KILL "${pids[1]}"
  expect_end "$run" 0 1 "rank 1 on .* is gone" 10
  echo "dist_faults: a rank that is killed ends the other, which names it"

  # The launcher starts both again: they go on without a word of the user's, to the end of a run that was left alone.
  if [ ${#torchrun[@]} -gt 0 ]; then
    run=$out/restarted
    words_of "$run" updates=6
    cat >"$out/once.sh" <<'SH'
# Rank 1 of the first start is killed once the run has an update.
run=$1; shift
if [ "$RANK" = 1 ] && [ "$TORCHELASTIC_RESTART_COUNT" = 0 ]; then
  (until grep -q '"kind":"update"' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.01; done; kill -KILL $$) &
fi
exec "$@"
SH
    "${torchrun[@]}" --nproc-per-node=2 --max-restarts=1 bash "$out/once.sh" "$run" "${words[@]}" >"$run.log" 2>&1 || { tail "$run.log" >&2; die "torchrun's restart fails"; }
  else
    TORCHELASTIC_RESTART_COUNT=1 begin "$run" updates=6
    expect_success "$run"
  fi
  grep -q "going on after update" "$run/log.txt" || die "the second start began anew: $(cat "$run/log.txt")"
  [ "$(hashes "$run")" = "$(hashes "$whole")" ] || die "the restarted run is not the one that was left alone"
  echo "dist_faults: ranks that are started again go on to the same end: $(hashes "$run" | grep lora.safetensors)"
}
(killed_and_restarted) >"$out/killed.txt" 2>&1 &  # most of it is waiting for a rank's word
beside=$!

run=$out/stopped
begin "$run" updates=1000
wait_for_update "$run"
kill -TERM "${pids[1]}"
expect_end "$run" 0 130 "interrupted after update"
expect_end "$run" 1 130 "stopping after this update"
echo "dist_faults: SIGTERM to one rank stops both after the update"

# Seconds of waiting, and ranks of a busy machine do not answer in time either: with the whole form alone (dist_test has it for a group).
if [ "${3:-short}" = whole ]; then
  run=$out/hanging
  begin "$run" updates=1000 dist.timeout=8
  wait_for_update "$run"
  kill -STOP "${pids[1]}"
  expect_end "$run" 0 1 "rank 1 on .* is gone" 18
  kill -KILL "${pids[1]}"
  echo "dist_faults: a rank that hangs ends the other after dist.timeout"
fi

run=$out/other
apart=grad_clip=2 begin "$run"
expect_error "$run" "the settings to be the same on all ranks; rank 1 differs" "the settings to be the same on all ranks; rank 1 differs"
[ ! -e "$run" ] || die "a refused start left $run"
echo "dist_faults: ranks with other settings are refused"

mkdir "$out/here" "$out/there"
cp -r models/nano "$out/here/model"
run=$out/unread
FIRST="env -C $out/here" SECOND="env -C $out/there" begin "$run" model=model
expect_error "$run" "rank 1 on .* ended: .*'model' is no folder" "'model' is no folder"
echo "dist_faults: a rank that cannot read the model ends both"

run=$out/shared
begin "$run" updates=1000
wait_for_update "$run"
first=("${pids[@]}")
begin "$run" updates=1000
expect_error "$run" "$run is in use by process" "$run is in use by process"
kill -TERM "${first[0]}"
wait "${first[@]}" || true
echo "dist_faults: a second job on the folder is refused"

"${CXX:-c++}" -std=c++20 -O1 -shared -fPIC -o "$out/shim.so" tests/fault_shim.cpp -ldl || die "cannot build tests/fault_shim.cpp"
run=$out/full
FIRST="env LD_PRELOAD=$out/shim.so SHIM_FOLDER=$run SHIM_OPERATION=write SHIM_ACTION=fail SHIM_AT=20" begin "$run" updates=1000
expect_error "$run" "the disk full\|No space left on device" "the disk full\|No space left on device"
echo "dist_faults: a disk that is full for rank 0 ends both"

"${CC:-cc}" -O1 -shared -fPIC -I include -o "$out/reward.so" tests/rank_reward.c -lm || die "cannot build tests/rank_reward.c"
begin "$out/nan" updates=2 method=draft "reward=plugin:$out/reward.so?there=nan" trust=plugins
expect_error "$out/nan" "rank 1 on .* ended: .*gave a score that is not finite" "gave a score that is not finite"
echo "dist_faults: a score that is no number on one rank ends both, which name it"

run=$out/infinite
begin "$run" updates=2 method=draft reward_clip.kind=none "reward=plugin:$out/reward.so?there=5e20" trust=plugins
expect_success "$run"
for log in "$run/log.txt" "$run/log.rank1.txt"; do
  [ "$(grep -c "step skipped.*gradient not finite" "$log")" = 2 ] || die "$log does not say that both steps were skipped: $(cat "$log")"
done
python3 - "$run/lora.safetensors" <<'PY' || die "a step with a gradient that is not finite changed the LoRA"
import json, struct, sys
data = open(sys.argv[1], "rb").read()
head = 8 + struct.unpack("<Q", data[:8])[0]
places = [entry["data_offsets"] for name, entry in json.loads(data[8:head]).items() if ".lora_B" in name or "lora.up" in name]
sys.exit(0 if places and not any(any(data[head + a:head + b]) for a, b in places) else 1)
PY
echo "dist_faults: a gradient that is not finite on one rank keeps both from the step, and both say so"

wait "$beside" || { cat "$out/killed.txt" >&2; die "a rank that is killed"; }
grep "^dist_faults" "$out/killed.txt"

if [ "$(id -u)" = 0 ] && ip netns add "vggflow-$$-0" 2>/dev/null; then
  spaces=("vggflow-$$-0" "vggflow-$$-1")
  ip netns add "${spaces[1]}"
  ip link add "v$$a" netns "${spaces[0]}" type veth peer name "v$$b" netns "${spaces[1]}"
  for end in 0:a 1:b; do
    space=${spaces[${end%:*}]} link=v$$${end#*:}
    ip -n "$space" address add "10.213.7.$((1 + ${end%:*}))/24" dev "$link"
    ip -n "$space" link set "$link" up
    ip -n "$space" link set lo up
  done
  run=$out/apart
  FIRST="ip netns exec ${spaces[0]}" SECOND="ip netns exec ${spaces[1]}" MEETING=10.213.7.1 begin "$run" updates=6
  expect_success "$run"
  [ "$(hashes "$run")" = "$(hashes "$whole")" ] || die "the run over a network is not the one of one process"
  echo "dist_faults: ranks in two network namespaces give the same"
else
  echo "left out: ranks in two network namespaces (ip netns takes root and iproute2)"
fi

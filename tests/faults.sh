#!/usr/bin/env bash
# A short run whose Nth write, fsync, rename, open or allocation fails, once: it ends with one clear line and not with success, its
# last checkpoint is whole, and resumed it ends as the run that was left alone. Where the run did succeed all the same (a line of the
# log for people), its results are the same. Usage: faults.sh SOURCE_DIR VGGFLOW [TRIES for each kind, 5]
set -euo pipefail
source "$1/tests/functions.sh"
cd "$1"
vggflow=$2 tries=${3:-5}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
source tests/short_run.sh
make_short_run

align "$out/counted" "LD_PRELOAD=$shim" "SHIM_FOLDER=$out/counted" "SHIM_COUNTS=$out/counts" || die "the run fails: $(tail -3 "$out/log")"
failed=0 passed=0
for operation in write fsync rename open allocate; do
  count=$(sed -n "s/^$operation //p" "$out/counts")
  [ "$count" -gt 0 ] || die "the run has no $operation"
  for ((i = 0; i < tries && i < count; ++i)); do
    at=$((1 + i * count / tries)) run=$out/run what="$operation $((1 + i * count / tries)) of $count"
    [ "$tries" -lt "$count" ] || at=$((i + 1))
    status=0
    align "$run" "LD_PRELOAD=$shim" "SHIM_FOLDER=$run" "SHIM_OPERATION=$operation" SHIM_ACTION=fail "SHIM_AT=$at" || status=$?
    if [ "$status" -eq 0 ]; then
      passed=$((passed + 1))
    else
      [ "$status" -eq 1 ] || die "$what: ended with $status: $(tail -3 "$out/log")"
      [ "$(grep -c '^vggflow: ' "$out/log")" = 1 ] || die "$what: expected one line, got: $(tail -5 "$out/log")"
      ! grep -q 'frame #' "$out/log" || die "$what: the error has stack frames"
      failed=$((failed + 1))
      align "$run" || die "$what: the run does not go on: $(tail -3 "$out/log")"
      ! grep -q 'cannot be used' "$out/log" || die "$what: the checkpoint is not whole: $(grep 'cannot be used' "$out/log")"
    fi
    same "$run" "$what"
    rm -rf "$run"
  done
done
[ "$failed" -gt "$passed" ] || die "only $failed faults were noticed, $passed were not"
echo "faults: $failed faults ended in one line and went on to the same end, $passed changed nothing"

#!/usr/bin/env bash
# A short run is killed (SIGKILL) at random operations on its files, resumed, killed again, until it comes to its end: the same LoRAs,
# metrics and summary as of the run that was left alone. Usage: kill.sh SOURCE_DIR VGGFLOW [KILLS, 20]
set -euo pipefail
source "$1/tests/functions.sh"
cd "$1"
vggflow=$2 kills=${3:-20}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
source tests/short_run.sh
make_short_run

align "$out/counted" "LD_PRELOAD=$shim" "SHIM_FOLDER=$out/counted" "SHIM_COUNTS=$out/counts" || die "the run fails: $(tail -3 "$out/log")"
operations=$(sed -n 's/^any //p' "$out/counts")
[ "$operations" -gt 50 ] || die "expected more than 50 operations, counted ${operations:-none}"

RANDOM=${KILL_SEED:-1}
done_kills=0 runs=0
while [ "$done_kills" -lt "$kills" ]; do
  run=$out/run$((++runs)) chain=""
  while [ "$done_kills" -lt "$kills" ]; do
    # Early kills are likely, so that a chain has several; a number beyond the run's operations lets it end.
    at=$((RANDOM % operations + 1))
    status=0
    align "$run" "LD_PRELOAD=$shim" "SHIM_FOLDER=$run" SHIM_OPERATION=any SHIM_ACTION=kill "SHIM_AT=$at" || status=$?
    [ "$status" -eq 0 ] && break
    [ "$status" -eq 137 ] || die "killed at $chain$at: the program ended with $status: $(tail -2 "$out/log")"
    chain="$chain$at " done_kills=$((done_kills + 1))
  done
  [ -e "$run/report.html" ] || align "$run" || die "killed at $chain: the run does not go on: $(tail -2 "$out/log")"
  same "$run" "killed at operations $chain"
  rm -rf "$run"
done
echo "kill: $done_kills kills in $runs runs of $operations operations; each ended as if nothing had been"

#!/usr/bin/env bash
# The main job, from nothing: set-up, build, align the nano model with a prompt-aware reward by VGG-Flow, evaluate, report.
# Arguments are settings: scripts/demo.sh updates=10 run=runs/short
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
scripts/build.sh cpu --target vggflow
run=runs/nano
for setting in "$@"; do
  case $setting in run=*) run=${setting#run=} ;; esac
done
if [ -e "$run/summary.json" ]; then
  echo "demo: $run already holds a finished run; remove it or pass run=runs/another" >&2
  exit 1
fi
[ -e "$run/config.yaml" ] && set -- "$@" resume=true
build/cpu/vggflow align --config configs/demo.yaml "run=$run" "$@"
[ ! -e "$run/report.html" ] || echo "demo: the report is $run/report.html"

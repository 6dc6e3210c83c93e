#!/usr/bin/env bash
# Configures and builds the preset (default cpu) with two jobs, or VGGFLOW_JOBS. Further arguments go to cmake --build:
# scripts/build.sh cpu --target vggflow leaves out tests and benchmarks.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu}
[ $# -gt 0 ] && shift
cmake --preset "$preset"
cmake --build --preset "$preset" -j"${VGGFLOW_JOBS:-2}" "$@"

#!/usr/bin/env bash
# Configures and builds the preset (default cpu) with two jobs, or VGGFLOW_JOBS.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu}
cmake --preset "$preset"
cmake --build --preset "$preset" -j"${VGGFLOW_JOBS:-2}"

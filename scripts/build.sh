#!/usr/bin/env bash
# Configures and builds the preset (default cpu) with two jobs, or VGGFLOW_JOBS. Further arguments go to cmake --build:
# scripts/build.sh cpu --target vggflow leaves out tests and benchmarks.
# cpu-nopch builds without the precompiled header, cpu-clang without it and with clang: what they refuse is a file that does not
# include what it uses, or C++ that gcc alone takes.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu}
[ $# -gt 0 ] && shift
cmake --preset "$preset"
cmake --build --preset "$preset" -j"${VGGFLOW_JOBS:-2}" "$@"

#!/usr/bin/env bash
# Set-up, build, all tests; then what was left out. Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test
scripts/build.sh cpu
export VGGFLOW_ASSETS="${VGGFLOW_ASSETS:-$(cd .. && pwd)/shared/assets}"
echo "left out: tests labelled gpu (no GPU is used by this script): $(ctest --test-dir build/cpu -N -L gpu | awk '/Total Tests/ { print $3 }')"
[ -d "$VGGFLOW_ASSETS" ] || echo "left out: tests labelled real, because $VGGFLOW_ASSETS does not exist (set VGGFLOW_ASSETS)"
echo "left out: tests labelled slow, which need a full-size model (docs/sd3.md): VGGFLOW_SD3_FOLDER=FOLDER ctest --test-dir build/cpu -L slow"
results=$PWD/build/cpu/tests.xml
rm -f "$results"
status=0
ctest --preset cpu -j2 -LE 'gpu|slow' --output-junit "$results" "$@" || status=$?
[ ! -e "$results" ] || python3 tests/skipped.py "$results"
exit $status

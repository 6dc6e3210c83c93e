#!/usr/bin/env bash
# Line and branch coverage of the tests by layer, and the ten least covered files (gcc's gcov, nothing else to install).
# Usage: scripts/coverage.sh [-j JOBS] [TEST ...]      of all tests, or of these alone: scripts/coverage.sh core_test io_test
#   COVERAGE_BUILD   the folder of the instrumented build (build/coverage); what is there from before is kept
# Optimized as what ships is, so that the tests see its rounding and take its time; the compiler counts lines that it merged as one.
# A branch counts where the compiler made it of the source; those that only an exception takes are left out. Layers whose test is
# not among the named ones are covered by what others call of them; the script says which tests it ran.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${COVERAGE_BUILD:-build/coverage} jobs=$(nproc)
[ "${1:-}" != -j ] || { jobs=$2; shift 2; }
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="--coverage -fprofile-update=atomic" -DVGGFLOW_PCH=OFF \
  -DVGGFLOW_BUILD_BENCH=OFF >"$build.log" 2>&1 || { tail -20 "$build.log"; exit 1; }
ninja -C "$build" -j"$jobs" ${@:+"$@"} >>"$build.log" 2>&1 || { tail -20 "$build.log"; exit 1; }
find "$build" -name '*.gcda' -delete
export OMP_NUM_THREADS=1
if [ $# -eq 0 ]; then
  ctest --test-dir "$build" -j"$jobs" -LE 'gpu|slow|real' --output-on-failure >"$build.tests.log" 2>&1 || tail -30 "$build.tests.log"
else
  for test in "$@"; do
    program=$(find "$build" -type f -executable -name "$test" | head -1)
    [ -n "$program" ] || { echo "there is no test program $test in $build"; exit 1; }
    echo "$test: $("$program" --gtest_brief=1 2>/dev/null | tail -1)"
  done
fi
find "$build/src" -name '*.gcno' -print0 | python3 -c '
import collections, gzip, json, os, pathlib, subprocess, sys, tempfile

root = pathlib.Path.cwd()
notes = [pathlib.Path(os.fsdecode(n)) for n in sys.stdin.buffer.read().split(b"\0") if n]
lines, branches = collections.defaultdict(dict), collections.defaultdict(dict)  # file -> place -> taken


def keep(file):
    path = pathlib.Path(os.path.normpath(root / file["file"] if os.path.isabs(file["file"]) else folder / file["file"]))
    try:
        name = str(path.relative_to(root / "src/vggflow"))
    except ValueError:
        return  # of the system or of LibTorch
    if name.startswith("testing/") or "_test." in name or "_fixture." in name or "testdata/" in name:
        return
    for line in file["lines"]:
        at = line["line_number"]
        lines[name][at] = lines[name].get(at, 0) + line["count"]
        plain = [b for b in line["branches"] if not b["throw"]]
        for i, branch in enumerate(plain if len(plain) > 1 else []):
            branches[name][at, i] = branches[name].get((at, i), 0) + branch["count"]


for note in notes:
    with tempfile.TemporaryDirectory() as scratch:
        data = note.with_suffix(".gcda")
        source = data if data.exists() else note
        run = subprocess.run(["gcov", "--json-format", "--branch-probabilities", source.resolve()], cwd=scratch, capture_output=True)
        for found in pathlib.Path(scratch).glob("*.gcov.json.gz"):
            report = json.loads(gzip.decompress(found.read_bytes()))
            folder = pathlib.Path(report["current_working_directory"])
            for file in report["files"]:
                keep(file)


def share(places):
    return sum(1 for count in places if count) / len(places) if places else float("nan")


layers = collections.defaultdict(lambda: ([], []))
for name in lines:
    parts = name.split("/")
    layer = "/".join(parts[:2]) if parts[0] == "families" and len(parts) > 2 else parts[0]
    for key in (layer, "all"):
        layers[key][0].extend(lines[name].values())
        layers[key][1].extend(branches[name].values())
print("\n| layer | lines | covered | branches | covered |\n|---|---|---|---|---|")
for key in sorted(layers, key=lambda k: (k == "all", k)):
    l, b = layers[key]
    print(f"| {key} | {len(l)} | {100 * share(l):.1f} % | {len(b)} | {100 * share(b):.1f} % |")
print("\nleast covered files of 20 lines and more:")
least = sorted((share(lines[n].values()), n) for n in lines if len(lines[n]) >= 20)
for part, name in least[:10]:
    missed = sorted(at for at, count in lines[name].items() if not count)
    print(f"  {100 * part:5.1f} %  {name}  (of {len(lines[name])} lines; first not run: {missed[:8]})")
'

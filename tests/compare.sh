#!/usr/bin/env bash
# `vggflow compare` from outside, on real alignments of seconds: tuning, the tables' runs, nothing run twice, Ctrl-C, refusals, and the
# report in Chromium where there is one. Usage: compare.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
quick=("$vggflow" compare --config configs/compare/quick.yaml "out=$out/q" "seeds=[1]")
compare() { "${quick[@]}" "$@"; }

"$vggflow" compare --help | grep -q "reward_at_diversity_floor" || die "compare --help does not describe the file"
refuse "arm 'no-value-network', setting 'default': [config] override batsh=2: unknown setting 'batsh'; did you mean 'batch'?" compare batsh=2
[ "$refused" = 2 ] || die "a wrong setting is no usage error (2)"
refuse "'resume' is set by compare" compare resume=true
[ -e /dev/nvidia0 ] || refuse "device=cuda: no NVIDIA driver is on this machine" compare device=cuda
echo "arms: [" >"$out/bad.yaml"
refuse "bad.yaml is not YAML" "$vggflow" compare --config "$out/bad.yaml"
[ "$refused" = 2 ] || die "a file that is no YAML is no usage error (2)"
[ ! -e "$out/q" ] || die "a refused comparison left a folder"
compare --dry-run >"$out/plan.txt" || die "--dry-run failed"
[ "$(grep -c "^to do " "$out/plan.txt")" -eq 3 ] || die "expected three runs to do before the choice: $(cat "$out/plan.txt")"
grep -q "^later     vgg-flow on seeds 1" "$out/plan.txt" || die "the plan does not say what comes later"
# A comparison of a model that is not there, by its published sizes: 14 arms of two settings on one seed, and one on the other two.
"$vggflow" compare --config configs/compare/sd35-hpdv2.yaml "out=$out/sd35" --plan >"$out/sd35.txt" || die "--plan failed"
grep -q "^56 runs, one after the other, and the base's evaluation once per arm" "$out/sd35.txt" || die "--plan does not count the runs: $(cat "$out/sd35.txt")"
grep -qE "^leapalign +4 +.* B N 2F" "$out/sd35.txt" || die "--plan has no row of leapalign: $(cat "$out/sd35.txt")"
[ ! -e "$out/sd35" ] || die "--plan left a folder"

# Ctrl-C while the first alignment runs: it saves, and the comparison says how to go on.
"${quick[@]}" 2>"$out/interrupted.txt" &
job=$!
console="$out/q/runs/vgg-flow/lr=1e-4/seed0/console.txt"
for _ in $(seq 600); do grep -qs "^eval 0" "$console" && break; sleep 0.1; done
kill -INT $job
wait $job && die "an interrupted comparison ended with 0"
grep -q "Go on with: vggflow compare --config configs/compare/quick.yaml" "$out/interrupted.txt" || die "no word on how to go on: $(cat "$out/interrupted.txt")"
[ -e "$out/q/runs/vgg-flow/lr=1e-3" ] && die "a run was started after the interrupt"

compare 2>"$out/first.txt" || die "compare failed: $(tail -5 "$out/first.txt")"
grep -q "vgg-flow: chose lr=" "$out/first.txt" || die "no setting was chosen: $(cat "$out/first.txt")"
grep -q "\[4/4\] finished" "$out/q/log.txt" || die "log.txt does not count four runs: $(cat "$out/q/log.txt")"
[ "$(grep -l "the base's figures are those of $out/q/base/" "$out"/q/runs/*/*/*/log.txt | wc -l)" -ge 2 ] ||
  die "runs of one evaluation did not share the base's: $(ls "$out/q/base")"
runs=$(wc -l <"$out/q/grid.jsonl")
compare 2>"$out/second.txt" || die "the second call failed: $(cat "$out/second.txt")"
[ "$(wc -l <"$out/q/grid.jsonl")" -eq "$runs" ] || die "the second call ran something again"
refuse "batch differ" compare batch=3

rm "$out/q/report.html"
compare --report-only 2>/dev/null || die "--report-only failed"
for piece in "After the last update" "At the largest reward that every run reaches" "Reward against diversity" "Hypervolume" "Tuning effort" "Before and after" \
  "data:image/png;base64" "Unequal tuning effort"; do
  grep -qF -- "$piece" "$out/q/report.html" || die "the report has no '$piece'"
done
[ "$(wc -l <"$out/q/results.csv")" -eq 13 ] || die "expected a head and three evaluations of four runs in results.csv"
grep -q "^| vgg-flow | lr=" "$out/q/results.md" || die "results.md has no row of vgg-flow"
if command -v chromium >/dev/null; then
  page=$(timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$out/profile" --dump-dom "file://$out/q/report.html" 2>/dev/null)
  [ "$(grep -o "<svg" <<<"$page" | wc -l)" -eq 18 ] || die "expected 18 charts in Chromium"
  [ "$(grep -o "<img[^>]*src=\"data:image/png;base64," <<<"$page" | wc -l)" -eq 3 ] || die "expected the base's grid and one of each arm"
  grep -qE '(src|href)=["'"'"'](https?:|//|file:)|url\(|@import|<script' <<<"$page" && die "the page names something outside itself"
else
  echo "left out: opening the report in Chromium (scripts/setup.sh --test installs it)"
fi
echo "compare: all good"

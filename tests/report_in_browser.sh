#!/usr/bin/env bash
# A report in headless Chromium: it renders, its parts are in the page, and it names nothing outside itself. The run folder is made
# here. Ends with 77, which ctest shows as skipped, where there is no Chromium. Usage: report_in_browser.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
command -v chromium >/dev/null || { echo "left out: opening the report in Chromium (scripts/setup.sh --test installs it)"; exit 77; }
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

eval_line() {  # UPDATE REWARD JUDGE DIVERSITY FD
  printf '{"kind":"eval","update":%d,"prompts":20,"images_per_prompt":16,"metrics":{"reward":{"mean":%s,"se":0.4},"reward_sd_within_prompt":2.0,' "$1" "$2"
  printf '"judge_accuracy":{"mean":%s,"se":0.03},"judge_score":{"mean":0.8,"se":0.03},"diversity":{"mean":%s,"se":0.02},"fd":%s,"fd_floor":3.0,' "$3" "$4" "$5"
  printf '"kid":0.03,"kid_se":0.01,"kid_floor":-0.02,"saturated":0.27}}\n'
}
update_line() {  # UPDATE LOSS
  printf '{"kind":"update","update":%d,"loss":{"matching":0.0%d,"consistency":0.%d,"boundary":0.0},"reward":{"mean":%d,"sd":1.0},' "$1" "$2" "$2" "$2"
  printf '"grad_norm":{"policy":0.0%d,"value":0.%d},"dropped":0}\n' "$2" "$2"
}
run="$out/run" && mkdir -p "$run/grids"
{
  eval_line 0 10 0.90 0.40 3.0
  for i in 1 2 3 4; do update_line "$i" $((9 - i)); done
  eval_line 4 12 0.88 0.38 9.0
  for i in 5 6 7 8; do update_line "$i" $((9 - i)); done
  eval_line 8 13 0.70 0.30 14.0
  echo '{"kind":"warning","update":8,"name":"reward_hacking","text":"the judge fell: reward hacking"}'
} | sed 's/"mean":0,/"mean":0.5,/' >"$run/metrics.jsonl"
for update in 000000 000004 000008; do cp models/nano/preview.png "$run/grids/eval_$update.png"; done
cp configs/nano.yaml "$run/config.yaml"
printf '{"method":"vgg-flow","reward":"colorfulness","seed":0,"seconds":{"rollout":3,"value":9},"environment":{"processor":"none"}}' >"$run/summary.json"
"$vggflow" report "$run" >/dev/null || die "vggflow report failed"

browse() { timeout 60 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$out/profile" "$@" 2>>"$out/chromium.log"; }
page=$(browse --dump-dom "file://$run/report.html") || die "Chromium failed: $(tail -3 "$out/chromium.log")"
for piece in "vgg-flow on colorfulness" "+1.50 sd of the base within a prompt" "Before and after" "In between" "Reward against diversity" "Losses" \
  "Time by phase" "Evaluations" "the judge fell: reward hacking" "Settings" "Environment"; do
  grep -qF -- "$piece" <<<"$page" || die "the page has no '$piece'"
done
[ "$(grep -o "<img[^>]*src=\"data:image/png;base64," <<<"$page" | wc -l)" -eq 3 ] || die "expected three embedded images"
grep -qE '(src|href)=["'"'"'](https?:|//|file:)|url\(|@import|<script' <<<"$page" && die "the page names something outside itself"

# A blank page compresses to almost nothing: the report has many times its bytes, and its images most of them.
without=$(sed -E "s#data:image/png;base64,[A-Za-z0-9+/=]*#data:,#g" "$run/report.html")
echo "$without" >"$out/no_images.html"
echo "<!doctype html>" >"$out/blank.html"
# A click on an image shows it as large as the window.
{ cat "$run/report.html"; echo "<script>document.querySelector('label img').click()</script>"; } >"$out/enlarged.html"
shot() { browse "--screenshot=$out/$1.png" "--window-size=$3,3000" "file://$2" && stat -c %s "$out/$1.png"; }
blank=$(shot blank "$out/blank.html" 1400) && bare=$(shot bare "$out/no_images.html" 1400) && wide=$(shot wide "$run/report.html" 1400) &&
  narrow=$(shot narrow "$run/report.html" 500) || die "no screenshot: $(tail -3 "$out/chromium.log")"
enlarged=$(shot enlarged "$out/enlarged.html" 1400) || die "no screenshot: $(tail -3 "$out/chromium.log")"
cmp -s "$out/enlarged.png" "$out/wide.png" && die "a click enlarges nothing"
[ "$enlarged" -gt $((2 * blank)) ] || die "the enlarged image does not show: $enlarged bytes"
[ "$bare" -gt $((4 * blank)) ] || die "the charts do not show: $bare bytes against $blank of a blank page"
for size in "$wide" "$narrow"; do [ "$size" -gt $((bare * 3 / 2)) ] || die "the images do not show: $size bytes against $bare without them"; done
[ -z "${VGGFLOW_KEEP_SCREENSHOTS:-}" ] || cp "$out/wide.png" "$out/narrow.png" "$VGGFLOW_KEEP_SCREENSHOTS/"
echo "report_in_browser: all good ($wide and $narrow bytes, $blank of a blank page)"

#!/usr/bin/env bash
# The binary from outside: help, refusals with their message and a non-zero exit, a short run, Ctrl-C and resume, report, sample,
# inspect; and TensorBoard, where .venv-test has it, reads the event files. Usage: end_to_end.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$vggflow" check >"$out/check.txt" || die "check failed: $(cat "$out/check.txt")"
"$vggflow" --version | grep -qE "^vggflow [0-9.]+ \(commit ([0-9a-f]+(-dirty)?|unknown)\)$" || die "--version says no release and commit"
"$vggflow" --version | grep -q "LibTorch 2.11" || die "--version does not name LibTorch"
# Where there is no GPU, to ask for one is refused in one sentence; auto says why it is the CPU.
if ! "$vggflow" check --device cuda >"$out/check_cuda.txt" 2>&1; then
  [ "$(grep -c "device=cuda" "$out/check_cuda.txt")" -eq 1 ] || die "check --device cuda is not refused in one sentence: $(cat "$out/check_cuda.txt")"
  grep -q "^device .*cpu" "$out/check.txt" || die "check does not say that it computes on the CPU: $(cat "$out/check.txt")"
fi
# One grammar of settings: help as wide as the terminal, near words, exit codes.
for command in $(COLUMNS=80 "$vggflow" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
  for help in --help --help-all; do
    COLUMNS=80 "$vggflow" "$command" $help >"$out/help.txt" || die "$command $help failed"
    grep -q "^Usage: vggflow $command" "$out/help.txt" || die "$command $help has no usage: $(cat "$out/help.txt")"
    awk 'length($0) > 80 { exit 1 }' "$out/help.txt" || die "$command $help is wider than 80 columns"
  done
done
"$vggflow" align --help | grep -q "vgg.beta" || die "align --help does not list vgg.beta"
"$vggflow" align --help | grep -q "fd_t" && die "align --help is not short"
"$vggflow" align --help-all | grep -q "fd_t" || die "align --help-all is not whole"
refuse "did you mean 'updates'" "$vggflow" align update=3
refuse "did you mean 'policy_optimizer.lr' or 'value_optimizer.lr'?" "$vggflow" align lr=3
refuse "unknown command 'algin'; did you mean 'align'?" "$vggflow" algin
refuse "unknown flag --lroa; did you mean '--lora'?" "$vggflow" sample --lroa x
refuse "settings is given by --config: vggflow plan --config configs/nano.yaml" "$vggflow" plan configs/nano.yaml
refuse "settings is given by --config: vggflow compare --config configs/compare/quick.yaml" "$vggflow" compare configs/compare/quick.yaml
refuse "configurations is --model-config configs" "$vggflow" convert MODEL OUT --config configs
"$vggflow" align update=3 2>/dev/null; [ $? = 2 ] || die "an unknown setting does not end with 2"
"$vggflow" inspect "$out" 2>/dev/null; [ $? = 1 ] || die "a folder without files does not end with 1"
"$vggflow" plan --config configs/nano.yaml json=true gflops=100 >&- 2>&- <&- || die "plan needs open descriptors"
refuse "expected 'vgg.eta' to be one of" "$vggflow" align "run=$out/x" vgg.eta=cubic
refuse "cannot open the font /no.ttf" "$vggflow" align --config configs/nano.yaml "run=$out/font" data.font=/no.ttf
refuse "does not know the word 'dragonn'" "$vggflow" sample --config /dev/null "out=$out/s" "prompts=[dragonn]"
refuse "unknown reward 'aesthetik'" "$vggflow" align --config configs/nano.yaml "run=$out/reward" reward=aesthetik
refuse "cannot make the folder" "$vggflow" align --config configs/nano.yaml run=/proc/vggflow
refuse "holds no metrics.jsonl" "$vggflow" report "$out"
refuse "holds no file of weights" "$vggflow" inspect "$out"

short=(--config configs/nano.yaml time_grid.steps=6 grid_images=16 batch=2 eval.prompts=2 eval.images=2 eval_every=2 value.width=32 value.layers=1)
"$vggflow" align "${short[@]}" "run=$out/a" updates=2 >"$out/said.txt" 2>"$out/a.log" || die "align failed: $(tail -3 "$out/a.log")"
for file in report.html summary.json lora.safetensors grids/eval_000002.png; do [ -s "$out/a/$file" ] || die "no $file"; done
refuse "already holds a run" "$vggflow" align "${short[@]}" "run=$out/a" updates=2
refuse "vgg.beta differ" "$vggflow" align "${short[@]}" "run=$out/a" updates=2 resume=true vgg.beta=77
for run in font reward; do [ ! -e "$out/$run" ] || die "a refused start left $out/$run behind"; done
refuse "holds no run to go on with" "$vggflow" align "${short[@]}" "run=$out/none" resume=true
# A finished run is left as it is; a moved one is not begun anew in the old place.
sum=$(cat "$out"/a/*.* | cksum)
"$vggflow" align --config "$out/a/config.yaml" resume=true 2>"$out/again.log" || die "resuming a finished run failed: $(cat "$out/again.log")"
grep -q "is finished after update 2: nothing was changed" "$out/again.log" || die "nothing said of a finished run: $(cat "$out/again.log")"
[ "$(cat "$out"/a/*.* | cksum)" = "$sum" ] || die "resuming a finished run changed it"
rm "$out/a/report.html"  # as of a run that was killed while it wrote it
"$vggflow" align --config "$out/a/config.yaml" resume=true 2>"$out/again.log" >&2 || die "resuming a run without its report failed: $(cat "$out/again.log")"
[ -s "$out/a/report.html" ] || die "a finished run that was resumed is still without its report"
cp -r "$out/a" "$out/moved run"
refuse "pass run='$out/moved run' too" "$vggflow" align --config "$out/moved run/config.yaml" resume=true
grep -qE '(src|href)="?https?:' "$out/a/report.html" && die "the report names an address outside itself"

# Ctrl-C: the update is finished and saved, and the run goes on from there.
"$vggflow" align "${short[@]}" "run=$out/b" updates=500 2>"$out/b.log" &
job=$!
for _ in $(seq 300); do grep -q "step 2/" "$out/b.log" && break; sleep 0.2; done
refuse "b is in use by process $job" "$vggflow" align "${short[@]}" "run=$out/b" updates=500 resume=true
kill -INT $job
wait $job
[ $? = 130 ] || die "an interrupted run did not exit with 130"
grep -q "stopping after this update, which is saved; Ctrl-C again ends now" "$out/b.log" || die "Ctrl-C was not answered: $(tail -3 "$out/b.log")"
grep -q "the state is saved. Go on with: vggflow align" "$out/b.log" || die "no word on how to go on: $(tail -3 "$out/b.log")"
done_updates=$(grep -c '"kind":"update"' "$out/b/metrics.jsonl")
"$vggflow" align --config "$out/b/config.yaml" resume=true 2>"$out/c.log" &
job=$!
for _ in $(seq 300); do grep -q "step $((done_updates + 1))/" "$out/c.log" && break; sleep 0.2; done
kill -INT $job
sleep 0.1; kill -INT $job  # now: the update under way is dropped, those before it are not
wait $job
[ $? = 130 ] || die "a run that was interrupted twice did not exit with 130"
grep -q "going on after update $done_updates" "$out/c.log" || die "no word of where it goes on: $(tail -3 "$out/c.log")"
grep -q "the state is saved. Go on with" "$out/c.log" || die "the second Ctrl-C lost the updates before it: $(tail -3 "$out/c.log")"
grep -q "step $((done_updates + 1))/500" "$out/c.log" || die "the resumed run did not go on at update $((done_updates + 1)): $(tail -3 "$out/c.log")"

"$vggflow" sample "out=$out/s" "prompts=[red heart, ghost]" "generator.lora=$out/a/lora_ema.safetensors" >"$out/s.txt" 2>"$out/s.log" || die "sample failed"
grep -q "holds 2 prompts: red heart | ghost" "$out/s.log" || die "sample does not say which prompts it read: $(cat "$out/s.log")"
[ "$(cat "$out/s.txt")" = "wrote 2 images and grid.png to $out/s" ] || die "sample prints more than its result: $(cat "$out/s.txt")"
[ -s "$out/s/00001.png" ] && [ -s "$out/s/grid.png" ] || die "sample wrote no images"
"$vggflow" metrics "$out/s" "$out/s" "out=$out/m" "panel=[colorfulness]" >"$out/said.txt" 2>"$out/m.log" || die "metrics failed: $(tail -3 "$out/m.log")"
grep -q '"saturated"' "$out/m/metrics.json" || die "metrics.json says nothing of saturation"
refuse "more folders of one set are a=[one, two]" "$vggflow" metrics "$out/s" "$out/s" "$out/s"
"$vggflow" score --reward colorfulness --reward emoji-clip "$out/s" --out "$out/scores" >"$out/said.txt" 2>"$out/score.log" || die "score failed: $(tail -3 "$out/score.log")"
"$vggflow" score --reward jpeg "$out/s" jpeg_quality=50 threads=1 --out "$out/jpeg" >"$out/said.txt" 2>"$out/score.log" || die "score with a setting failed: $(tail -3 "$out/score.log")"
refuse "nothing asks for weights named 'nosuch'" "$vggflow" score --reward jpeg "$out/s" --reward-weights nosuch=/x
grep -q "left out" "$out/score.log" && die "score counts the program's own grid: $(cat "$out/score.log")"
[ "$(wc -l <"$out/scores/scores.jsonl")" = 2 ] || die "scores.jsonl does not hold the two images"
grep -qE '(src|href)="?https?:' "$out/scores/scores.html" "$out/m/metrics.html" && die "a sheet names an address outside itself"
# A LoRA in other layouts, and merged into the model: the same images without an adapter.
refuse "exists already" "$vggflow" export "$out/a/lora_ema.safetensors" "$out/a/lora.safetensors"
refuse "needs the base model" "$vggflow" export "$out/a/lora_ema.safetensors" "$out/merged" --format merged
for format in peft merged; do
  refuse "x.ckpt reads as the name of a file" "$vggflow" export "$out/a/lora_ema.safetensors" "$out/x.ckpt" --format $format --model models/nano
done
refuse "expected seeds of at least 0, got -2" "$vggflow" sample "out=$out/s" "seeds=[1, -2]"
refuse "asks for 2 images per prompt and images for 3" "$vggflow" sample "out=$out/s" "seeds=[1, 2]" --images 3
refuse "as many steps as the explicit grid has noise levels, 2, got 3" "$vggflow" sample "out=$out/s" generator.time_grid.kind=explicit "generator.time_grid.sigmas=[1, 0.5]" --steps 3
"$vggflow" convert tests/data/sd3_tiny "$out/single.safetensors" >/dev/null 2>&1 || die "convert failed"
refuse "convert, export: --model-config FOLDER" "$vggflow" convert "$out/single.safetensors" "$out/converted"
for format in diffusers peft kohya merged; do
  "$vggflow" export "$out/a/lora_ema.safetensors" "$out/$format" --format $format --model models/nano >"$out/export.log" 2>&1 ||
    die "export to $format failed: $(cat "$out/export.log")"
  grep -q "the network's output by" "$out/export.log" || die "export to $format says nothing of its check: $(cat "$out/export.log")"
done
for format in peft kohya; do
  "$vggflow" sample "out=$out/s_$format" "prompts=[red heart, ghost]" "generator.lora=$out/$format" 2>/dev/null || die "sample does not take $format"
done
"$vggflow" sample "out=$out/s_merged" "prompts=[red heart, ghost]" "generator.model=$out/merged" 2>/dev/null || die "sample does not open the merged model"
cmp -s "$out/s/grid.png" "$out/s_merged/grid.png" || die "the merged model draws other images than the adapter"

# The terminal: bars that fit it, and plain lines elsewhere.
bars=(generator.time_grid.steps=4 batch=2)
python3 tests/terminal.py "$out/said.txt" "$vggflow" sample "out=$out/s_bar" "prompts=[red heart, ghost, red heart, ghost, ghost]" "${bars[@]}" ||
  die "sample's bar: $(cat "$out/said.txt")"
python3 tests/terminal.py "$out/said.txt" "$vggflow" eval reward=colorfulness eval.prompts=2 eval.images=4 eval.batch=2 "generator.lora=$out/a/lora_ema.safetensors" \
  generator.time_grid.steps=4 || die "eval's bar: $(cat "$out/said.txt")"
# OpenMP's policy is ours unless the user has one.
"$vggflow" check | grep -q "^waiting threads *GOMP_SPINCOUNT=10000$" || die "the wait policy is not ours"
OMP_WAIT_POLICY=active "$vggflow" check | grep -q "^waiting threads *OMP_WAIT_POLICY=active$" || die "the user's wait policy does not win"
# What the LoRA was trained on is what it is evaluated on, and is named.
"$vggflow" eval "generator.lora=$out/a/lora_ema.safetensors" eval.prompts=2 eval.images=2 generator.time_grid.steps=4 >"$out/said.txt" 2>"$out/eval.log" ||
  die "eval failed: $(tail -3 "$out/eval.log")"
trained=$(sed -n 's/^reward: //p' "$out/a/config.yaml" | sed 's/ *#.*//; s/"//g')
grep -q "^reward: $trained, which $out/a/lora_ema.safetensors was trained on" "$out/eval.log" || die "eval does not say its reward: $(cat "$out/eval.log")"
grep -q "^$trained moved by" "$out/said.txt" || die "eval does not name its reward: $(cat "$out/said.txt")"
grep -q "reward-hacking\|reward hacking" "$out/eval.log" && die "two prompts are called reward hacking"

small=(reward=colorfulness eval.prompts=2 eval.images=2 generator.time_grid.steps=4)
"$vggflow" sweep "out=$out/sweep" "generator.lora=$out/a/lora_ema.safetensors" "strengths=[0.5, 2]" "${small[@]}" >"$out/said.txt" 2>/dev/null || die "sweep failed"
[ "$(grep -o "data:image/png;base64," "$out/sweep/sweep.html" | wc -l)" -ge 6 ] || die "sweep.html does not hold its pictures"
grep -q "<figcaption>" "$out/sweep/sweep.html" || die "sweep.html has no captions"
for file in sweep.html sweep.json strength_0.00.png strength_2.00.png; do [ -s "$out/sweep/$file" ] || die "sweep wrote no $file"; done
refuse "expected generator.lora" "$vggflow" sweep "out=$out/sweep"
"$vggflow" eval "out=$out/guided.json" generator.guide.kind=value "generator.guide.value=$out/a/value.safetensors" "${small[@]}" >"$out/said.txt" 2>"$out/guided.log" ||
  die "guided eval failed: $(tail -3 "$out/guided.log")"
grep -q '"guide": "value"' "$out/guided.json" || die "the guided evaluation does not say so"
refuse "has no 'vggflow.value' metadata" "$vggflow" sample "out=$out/s" generator.guide.kind=value "generator.guide.value=$out/a/lora.safetensors"
refuse "to be one of adjoint-matching, draft, drtune" "$vggflow" align --config configs/nano.yaml "run=$out/method" method=vggflow
refuse "trains no value network" "$vggflow" align --config configs/nano.yaml "run=$out/method2" method=refl value.kind=unet

"$vggflow" inspect tests/data/lora | grep -q "lora_state_dict.bin" || die "inspect passes over a folder's torch files"
"$vggflow" inspect "$out/a/lora.safetensors" | grep -q "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" || die "inspect lists no adapter"
if [ -x .venv-test/bin/python ]; then
  .venv-test/bin/python tests/tensorboard_reads.py "$out/a/tensorboard" loss/matching grid optimizer/lr time/update memory/process_gib \
    eval/reward_change eval/diversity_change settings || die "TensorBoard does not read the event files"
else
  echo "left out: reading the event files with TensorBoard (scripts/setup.sh --test installs it)"
fi
if command -v chromium >/dev/null; then
  page=$(timeout 60 chromium --headless --no-sandbox --disable-gpu --dump-dom "file://$out/a/report.html" 2>/dev/null)
  for piece in "Before and after" "Reward against diversity" "Time by phase" "data:image/png;base64" "Settings" "Use it" \
    "vggflow sweep out=" "paired change of reward" "LibTorch" "finished" "<span>base</span>"; do
    grep -qF "$piece" <<<"$page" || die "the report in Chromium has no '$piece'"
  done
else
  echo "left out: opening the report in Chromium (scripts/setup.sh --test installs it)"
fi
echo "end_to_end: all good"

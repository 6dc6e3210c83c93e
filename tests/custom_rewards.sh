#!/usr/bin/env bash
# Rewards of a user's own from outside: the commands of docs/custom-rewards.md build the example plug-in and check it, an update trains on
# it with the example judge on the panel, and what cannot train is refused. Usage: custom_rewards.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
out=$(mktemp -d)
judge=
trap 'rm -rf "$out"; [ -n "$judge" ] && kill "$judge"' EXIT

compile=$(grep '^cc .*sharpness.c' docs/custom-rewards.md)
[ "$(wc -l <<<"$compile")" = 1 ] || die "expected one command of cc in docs/custom-rewards.md, got: $compile"
eval "${compile/-o sharpness.so/-o \"\$out/sharp+er*.so\"}" || die "the documented command does not compile the example"
sharpness="plugin:$out/sharp+er*.so?floor=1e-3"
"$vggflow" check --reward "$sharpness" >"$out/check.txt" || die "the example plug-in fails its check: $(cat "$out/check.txt")"
grep -q "luma; floor 0.001" "$out/check.txt" || die "the check does not tell the plug-in's preprocessing: $(cat "$out/check.txt")"
"$vggflow" check --reward emoji-clip | grep -q "stored scores of 4 images .*: ok" || die "emoji-clip's scores are not the stored ones"
(cd "$out" && "$vggflow" check --reward jpeg) | grep -q "stored scores of 4 images .*: ok" || die "the stored scores are not found from another folder"
"$vggflow" check --reward jpeg jpeg_quality=50 | tail -1 | grep -q "everything checked holds; left out: stored scores" || die "what was left out is not told at the end"
said=$("$vggflow" check --reward jpeg stored=/nope.json 2>&1) && die "expected a refusal of stored scores that are not there"
grep -qF "expected stored scores at stored=/nope.json" <<<"$said" || die "expected the path in the refusal, got: $said"

python3 examples/remote_judge/brightness_judge.py 0 >"$out/judge.txt" &
judge=$!
for _ in $(seq 100); do grep -q listening "$out/judge.txt" && break; sleep 0.1; done
url=$(sed -n 's/^listening on //p' "$out/judge.txt")
"$vggflow" check --reward "$url#batch=3" "prompts=[a, unknown, c, d]" >"$out/remote.txt" 2>/dev/null || die "the judge fails its check: $(cat "$out/remote.txt")"
grep -q "white images *1 to 1, 1 of 4 not finite" "$out/remote.txt" || die "white is not 1, or no score is not told: $(cat "$out/remote.txt")"
grep -q "images without a score *6 in this check" "$out/remote.txt" || die "the missing scores are not counted: $(cat "$out/remote.txt")"

"$vggflow" align --config configs/nano.yaml "run=$out/run" "reward=0.5*$sharpness + emoji-clip" "eval.panel=['${url/:\/\//://me:secret@}']" batch=2 updates=1 eval.prompts=2 \
  grid_images=4 eval.images=2 eval_every=1 value.width=32 value.layers=1 2>"$out/run.log" || die "align with a plug-in failed: $(tail -3 "$out/run.log")"
grep -q '"kind":"eval".*"panel":{"http://127.0.0.1' "$out/run/metrics.jsonl" || die "the judge is not on the panel of the evaluations"
grep -rlF secret "$out/run" "$out/run.log" && die "a password was written"
# The run's config.yaml names the plug-in and the judge: a file needs consent, which the command line gives and the file cannot.
config=$out/run/config.yaml
refuse "runs a library's code with your rights. If you trust it, pass trust=plugins,http" "$vggflow" align --config "$config" "run=$out/again"
refuse "sends images and prompts to a server. If you trust it, pass trust=plugins,http" "$vggflow" align --config "$config" trust=plugins
refuse "expected trust=plugins, torchscript or http" "$vggflow" align --config "$config" trust=all
"$vggflow" plan --config "$config" --gflops 100 >/dev/null 2>&1 || die "plan opens no reward and needs no consent"
"$vggflow" align --config "$config" resume=true updates=2 --trust plugins,http 2>"$out/run.log" || die "a trusted configuration does not go on: $(tail -3 "$out/run.log")"
# What is given on holds no folder of this machine.
grep -aqF "$out" "$out/run/lora_ema.safetensors" && die "the LoRA names a folder of this machine"
"$vggflow" sample "out=$out/images" "prompts=[red heart]" "generator.lora=$out/run/lora_ema.safetensors" 2>/dev/null || die "the LoRA does not sample"
grep -aqF "$out" "$out/images/00000.png" && die "the image names a folder of this machine"
said=$("$vggflow" sample "out=$out/s" generator.guide.kind=one_step "generator.guide.reward=$url" 2>&1) && die "expected a refusal to be guided by a judge"
grep -qF "has no gradient: it can judge" <<<"$said" || die "expected the refusal to say why, got: $said"
said=$("$vggflow" check --reward "plugin:$out/gone.so" 2>&1) && die "expected a refusal of a plug-in that is not there"
grep -qF "expected a shared library at $out/gone.so" <<<"$said" || die "expected the path in the refusal, got: $said"
echo "custom_rewards: all good"

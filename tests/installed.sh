#!/usr/bin/env bash
# Installs into a temporary prefix; the program finds its models from any folder; the examples of examples/cpp are built against
# the installed package and run. Usage: installed.sh SOURCE_DIR BUILD_DIR
set -u
. "$(dirname "$0")/functions.sh"
source=$1 build=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1
prefix=$out/prefix elsewhere=$out/elsewhere
mkdir "$elsewhere"

cmake --install "$build" --prefix "$prefix" >"$out/install.log" 2>&1 || die "the installation failed: $(tail -3 "$out/install.log")"
# An installed header includes no file of ours that is not installed.
while read -r header; do
  [ -e "$prefix/include/$header" ] || die "installed headers include $header, which is not installed"
done < <(grep -rhoE '#include "vggflow/[^"]+"' "$prefix/include" | sed 's/.*"\(.*\)"/\1/' | sort -u)

for file in man/man1/vggflow.1 bash-completion/completions/vggflow zsh/site-functions/_vggflow fish/vendor_completions.d/vggflow.fish; do
  grep -q vggflow "$prefix/share/$file" || die "share/$file is not installed"
done

# models/nano, models/judge, models/emoji-clip and configs/ are those of the checkout or of the prefix, wherever the program is called.
cd "$elsewhere" || exit 1
short=(time_grid.steps=6 updates=1 batch=2 grid_images=4 eval.prompts=2 eval.images=2 value.kind=none)
for program in "$prefix/bin/vggflow" "$build/vggflow"; do
  rm -rf run
  "$program" align --config configs/nano.yaml "${short[@]}" run=run >align.log 2>&1 || die "$program finds no models: $(tail -1 align.log)"
done
refuse "[judge] expected a file or folder at models/none or $prefix/share/vggflow/models/none" "$prefix/bin/vggflow" align "${short[@]}" run=a judge=models/none
refuse "looked for models/none or $prefix/share/vggflow/models/none" "$prefix/bin/vggflow" sample out=a generator.model=models/none

# libvggflow_c.so finds its models from any folder, and a C program needs nothing but its header.
cat >client.c <<'C'
#include <stdio.h>
#include "vggflow/c_api.h"
int main(void) {
  const char* settings[] = {"time_grid.steps=1", "device=cpu"};
  const char* prompt = "ghost";
  const int64_t seed = 0;
  static uint8_t pixels[32 * 32 * 3];
  const vggflow_images images = {1, 32, 32, VGGFLOW_UINT8_NHWC, pixels};
  vggflow_model* model = vggflow_model_open(settings, 2);
  if (vggflow_abi() == VGGFLOW_C_ABI && model && vggflow_model_sample(model, &prompt, &seed, &images) == VGGFLOW_DONE) return 0;
  fprintf(stderr, "%s\n", vggflow_last_error());
  return 1;
}
C
library=$(find "$prefix" -name libvggflow_c.so)
cc -std=c99 -Wall -Werror -I "$prefix/include" client.c -o client "$library" -Wl,--allow-shlib-undefined "-Wl,-rpath,$(dirname "$library")" ||
  die "a C program does not build against libvggflow_c.so"
./client >client.log 2>&1 || die "a C program cannot sample: $(tail -1 client.log)"
shown=$(nm -D --defined-only "$library" | awk '{ print $3 }' | grep -v '^vggflow_')
[ -z "$shown" ] || die "libvggflow_c.so shows more than its interface: $(head -3 <<<"$shown")"

cache() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
launcher=()
# In each run the prefix has another name; ccache is told to see past it.
if [ -n "$(cache VGGFLOW_CCACHE)" ]; then
  export CCACHE_BASEDIR=$out CCACHE_NOHASHDIR=1
  launcher=("-DCMAKE_CXX_COMPILER_LAUNCHER=$(cache VGGFLOW_CCACHE)")
fi
cmake -S "$source/examples/cpp" -B "$out/examples" -G Ninja "-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_CXX_COMPILER=$(cache CMAKE_CXX_COMPILER)" \
  "${launcher[@]}" >"$out/examples.log" 2>&1 || die "find_package(vggflow) failed: $(tail -5 "$out/examples.log")"
cmake --build "$out/examples" -j2 >"$out/examples.log" 2>&1 || die "the examples do not build: $(grep -m3 error "$out/examples.log")"

"$out/examples/sample_and_score" samples.png 2 >sample.txt 2>&1 || die "sample_and_score failed: $(tail -1 sample.txt)"
[ "$(grep -c "^ghost .* = .* + 0.05 \* " sample.txt)" -eq 2 ] && [ -s samples.png ] || die "sample_and_score prints $(cat sample.txt)"
"$out/examples/align_with_own_reward" "${short[@]}" run=own >own.txt 2>&1 || die "align_with_own_reward failed: $(tail -1 own.txt)"
grep -q '"reward": "warmth"' own/summary.json && [ -s own/lora_ema.safetensors ] || die "align_with_own_reward left no run of its reward"
"$out/examples/method_on_closed_form" >closed.txt 2>&1 || die "method_on_closed_form failed: $(tail -1 closed.txt)"
awk '{ exit !($9 < 2) }' closed.txt || die "method_on_closed_form is more than 2 % from the optimum: $(cat closed.txt)"
echo "installed: the program finds its models, and the examples run: $(cat closed.txt)"

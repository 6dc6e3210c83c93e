#!/usr/bin/env bash
# The CUDA plug-in from outside, on any machine: its entry, four kinds of card, at most 6 MB; and the program, which is linked to
# nothing of CUDA. Usage: cuda_plugin.sh PLUGIN VGGFLOW CUOBJDUMP
set -u
. "$(dirname "$0")/functions.sh"
plugin=$1 vggflow=$2 cuobjdump=$3

[ "$(stat -c %s "$plugin")" -le 6000000 ] || die "the plug-in has $(stat -c %s "$plugin") bytes, more than 6 MB"
symbols=$(nm -D --defined-only "$plugin" | grep -v ' [VWu] ' | awk '{print $3}' | grep -v '^_\(init\|fini\)$')
echo "$symbols" | grep -qx vggflow_cuda_api || die "the plug-in does not offer vggflow_cuda_api: $symbols"
needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
for library in libtorch_cuda.so libc10_cuda.so libcudart.so.13; do
  needed "$plugin" | grep -qx "$library" || die "the plug-in does not name $library: $(needed "$plugin")"
done
if needed "$vggflow" | grep -i cuda; then die "the program is linked to CUDA"; fi
if [ -x "$cuobjdump" ]; then
  for card in sm_80 sm_90 sm_100 sm_120; do
    "$cuobjdump" --list-elf "$plugin" | grep -q "$card" || die "the plug-in has no code for $card"
  done
  "$cuobjdump" --list-ptx "$plugin" | grep -q "sm_120" || die "the plug-in has no PTX for later cards"
fi
echo "the plug-in holds: $(stat -c %s "$plugin") bytes"

#!/usr/bin/env bash
# Files and plug-ins that mean harm, given to the commands: each ends in one line and not in success, without a crash, and without
# memory that nothing explains. Usage: hostile.sh SOURCE_DIR VGGFLOW
set -euo pipefail
source "$1/tests/functions.sh"
cd "$1"
vggflow=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1

# refused WORDS COMMAND...: the command ends with status 1, one line that holds the words, and less than 1.5 GB at its peak.
refused() {
  local words=$1
  shift
  local status=0
  python3 -c '
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
if resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 1500000:
    sys.exit(77)
sys.exit(code)' "$vggflow" "$@" >"$out/log" 2>&1 || status=$?
  [ "$status" -eq 1 ] || die "$*: expected status 1, got $status (77: too much memory): $(tail -3 "$out/log")"
  [ "$(grep -c '^vggflow: ' "$out/log")" = 1 ] || die "$*: expected one line, got: $(tail -5 "$out/log")"
  grep -q "$words" "$out/log" || die "$*: expected '$words', got: $(tail -3 "$out/log")"
  ! grep -q $'\x1b' "$out/log" || die "$*: control characters reach the terminal"
}

python3 - "$out" <<'PY'
import json, pathlib, struct, sys
out = pathlib.Path(sys.argv[1])
deep = "[" * 100000 + "]" * 100000
(out / "deep.json").write_text(deep)
(out / "deep.jsonl").write_text(deep + "\n")


def safetensors(name, metadata):
    header = json.dumps({"__metadata__": metadata, "a\x1b]0;title\x07": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
                        ensure_ascii=False).encode()
    (out / name).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


safetensors("deep.safetensors", {"lora_adapter_metadata": deep})
safetensors("escape.safetensors", {"format": "\x1b[2J"})
(out / "model").mkdir()
(out / "model/model_index.json").write_text(deep)
(out / "run").mkdir()
(out / "run/metrics.jsonl").write_text(json.dumps({"kind": "eval", "update": 0, "metrics": {}}) + "\n" + deep + "\n")
(out / "run/summary.json").write_text(deep)
PY

refused 'nested' align model=tests/data/sd3_tiny "prompts.train=$out/deep.jsonl" "run=$out/never" reward=colorfulness
refused 'nested' score "$out/deep.json" --reward colorfulness "out=$out/scores"
refused 'nested' sample "generator.model=$out/model" "out=$out/images"
refused 'nested' export "$out/deep.safetensors" "out=$out/lora.safetensors"
refused 'hold next to nothing' score fuzz/corpus/image/bad_empty.png --reward colorfulness "out=$out/scores"
refused 'cannot hold' score fuzz/corpus/image/bad_progressive.jpg --reward colorfulness "out=$out/scores"
refused 'damaged' report "$out/run" "$out/run"
"$vggflow" inspect "$out/escape.safetensors" >"$out/log"
! grep -q $'\x1b' "$out/log" || die "inspect sends a tensor's name to the terminal as it is"
grep -qF '\x1b]0;title\x07' "$out/log" || die "inspect does not show the control characters of a name"

cat >"$out/compare.yaml" <<'Y'
out: runs/hostile
base: configs/nano.yaml
seeds: [0]
arms:
  - "red\e[31m\e]0;title\a": [value.kind=none]
Y
"$vggflow" compare --config "$out/compare.yaml" --dry-run >"$out/log" || die "compare --dry-run failed"
! grep -q $'\x1b' "$out/log" || die "compare sends an arm's name to the terminal as it is"

cat >"$out/ends.c" <<'C'
#include <stdlib.h>
#include "vggflow/reward_plugin.h"
uint32_t vggflow_reward_abi(void) { return VGGFLOW_REWARD_ABI; }
void* vggflow_reward_create(const vggflow_reward_option* o, size_t n, char* e, size_t s) { return malloc(1); }
void vggflow_reward_destroy(void* r) { free(r); }
uint32_t vggflow_reward_flags(const void* r) { return 0; }
int vggflow_reward_score(void* r, const vggflow_reward_batch* b, float* scores, char* e, size_t s) { exit(0); }
C
"${CC:-cc}" -std=c99 -shared -fPIC -I include "$out/ends.c" -o "$out/ends.so"
refused 'ends.so ended the program in the score' score fuzz/corpus/image/good_rgb.png --reward "plugin:$out/ends.so" "out=$out/scores"
echo "hostile: all ended in one line"

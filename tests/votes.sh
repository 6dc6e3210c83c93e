#!/usr/bin/env bash
# Votes from the page to a reward: a simulated voter, who likes red, votes blind on pairs of the nano model; a head learned from the
# votes names the winners of votes that it has not seen, and a run trains on it. Usage: votes.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
export OMP_NUM_THREADS=1
out=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$out"' EXIT

# An untrained LoRA is the base: a and b differ in nothing but the noise of the seeds, so the voter decides between images of any kind.
"$vggflow" align "run=$out/lora" time_grid.steps=6 updates=1 batch=2 grid_images=4 eval.prompts=2 eval.images=2 value.kind=none policy_optimizer.lr=0.2 \
  warmup=0 ema_decay=0 lora_rank=2 >"$out/log" 2>&1 || die "no LoRA: $(tail -2 "$out/log")"
vote=("$vggflow" vote "$out/lora/lora.safetensors" "out=$out/votes" images=30 generator.time_grid.steps=6 port=0
  "prompts=[red heart, ghost, green apple, blue circle]")
begin() {
  : >"$out/url"
  "${vote[@]}" "$@" >"$out/url" 2>"$out/vote.log" &
  server=$!
  for i in $(seq 1500); do grep -q http "$out/url" && return; sleep 0.1; done
  die "no page: $(tail -3 "$out/vote.log")"
}
url() { grep -o 'http[^ ]*' "$out/url"; }
finish() { kill -INT "$server"; wait "$server" || die "vote ended with $?"; server=; }

if command -v chromium >/dev/null; then
  begin "out=$out/by_hand" images=1
  python3 tests/votes_in_browser.py "$out" "$(url)" || die "the votes in Chromium: $(tail -1 "$out/chromium.log")"
  finish
else
  echo "left out: the votes in Chromium (scripts/setup.sh --test installs it)"
fi

begin
python3 - "$(url)" <<'PY' || die "the voter cannot vote: $(cat "$out/vote.log")"
import json, struct, sys, urllib.request, zlib

url = sys.argv[1]

def ask(name, body=None):
    request = urllib.request.Request(url + name, json.dumps(body).encode() if body is not None else None, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=10).read()

def redness(png):
    """Mean of red less the others of an 8-bit RGB PNG."""
    place, data = 8, b""
    while place < len(png):
        size, kind = struct.unpack(">I4s", png[place:place + 8])
        if kind == b"IHDR":
            width, height = struct.unpack(">II", png[place + 8:place + 16])
        if kind == b"IDAT":
            data += png[place + 8:place + 8 + size]
        place += 12 + size
    raw, before, total = zlib.decompress(data), bytearray(3 * width), 0
    for y in range(height):
        kind, line = raw[y * (3 * width + 1)], bytearray(raw[y * (3 * width + 1) + 1:(y + 1) * (3 * width + 1)])
        for i in range(3 * width):
            left, up, corner = line[i - 3] if i > 2 else 0, before[i], before[i - 3] if i > 2 else 0
            if kind == 4:
                p = left + up - corner
                near = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
            else:
                near = [0, left, up, (left + up) // 2][kind]
            line[i] = (line[i] + near) & 255
        total += sum(line[0::3]) - (sum(line[1::3]) + sum(line[2::3])) / 2
        before = line
    return total / (width * height)

state = json.loads(ask("next"))
assert state["of"] == 120 and state["result"]["votes"] == 0, state
while state["pair"] >= 0:
    left, right = (redness(ask(f"image?pair={state['pair']}&side={side}")) for side in ("left", "right"))
    state = json.loads(ask("vote", {"pair": state["pair"], "choice": "left" if left > right else "right" if right > left else "tie"}))
assert state["result"]["votes"] == 120 and state["result"]["low"] <= state["result"]["rate"] <= state["result"]["high"], state
PY
refuse "403" curl -sSf "http://127.0.0.1:$(url | sed 's/.*:\([0-9]*\).*/\1/')/next"
finish
grep -q "of 120 votes (95 %: " "$out/url" || die "no win rate: $(cat "$out/url")"
[ "$(wc -l <"$out/votes/votes.jsonl")" = 120 ] || die "expected 120 lines of votes.jsonl"
for winner in a b; do grep -q "\"winner\":\"$winner\"" "$out/votes/votes.jsonl" || die "$winner never won"; done
for left in true false; do grep -q "\"a_left\":$left" "$out/votes/votes.jsonl" || die "the sides are not shuffled"; done

# Broken off in the middle of a line, the votes go on; other settings are another vote.
printf '{"pair":1,"pro' >>"$out/votes/votes.jsonl"
begin
curl -s "$(url)next" | grep -q '"votes":120' || die "the votes before are lost"
finish
[ "$(wc -l <"$out/votes/votes.jsonl")" = 120 ] || die "the half line is still there"
refuse "generator.guidance differs" "${vote[@]}" generator.guidance=5

"$vggflow" pretrain target=vote-head "run=$out/head" "vote_data.folders=[$out/votes]" vote_data.held_out=0.3 fit.updates=600 fit.batch=64 fit.warmup=20 \
  fit.optimizer.lr=0.02 fit.preview_every=600 >"$out/log" 2>&1 || die "no head: $(tail -3 "$out/log")"
right=$(grep -o '[0-9.]* % of the votes held out' "$out/log" | tail -1 | cut -d. -f1)
[ "${right:-0}" -ge 75 ] || die "the head names ${right:-no} % of the winners held out, expected at least 75: $(tail -3 "$out/log")"
"$vggflow" align "run=$out/run" reward=vote-head "reward_weights=[vote-head=$out/head/model]" time_grid.steps=6 updates=2 batch=2 eval.prompts=2 \
  grid_images=4 eval.images=2 value.kind=none >"$out/log" 2>&1 || die "no run on the votes: $(tail -3 "$out/log")"
grep -q '"reward":"vote-head"' <(tr -d ' \n' <"$out/run/summary.json") || die "the run was on another reward"
echo "votes: 120 blind votes, a head that names $right % of the winners held out, a run on it"

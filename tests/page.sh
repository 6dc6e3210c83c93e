#!/usr/bin/env bash
# The live page from outside: events of a run that trains, is killed and goes on beneath it, 50 viewers at once, requests that mean
# harm, and the page in headless Chromium (left out where there is none). Usage: page.sh SOURCE_DIR VGGFLOW
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
vggflow=$2
export OMP_NUM_THREADS=1
out=$(mktemp -d)
children=()
end() { for child in "${children[@]}"; do kill -9 "$child"; done; wait; rm -rf "$out"; }
trap 'end 2>/dev/null' EXIT

printf 'a photo of a cat\nit is 42 dogs\n' >"$out/train.txt"
printf 'a dog\nna\n' >"$out/eval.txt"
run=$out/run
settings=(model=tests/data/sd3_tiny precision=fp32 sd3.t5_tokens=20 sd3.height=16 sd3.width=16 "prompts.train=$out/train.txt"
  "prompts.eval=$out/eval.txt" reward=colorfulness value.kind=none updates=100000 batch=2 time_grid.steps=2 vgg.bins=1 eval_every=4
  checkpoint_every=2 grid_images=4 eval.prompts=2 eval.images=2 lora_rank=2 threads=1 "run=$run")
train() { "$vggflow" align "${settings[@]}" "$@" >"$out/align.log" 2>&1 & trainer=$!; children+=("$trainer"); }

# A folder from elsewhere, full of what a page must not believe.
evil=$out/evil bad='<img src=x onerror=document.body.remove()>'
mkdir -p "$evil/grids"
printf '{"kind":"eval","update":0,"prompt_kind":"%s","metrics":{"reward":{"mean":1,"se":0.1},"reward_sd_within_prompt":1,"panel":{"%s":{"mean":1,"se":1}}}}\n' "$bad" "$bad" >"$evil/metrics.jsonl"
printf '{"kind":"update","update":1,"loss":{"%s":1},"reward":{"mean":1,"sd":1}}\n{"kind":"warning","update":1,"name":"x","text":"%s"}\n' "$bad" "$bad" >>"$evil/metrics.jsonl"
printf 'method: "%s"\n' "$bad" >"$evil/config.yaml"
printf '%s\n' "$bad" >"$evil/log.txt"
ln -s /etc/passwd "$evil/grids/eval_000000.png"

train
for i in $(seq 100); do [ -s "$run/metrics.jsonl" ] && break; sleep 0.1; done
"$vggflow" watch "$run" "$evil" port=0 >"$out/url" 2>"$out/watch.log" &
watcher=$!
children+=("$watcher")
for i in $(seq 100); do [ -s "$out/url" ] && break; sleep 0.1; done
url=$(cat "$out/url") port=$(sed 's/.*:\([0-9]*\).*/\1/' "$out/url")
[[ $url == http://127.0.0.1:*/ ]] || die "expected an address, got '$url': $(cat "$out/watch.log")"
refuse "which is no folder" "$vggflow" watch "$out/none" port=0
refuse "cannot listen on 127.0.0.1 port $port" "$vggflow" watch "$run" "port=$port"

# status PATH...: of requests, as they are written.
status() { curl -s -o "$out/reply" -w '%{http_code}' --max-time 5 --path-as-is "$@"; }
expect() { local wanted=$1 got; shift; got=$(status "$@"); [ "$got" = "$wanted" ] || die "expected $wanted of '$*', got $got: $(head -c 200 "$out/reply")"; }
expect 200 "$url"
expect 200 "${url}page.js"
expect 200 "${url}runs.json"
expect 200 "${url}grid?run=0&update=0"
[ "$(head -c 4 "$out/reply" | tail -c 3)" = PNG ] || die "the grid is no PNG"
for path in ../etc/passwd %2e%2e/%2e%2e/etc/passwd run/metrics.jsonl "grid?run=1&update=0" "grid?run=../0&update=0" "grid?run=0&update=1"; do expect 404 "$url$path"; done
expect 421 -H "Host: evil.example" "$url"
expect 405 -X POST -H "Origin: http://evil.example" -H "Content-Type: application/json" -d '{}' "${url}stop"
expect 431 -H "X: $(printf 'x%.0s' $(seq 17000))" "$url"

# 50 viewers at once see the run go on; with more than 64 connections the next is refused, and the run is as it was.
for i in $(seq 50); do curl -sN --max-time 4 "${url}events" >"$out/viewer$i" & done
sleep 1.5
expect 200 "$url"
python3 - "$port" <<'PY' || die "64 connections are not the most"
import socket, sys
many = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) for _ in range(40)]
last = many[-1]
last.settimeout(5)
sys.exit(b"503" not in last.recv(100))
PY
wait $(jobs -p | grep -vxF -e "$trainer" -e "$watcher")
for i in $(seq 50); do
  [ "$(grep -c '"anew":false' "$out/viewer$i")" -ge 3 ] || die "viewer $i saw nothing new: $(head -c 300 "$out/viewer$i")"
done

# Killed and resumed beneath an open page: it begins again where the checkpoint was.
curl -sN --max-time 60 "${url}events" >"$out/follows" &
children+=("$!")
resume=("$vggflow" align "${settings[@]}" resume=true)
said=
if command -v chromium >/dev/null; then
  python3 tests/page_in_browser.py "$out" "$url" "$trainer" "${resume[@]}" || die "the page in Chromium: $(tail -1 "$out/chromium.log"; tail -2 "$out/align.log")"
  children+=("$(cat "$out/resumed.pid")")
  said=", in Chromium too"
else
  kill -9 "$trainer"
  for i in $(seq 100); do tail -c 3000 "$out/follows" | grep -q '"state":"stopped"' && break; sleep 0.1; done
  train resume=true
  for i in $(seq 100); do tail -c 3000 "$out/follows" | grep -q '"state":"running"' && break; sleep 0.1; done
  echo "left out: the page in Chromium (scripts/setup.sh --test installs it)"
fi
grep -q '"state":"stopped"' "$out/follows" || die "the page does not see that the run was killed"
[ "$(grep -c '"anew":true' "$out/follows")" -gt 2 ] || die "the page does not begin again with the resumed run: $(tail -2 "$out/align.log")"
kill -0 "$watcher" 2>/dev/null || die "the page's server ended"
kill -INT "$watcher"
wait "$watcher" || die "the server ended with $?"
# A run's own page: its buttons need the token that is in the address, and what they ask for is done between two updates.
kill -9 "${children[@]}" 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
run=$out/own settings+=("run=$out/own")
train "page=$port"
for i in $(seq 150); do grep -q '"kind":"update"' "$run/metrics.jsonl" 2>/dev/null && break; sleep 0.1; done
url=$(grep -o 'http://127[^ ]*' "$out/align.log")
[[ $url =~ ^http://127.0.0.1:$port/[0-9a-f]{32}/$ ]] || die "expected an address with a token: $(tail -2 "$out/align.log")"
grep -q "${url##*:}" "$run/log.txt" && die "the token is in the run's log"
json=(-H "Content-Type: application/json")
expect 403 "http://127.0.0.1:$port/"
expect 403 "${json[@]}" -d '{}' "http://127.0.0.1:$port/stop"
expect 403 "${json[@]}" -d '{}' -H "Origin: http://evil.example" "${url}stop"
expect 415 -d '{}' "${url}stop"
expect 400 "${json[@]}" -d '{"prompt":7}' "${url}sample"
expect 404 "${json[@]}" -d '{}' "${url}erase"
expect 202 "${json[@]}" -d '{"prompt":"a dog","seed":3}' "${url}sample"
for i in $(seq 100); do [ "$(status "${url}sample?number=1&image=aligned")" = 200 ] && break; sleep 0.1; done
expect 200 "${url}sample?number=1&image=base"
if [ -n "$said" ]; then
  python3 tests/page_in_browser.py "$out" "$url" buttons || die "the buttons in Chromium: $(tail -2 "$out/align.log")"
else
  expect 202 "${json[@]}" -d '{}' "${url}save"
  expect 202 "${json[@]}" -d '{}' "${url}stop"
fi
wait "$trainer"
[ $? = 130 ] || die "the run did not stop as after Ctrl-C: $(tail -2 "$out/align.log")"
grep -q "asked to stop after this update" "$run/log.txt" && grep -q "the state is saved" "$run/log.txt" || die "the run does not say why it stopped"
echo "page: events, 50 viewers, refusals, a killed and resumed run, buttons$said"

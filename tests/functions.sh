# What the tests from outside share; they source this before they change the folder.

die() { echo "$(basename "$0" .sh): $*" >&2; exit 1; }

# refuse MESSAGE COMMAND...: the command fails and says so. Sets `refused` to its exit status.
refuse() {
  local message=$1 said
  shift
  refused=0
  said=$("$@" 2>&1) || refused=$?
  [ "$refused" != 0 ] || die "expected a failure of: $*"
  grep -qF -- "$message" <<<"$said" || die "expected '$message' from '$*', got: $said"
}

# find_torch BUILD: sets torch to the PyTorch package that a build runs with; a test that packs for it is left out where there is none,
# or no patchelf.
find_torch() {
  command -v patchelf >/dev/null || { echo "left out: patchelf is missing (scripts/setup.sh installs it)"; exit 77; }
  torch=$(dirname "$(dirname "$(ldd "$1/vggflow" | awk '/libtorch_cpu/ { print $3 }')")")
  [ -f "$torch/version.py" ] || { echo "left out: LibTorch at $torch is no PyTorch package"; exit 77; }
}

# number KEY FILE: the first number of that name in a JSON file.
number() { grep -o "\"$1\": *[0-9.e+]*" "$2" | head -1 | sed 's/.*: *//'; }

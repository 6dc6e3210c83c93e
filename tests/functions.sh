# What the tests from outside share; they source this before they change the folder.

die() { echo "$(basename "$0" .sh): $*" >&2; exit 1; }

# refuse MESSAGE COMMAND...: the command fails and says so.
refuse() {
  local message=$1 said
  shift
  said=$("$@" 2>&1) && die "expected a failure of: $*"
  grep -qF -- "$message" <<<"$said" || die "expected '$message' from '$*', got: $said"
}

# number KEY FILE: the first number of that name in a JSON file.
number() { grep -o "\"$1\": *[0-9.e+]*" "$2" | head -1 | sed 's/.*: *//'; }

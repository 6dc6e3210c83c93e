#!/usr/bin/env bash
# The pages of docs/ as a site: MkDocs Material builds them without a warning, and no page loads anything from a network.
# Usage: site.sh SOURCE_DIR
set -u
. "$(dirname "$0")/functions.sh"
cd "$1" || exit 1
mkdocs=.venv-test/bin/mkdocs
[ -x "$mkdocs" ] || { echo "left out: $mkdocs is missing (scripts/setup.sh --test installs it)"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
NO_MKDOCS_2_WARNING=1 "$mkdocs" build --strict --quiet --site-dir "$out/site" >"$out/log.txt" 2>&1 || die "mkdocs build --strict: $(grep -v '^INFO' "$out/log.txt" | head -5)"
[ -s "$out/site/tutorial/first-alignment.html" ] || die "the tutorial is not in the site"
loaded=$(grep -rhoE '<(script|img|link)[^>]* (src|href)="?https?://[^" >]+' "$out/site" --include=*.html | grep -v 'rel="canonical"' | sort -u | head -3)
[ -z "$loaded" ] || die "pages load from a network: $loaded"
echo "site: $(find "$out/site" -name '*.html' | wc -l) pages"

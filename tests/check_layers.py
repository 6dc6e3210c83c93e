#!/usr/bin/env python3
"""Checks the tree against docs/architecture.md: includes and CMake link lists follow the table, headers are guarded, layers
that work with any flow model name no family, foreign JSON is parsed in one place, no tracked file names a path of one machine or is larger than 12.5 MB.
Usage: check_layers.py SOURCE_DIR"""
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
problems = []


def table():
    """Layer -> layers it may know, from the Markdown table."""
    rows = re.findall(r"^\| ([\w/]+) \| ([^|]+) \| [^|]+\|$", (root / "docs/architecture.md").read_text(), re.M)
    layers = {name: set() if may.strip() == "-" else set(may.split()) for name, may in rows if name != "layer"}
    layers["cli"] = set(layers) - {"cli", "testing"}
    return layers


def layer_of(path):
    """The deepest layer whose folder holds `path`, relative to src/vggflow."""
    parents = [str(p) for p in pathlib.PurePath(path).parents]
    return next((p for p in parents if p in layers), parents[-2] if len(parents) > 1 else "")


def cmake_list(text, key):
    found = re.search(rf"\b{key} ([^)A-Z]*)", text)
    return set(found.group(1).split()) if found else set()


def check_layer(name, may):
    folder = root / "src/vggflow" / name
    cmake = (folder / "CMakeLists.txt").read_text()
    extra = cmake_list(cmake, "LAYERS") - may
    if extra:
        problems.append(f"{name}/CMakeLists.txt links {sorted(extra)}, which the table does not allow")
    for file in sorted(folder.rglob("*.[ch]*")):
        if layer_of(file.relative_to(root / "src/vggflow")) != name:
            continue
        text = file.read_text()
        if file.suffix == ".h" and "#pragma once" not in text:
            problems.append(f"{file.relative_to(root)} has no #pragma once")
        allowed = may | {name}
        if file.stem.endswith(("_test", "_fixture")):
            allowed = allowed | {"testing"} | cmake_list(cmake, "TEST_LAYERS")
        for path in re.findall(r'#include "vggflow/(\w[^"]*/[^"]+)"', text):
            layer = layer_of(path)
            if layer not in allowed:
                problems.append(f"{file.relative_to(root)} includes {layer}, which {name} may not know")


# Layers work with any flow model and name no family and no network of one: what they need goes through FlowModel,
# FlowNetwork and families/. Comments, help texts and tests may name them.
FAMILY_WORDS = re.compile(r"Mmdit\w*|mmdit_\w+|[Ss]d3\w*|Nano\w*")
# Pre-training of nano and the self-check of an MMDiT are about a family.
ABOUT_A_FAMILY = {"families", "families/sd3", "families/nano", "pretrain", "proofs"}


def check_family_words(name):
    folder = root / "src/vggflow" / name
    for file in sorted(folder.glob("*.[ch]*")):
        if file.stem.endswith("_test"):
            continue
        code = re.sub(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"', "", file.read_text())
        for word in sorted(set(FAMILY_WORDS.findall(code))):
            problems.append(f"{file.relative_to(root)} says {word}: ask FlowModel, FlowNetwork or families/")


def check_json():
    """Foreign JSON is bounded in depth: core/json.h parses it, and the reader of safetensors with a bound of its own."""
    for file in sorted((root / "src/vggflow").rglob("*.[ch]*")):
        name = str(file.relative_to(root / "src/vggflow"))
        if name in ("core/json.h", "io/safetensors.cpp") or file.stem.endswith("_test"):
            continue
        if re.search(r"\b(?:[Jj]son|J)::(?:parse|accept)\(", file.read_text()):
            problems.append(f"{name} parses JSON by itself: call parse_json or try_parse_json of core/json.h")


def check_tracked_files():
    # Spelled in parts, so that this file does not hold what it looks for.
    paths = re.compile("/" + "(work|root|home)" + "/[a-z]")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        file = root / name
        if not file.is_file():
            continue
        if file.stat().st_size > 12.5e6:
            problems.append(f"{name} has {file.stat().st_size} bytes")
        data = file.read_bytes()
        if b"\0" not in data[:4096] and paths.search(data.decode(errors="replace")):
            problems.append(f"{name} names a path of one machine")


layers = table()
folders = {str(p.parent.relative_to(root / "src/vggflow")) for p in (root / "src/vggflow").rglob("CMakeLists.txt")}
if folders != set(layers):
    problems.append(f"folders {sorted(folders ^ set(layers))} are not both in src/vggflow and in the table")
for layer in sorted(folders & set(layers)):
    check_layer(layer, layers[layer])
for layer in sorted(set(layers) - ABOUT_A_FAMILY):
    check_family_words(layer)
check_json()
check_tracked_files()
print("\n".join(problems) or f"{len(layers)} layers follow the table")
sys.exit(bool(problems))

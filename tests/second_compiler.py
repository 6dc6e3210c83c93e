#!/usr/bin/env python3
"""Parses the sources of the layers up to algorithms, and those that the fuzz preset builds, with clang++ and without the
project's precompiled header: what it refuses is a file that does not include what it uses, or C++ that gcc alone takes.
To save time a file that includes LibTorch's Tensor.h or ATen.h, itself or by its headers, has this one header precompiled.
Whole builds of this kind are the presets cpu-nopch and cpu-clang. Exit code 77 where there is no clang++.
Usage: second_compiler.py SOURCE_DIR BUILD_DIR [LAYER...]     (all: every layer)"""
import collections
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

LAYERS = ["core", "device", "kernels", "ops", "nn", "flow", "algorithms", "io", "text", "weights", "networks", "families", "data"]
# Each includes the one before it.
PRECOMPILED = ["ATen/core/Tensor.h", "ATen/ATen.h"]
DROP_ALONE = {"-c", "-MD", "-Winvalid-pch", "-fpch-preprocess"}
DROP_WITH_VALUE = {"-o", "-MT", "-MF"}

source, build = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
layers = sys.argv[3:] or LAYERS
clang = shutil.which("clang++")
if clang is None:
    print("skipped: there is no clang++ (apt-get install clang)")
    sys.exit(77)


def arguments(command):
    """The compiler's arguments without output, dependencies and precompiled header."""
    words = iter(shlex.split(command))
    for word in words:
        if os.path.basename(word) in ("c++", "g++", "clang++"):
            break
    kept = []
    for word in words:
        if word in DROP_WITH_VALUE:
            next(words)
        elif word == "-include":
            header = next(words)
            if "cmake_pch" not in header:
                kept += [word, header]
        elif word not in DROP_ALONE:
            kept.append(word)
    return kept


@functools.cache
def included(file):
    """What a file includes with our headers' own includes, by name."""
    names = set(re.findall(r'^#include ["<]([^">]+)[">]', file.read_text(), re.MULTILINE))
    own = [source / "src" / name for name in names if name.startswith("vggflow/")]
    return names.union(*(included(header) for header in own if header.exists()))


def precompile(words, cwd):
    """Arguments for each of PRECOMPILED, under a file's own arguments."""
    made = {}
    for name in PRECOMPILED:
        out = pathlib.Path(folder.name) / f"{len(headers)}_{len(made)}.pch"
        code = f"#include <{name}>\n"
        done = subprocess.run([clang, *words, "-x", "c++-header", "-", "-o", out], cwd=cwd, input=code, capture_output=True, text=True)
        made[name] = ["-include-pch", str(out)] if done.returncode == 0 else []
    return made


def parse(entry):
    words = arguments(entry["command"])
    file = words.pop()
    largest = [name for name in PRECOMPILED if name in included(pathlib.Path(entry["file"]))][-1:]
    header = headers.get(tuple(words), {}).get(largest[0], []) if largest else []
    done = subprocess.run([clang, *words, *header, "-fsyntax-only", "-Werror=switch", "-Werror=unused-private-field", file],
                          cwd=entry["directory"], capture_output=True, text=True)
    return entry["file"], done.returncode, done.stderr


entries = []
for entry in json.loads((build / "compile_commands.json").read_text()):
    file = pathlib.Path(entry["file"])
    if file.suffix != ".cpp" or not file.is_relative_to(source / "src/vggflow") or file.stem.endswith("_test"):
        continue
    if layers == ["all"] or file.relative_to(source / "src/vggflow").parts[0] in layers:
        entries.append(entry)
# One entry per file: a file that two targets compile is parsed once.
entries = list({entry["file"]: entry for entry in entries}.values())
if not entries:
    sys.exit(f"no source of {' '.join(layers)} in {build}/compile_commands.json")
folder = tempfile.TemporaryDirectory()
headers = {}  # by the arguments that they were made under, where enough files share them
for words, count in collections.Counter(tuple(arguments(entry["command"])[:-1]) for entry in entries).items():
    if count > 5:
        headers[words] = precompile(words, entries[0]["directory"])
failed = 0
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for file, code, text in pool.map(parse, entries):
        if code:
            failed += 1
            print(f"{os.path.relpath(file, source)} does not parse:\n{text[:2000]}")
print(f"clang++ takes {len(entries) - failed} of {len(entries)} files")
sys.exit(bool(failed))

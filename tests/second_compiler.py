#!/usr/bin/env python3
"""Parses the sources of the layers between core and algorithms with clang++ and without the precompiled header: what it
refuses is a file that does not include what it uses, or C++ that gcc alone takes. Whole builds of this kind are the
presets cpu-nopch and cpu-clang. Exit code 77 where there is no clang++.
Usage: second_compiler.py SOURCE_DIR BUILD_DIR [LAYER...]"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

LAYERS = ["core", "device", "kernels", "ops", "nn", "flow", "algorithms"]
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


def parse(entry):
    done = subprocess.run([clang, *arguments(entry["command"]), "-fsyntax-only", "-Werror=switch", "-Werror=unused-private-field"],
                          cwd=entry["directory"], capture_output=True, text=True)
    return entry["file"], done.returncode, done.stderr


entries = []
for entry in json.loads((build / "compile_commands.json").read_text()):
    file = pathlib.Path(entry["file"])
    if file.suffix != ".cpp" or not file.is_relative_to(source / "src/vggflow") or file.stem.endswith("_test"):
        continue
    if file.relative_to(source / "src/vggflow").parts[0] in layers:
        entries.append(entry)
# One entry per file: a file that two targets compile is parsed once.
entries = list({entry["file"]: entry for entry in entries}.values())
if not entries:
    sys.exit(f"no source of {' '.join(layers)} in {build}/compile_commands.json")
failed = 0
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for file, code, text in pool.map(parse, entries):
        if code:
            failed += 1
            print(f"{os.path.relpath(file, source)} does not parse:\n{text[:2000]}")
print(f"clang++ takes {len(entries) - failed} of {len(entries)} files")
sys.exit(bool(failed))

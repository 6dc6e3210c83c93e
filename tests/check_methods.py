#!/usr/bin/env python3
"""Checks that a method is a pair of files and one row of the registry: its name, its section of settings and its types stand
nowhere else in the code of src/ (comments may speak of it). Proofs may use the types (what is proved of a method is proved there), tests may use all.
Usage: check_methods.py SOURCE_DIR"""
import pathlib
import re
import sys

src = pathlib.Path(sys.argv[1]) / "src/vggflow"
registry = src / "algorithms/registry.cpp"
rows = re.findall(r'row\("([\w-]+)", "(\w+)", (?:make<(\w+), (\w+)>|(\w+))\)', registry.read_text())
problems = [] if len(rows) >= 6 else [f"{registry} has {len(rows)} rows that can be read; expected one per method"]


def is_test(path):
    return re.search(r"_(test|fixture)\.(cpp|h)$", path.name) is not None


files = {path: re.sub(r"//.*", "", path.read_text()) for path in sorted(src.rglob("*.[ch]*")) if path.suffix != ".txt" and not is_test(path)}


def home(declared):
    """The stem of the header that declares a class or a factory."""
    found = [p for p, text in files.items() if p.suffix == ".h" and re.search(rf"class {declared} |\b{declared}\(const", text)]
    return found[0].stem if len(found) == 1 else problems.append(f"{declared} is declared by {len(found)} headers; expected one")


for name, section, class_name, options, factory in rows:
    own = home(class_name or factory)
    types = [t for t in (class_name, options, factory) if t]
    words = re.compile(rf'"(?:{name}|{section})"|"{section}\.')
    for path, text in files.items():
        if path == registry or path.stem == own:
            continue
        where = path.relative_to(src)
        problems += [f"{where} names the method {name}: {match}" for match in words.findall(text)]
        if where.parts[0] != "proofs":
            problems += [f"{where} uses {t} of the method {name}" for t in types if re.search(rf"\b{t}\b", text)]
print("\n".join(problems) or f"{len(rows)} methods are known to their own files and the registry alone")
sys.exit(bool(problems))

"""The program vggflow as a Python package: `vggflow ...` on the command line, vggflow.run(...) from Python."""

import importlib.util
import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).parent / "_program" / "vggflow"


def _require_torch():
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("vggflow needs PyTorch: pip install 'torch==2.11.*'")
    # The program looks for PyTorch's libraries beside its own package.
    if not (PROGRAM.parents[2] / "torch" / "lib" / "libtorch_cpu.so").exists():
        raise RuntimeError(f"vggflow needs PyTorch in the same site-packages, found {found.submodule_search_locations[0]}")


def run(*words, **options):
    """Runs a command, as run("sample", "prompts=[red heart]"); options are those of subprocess.run."""
    _require_torch()
    return subprocess.run([str(PROGRAM), *map(str, words)], **options)


def main():
    """The console script: becomes the program."""
    try:
        _require_torch()
    except RuntimeError as error:
        sys.exit(f"vggflow: {error}")
    os.execv(PROGRAM, ["vggflow", *sys.argv[1:]])

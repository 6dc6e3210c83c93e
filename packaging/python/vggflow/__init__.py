"""vggflow: flow-matching image models aligned with rewards.

The program is `vggflow ...` on the command line, and run(...) from Python. The library works on NumPy
arrays: Model samples images, Reward scores them, align() trains a LoRA with a callback per update.
"""

import importlib
import importlib.util
import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).parent / "_program" / "vggflow"

# Of the library: loaded when one of them is asked for, so that the program needs no NumPy.
_ARRAYS = ("Error", "Model", "Reward", "Run", "Update", "align", "show_log", "version")

__all__ = ["PROGRAM", "main", "run", *_ARRAYS]


def __getattr__(name):
    if name not in _ARRAYS:
        raise AttributeError(f"module 'vggflow' has no attribute '{name}'")
    if importlib.util.find_spec("numpy") is None:
        raise ImportError(f"vggflow.{name} needs NumPy: pip install numpy")
    return getattr(importlib.import_module("vggflow._library"), name)


def __dir__():
    return sorted([*globals(), *_ARRAYS])


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

#!/usr/bin/env python3
"""Runs the code blocks of docs/tutorial/ that stand below a line `<!-- run -->`, in their order, one shell per page, in a folder with the
checkout's configs, models, examples and headers. Alignments are shortened by settings that are appended to them.
Usage: run_docs.py SOURCE_DIR PROGRAM"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from check_docs import blocks

SHORT = "time_grid.steps=6 updates=1 batch=2 eval.prompts=2 eval.images=2 checkpoint_every=1"


def script_of(page):
    """The marked blocks; an alignment becomes a short one."""
    lines, marked = [], False
    for kind, _, block in blocks(page.read_text()):
        if kind == "code" and marked:
            lines.append("\n".join(block[1:-1]).replace("\\\n", " "))
        marked = kind == "text" and block[0].strip() == "<!-- run -->"
    return re.sub(r"^(vggflow align .*)$", rf"\1 {SHORT}", "\n".join(lines), flags=re.M)


def main():
    root, program = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    count = 0
    for page in sorted((root / "docs/tutorial").glob("*.md")):
        script = script_of(page)
        if not script:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for name in ("configs", "models", "examples", "include"):
                os.symlink(root / name, pathlib.Path(folder, name))
            environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
            done = subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{page.relative_to(root)} does not run: {done.stderr[-1500:]}\n{script}")
        count += script.count("vggflow ")
    if not count:
        sys.exit("docs/tutorial holds no block below <!-- run -->")
    print(f"the tutorial's {count} marked commands run")


if __name__ == "__main__":
    main()

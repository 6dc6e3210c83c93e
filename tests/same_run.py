#!/usr/bin/env python3
"""Holds a run that was broken off and went on against one that was not: the same LoRAs byte for byte, the same lines of
metrics.jsonl and the same summary, but for clocks, memory and the names of folders; its report is there, and nothing half
written is left. Usage: same_run.py WHOLE RUN"""
import json
import pathlib
import sys

CLOCKS = {"date", "next", "seconds", "images_per_second", "rss_gib", "peak_gib", "device_peak_gib"}
whole, run = (pathlib.Path(p) for p in sys.argv[1:3])
problems = []


def plain(value):
    return {k: v for k, v in value.items() if k not in CLOCKS}


def lines(folder):
    return [plain(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(file):
    data = file.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little"):]  # headers name the run's folder


if lines(whole) != lines(run):
    problems.append("metrics.jsonl")
for name in sorted(p.name for p in whole.glob("*.safetensors")):
    if not (run / name).is_file() or tensors(whole / name) != tensors(run / name):
        problems.append(name)
if plain(json.loads((whole / "summary.json").read_text())) != plain(json.loads((run / "summary.json").read_text())):
    problems.append("summary.json")
if not (run / "report.html").is_file():
    problems.append("no report.html")
problems += [f"{p} is left" for p in run.rglob(".tmp-*")]
print("\n".join(f"{run}: {p}" for p in problems), end="\n" if problems else "")
sys.exit(bool(problems))

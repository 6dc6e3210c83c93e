#!/usr/bin/env python3
"""Makes gpu.json and gpu.md of what bench/gpu.sh has gathered so far. Usage: gpu_report.py FOLDER"""
import json
import sys
from pathlib import Path

PROGRAMS = ("vggflow", "torch eager", "torch.compile")


def read_lines(path):
    """The JSON lines of a log; one that a killed program left half-written is passed over."""
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        if text.startswith("{"):
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                pass
    return [line for line in lines if "measure" in line]


def cell(line):
    if line is None:
        return "-"
    return "failed" if "error" in line else f"{line['median_ms']:.4g}"



def ceiling(lines, measure, key):
    found = [line[key] for line in lines if line["measure"] == measure and key in line]
    return max(found, default=None)


def table(lines):
    """One row per shape, size and measure; the floor is the measure's FLOPs at the measured product's rate."""
    rate = ceiling(lines, "product", "tflop_per_s")
    rows = {}
    for line in lines:
        if line["measure"] not in ("product", "copy"):
            rows.setdefault((line["shape"], line["pixels"], line["measure"]), {})[line["program"]] = line
    text = ["| shape | px | measure | vggflow ms | torch eager ms | torch.compile ms | eager / vggflow | vggflow TFLOP/s | floor ms | peak GiB, vggflow / eager |",
            "|---|---|---|---|---|---|---|---|---|---|"]
    for (shape, pixels, measure), by in rows.items():
        ours, eager = by.get("vggflow", {}), by.get("torch eager", {})
        ratio = f"{eager['median_ms'] / ours['median_ms']:.2f}" if "median_ms" in ours and "median_ms" in eager else "-"
        speed = f"{ours['tflop_per_s']:.0f}" if "tflop_per_s" in ours else "-"
        floor = f"{1e3 * ours['tflop'] / rate:.4g}" if rate and "tflop" in ours else "-"
        peaks = " / ".join(f"{line['peak_gib']:.1f}" if "peak_gib" in line else "-" for line in (ours, eager))
        cells = [shape, pixels, measure, *(cell(by.get(p)) for p in PROGRAMS), ratio, speed, floor, peaks]
        text.append("| " + " | ".join(map(str, cells)) + " |")
    return text


def failures(lines):
    return [f"- {line['program']}, {line['shape']}, {line['pixels']} px, {line['measure']}: {line['error']}" for line in lines if "error" in line]


def page(facts, parts, lines):
    text = ["Machine: " + "; ".join(facts) + ".", ""]
    product, copy = ceiling(lines, "product", "tflop_per_s"), ceiling(lines, "copy", "gb_per_s")
    if product and copy:
        text += [f"Ceilings: bf16 product {product:.3g} TFLOP/s, copy {copy:.4g} GB/s (read and written).", ""]
    text += table(lines)
    bad = failures(lines)
    if bad:
        text += ["", "Failed:", "", *bad]
    text += ["", "Parts, seconds, exit code: " + "; ".join(" ".join(part) for part in parts) + "."]
    return "\n".join(text) + "\n"


def main():
    folder = Path(sys.argv[1])
    facts = [line.strip() for line in (folder / "facts.txt").read_text().splitlines() if line.strip()]
    parts = [line.split("\t") for line in (folder / "parts.tsv").read_text().splitlines()]
    lines = read_lines(folder / "log.txt")
    (folder / "gpu.json").write_text(json.dumps(dict(machine=facts, parts=parts, lines=lines), indent=1) + "\n")
    (folder / "gpu.md").write_text(page(facts, parts, lines))


if __name__ == "__main__":
    main()

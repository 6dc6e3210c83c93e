#!/usr/bin/env python3
"""Makes the figures of docs/mini-paper.md from the runs of scripts/mini_paper.sh: strips of samples (the grids that evaluations wrote, one image a class), and
charts of the comparisons' reports as files of their own. Needs Pillow.

    mini_paper_figures.py runs/mini-paper docs/figures
"""
import html
import pathlib
import re
import sys

from PIL import Image, ImageDraw

if len(sys.argv) != 3:
    sys.exit(__doc__)
runs, out = map(pathlib.Path, sys.argv[1:])

GAP, LABEL = 2, 130  # pixels between images of a grid, and for the names

COLOURS = ["#2563eb", "#d9480f", "#2b8a3e", "#9c36b5", "#0c8599", "#a07000", "#c2255c", "#5c6773", "#74b816", "#000000"]
STYLE = (
    "<style>text{fill:#1d1d1f;font:11px system-ui,sans-serif}.title{font-size:13px;font-weight:600}.tick{fill:#6b6b70;font-size:10px}"
    ".grid{stroke:#e2e0da}path,line{fill:none;stroke-width:1.8}.dashed{stroke-dasharray:5 4}.faint{opacity:.45}"
    + "".join(f".s{i}{{stroke:{c}}}.f{i}{{fill:{c}}}" for i, c in enumerate(COLOURS))
    + "</style>"
)


def first_of_each_class(grid):
    """A grid has 8 columns, four images per class: the first of each, in the order of the classes."""
    image = Image.open(grid).convert("RGB")
    side = (image.width - GAP) // 8 - GAP
    place = lambda column, row: (GAP + column * (side + GAP), GAP + row * (side + GAP))
    rows = (image.height - GAP) // (side + GAP)
    return [image.crop((x, y, x + side, y + side)) for row in range(rows) for x, y in (place(0, row), place(4, row))]


def strips(file, rows):
    """rows: (name, grid)."""
    pictures = [(name, first_of_each_class(grid)) for name, grid in rows]
    side = min(64, pictures[0][1][0].width)
    sheet = Image.new("RGB", (LABEL + len(pictures[0][1]) * (side + GAP), len(rows) * (side + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (name, images) in enumerate(pictures):
        draw.text((4, r * (side + GAP) + side // 2 - 6), name, fill="black")
        for c, image in enumerate(images):
            sheet.paste(image.resize((side, side), Image.Resampling.BOX), (LABEL + c * (side + GAP), r * (side + GAP)))
    sheet.quantize(256, kmeans=4, dither=Image.Dither.FLOYDSTEINBERG).save(out / file, optimize=True)


def chart(file, report, title):
    """The chart of that title, with the report's legend written below it."""
    text = (runs / report).read_text()
    svg = re.search(rf"<svg class='chart' viewBox='0 0 (\d+) (\d+)' role='img' aria-label='{re.escape(title)}'>.*?</svg>", text, re.S)
    if not svg:
        sys.exit(f"{report} has no chart '{title}'")
    width, height = int(svg[1]), int(svg[2])
    block = re.search(r"<div class='legend'>(.*?)</div>", text, re.S)[1]
    arms = [(int(colour), html.unescape(name)) for colour, name in re.findall(r"<span class='swatch b(\d+)'></span>([^<]*)</span>", block)]
    legend = ""
    for i, (colour, name) in enumerate(arms):
        x, y = 62 + 120 * (i % 3), height + 14 + 16 * (i // 3)
        legend += f"<rect class='f{colour}' x='{x}' y='{y - 8}' width='8' height='8'/><text class='tick' x='{x + 12}' y='{y}'>{html.escape(name)}</text>"
    total = height + 16 * ((len(arms) + 2) // 3) + 8
    body = re.sub(r"^<svg[^>]*>", "", svg[0])[: -len("</svg>")]
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='640' viewBox='0 0 {width} {total}' role='img' aria-label='{html.escape(title)}'>"
    (out / file).write_text(f"{head}{STYLE}<rect width='100%' height='100%' fill='#fff'/>{body}{legend}</svg>\n")


def grid(comparison, arm, update):
    return runs / comparison / "runs" / arm / "default" / "seed0" / "grids" / f"eval_{update:06}.png"


def existing(rows):
    found = [(name, path) for name, path in rows if path.exists()]
    for name, path in rows:
        if not path.exists():
            print(f"left out: {name}, {path} is not there")
    return found


methods = ["vgg-flow", "vgg-flow-pmp", "fitted-adjoint", "adjoint-matching", "refl", "draft-1", "draft-5", "draft-random", "draft-lv"]
for comparison, last in (("nima", 20), ("class", 50)):
    rows = existing([("base", grid(comparison, methods[0], 0))] + [(arm, grid(comparison, arm, last)) for arm in methods])
    if len(rows) > 1:
        strips(f"mini_paper_{comparison}.png", rows)
    if (runs / comparison / "report.html").exists():
        chart(f"mini_paper_{comparison}_diversity.svg", f"{comparison}/report.html", "Reward against diversity")
        chart(f"mini_paper_{comparison}_judge.svg", f"{comparison}/report.html", "Reward against the judge")
hacking = [(f"{arm}, {update}", grid("hacking", arm, update)) for arm in ("refl", "draft-1", "vgg-flow-beta-20", "vgg-flow-beta-40", "vgg-flow-beta-80") for update in (20, 40)]
rows = existing([("base", grid("hacking", "refl", 0))] + hacking)
if len(rows) > 1:
    strips("mini_paper_hacking.png", rows)
if (runs / "hacking/report.html").exists():
    chart("mini_paper_hacking_diversity.svg", "hacking/report.html", "Reward against diversity")
    chart("mini_paper_hacking_judge.svg", "hacking/report.html", "Reward against the judge")

#!/usr/bin/env python3
"""The live page of a run and of a hostile folder in headless Chromium, while the run is killed (SIGKILL) and goes on. Writes the
resumed process's number to OUT/resumed.pid. VGGFLOW_KEEP_SCREENSHOTS names a folder for pictures of it.
Usage: page_in_browser.py OUT URL PROCESS COMMAND..."""
import os
import signal
import subprocess
import sys

from browser import Browser

out, url, process, command = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
keep = os.environ.get("VGGFLOW_KEEP_SCREENSHOTS")
BADGE = "document.querySelector('.badge')?.textContent"
DONE = "document.querySelector('progress')?.value"


def check(page, expression, wanted=True):
    got = page.value(expression)
    assert got == wanted, f"{expression}: expected {wanted}, got {got}"


with Browser(out) as page:
    page.open(url)
    page.wait(f"{BADGE} === 'running'")
    before = page.value(DONE)
    page.wait(f"{DONE} > {before}")
    os.kill(process, signal.SIGKILL)
    page.wait(f"{BADGE} === 'stopped'")
    at_death = page.value(DONE)
    with open(f"{out}/align.log", "wb") as log:
        resumed = subprocess.Popen(command, stdout=log, stderr=log)
    with open(f"{out}/resumed.pid", "w") as file:
        file.write(str(resumed.pid))
    page.wait(f"{BADGE} === 'running'")
    page.wait(f"{DONE} > {at_death}")
    check(page, "document.getElementById('resume').textContent.includes('resume=true')")
    check(page, "document.getElementById('settings').textContent.includes('colorfulness')")
    # Everything that the hostile folder said is text.
    page.wait("document.body.textContent.includes('<img src=x onerror')")
    check(page, "[...document.images].every((i) => i.id.startsWith('grid-'))")
    check(page, "document.querySelectorAll('main script, [onerror]').length", 0)
    # A chart is walked by keyboard, and says its figures.
    page.value("document.getElementById('chart-live').focus()")
    page.press("ArrowRight")
    page.wait("document.querySelector('#chart-live figcaption').textContent.startsWith('update ')")
    page.wait("document.getElementById('cell-before').width > 1")
    check(page, "[...document.querySelectorAll('input, select, canvas, [role=img]')].every((e) => e.closest('label') || e.ariaLabel)")
    for name, width, dark in (("desktop", 1280, False), ("dark", 1280, True), ("phone", 390, False)):
        page.open(url, width, 900, dark)
        page.wait("document.querySelector('#chart-fd')")
        check(page, "document.documentElement.scrollWidth", width)
        check(page, "getComputedStyle(document.body).backgroundColor", "rgb(23, 24, 26)" if dark else "rgb(251, 250, 247)")
        if keep:
            page.screenshot(f"{keep}/page_{name}.png")
    assert not page.errors, page.errors

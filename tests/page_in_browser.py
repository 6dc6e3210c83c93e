#!/usr/bin/env python3
"""The live page of a run and of a hostile folder in headless Chromium, while the run is killed (SIGKILL) and goes on. Writes the
resumed process's number to OUT/resumed.pid. VGGFLOW_KEEP_SCREENSHOTS names a folder for pictures of it.
Usage: page_in_browser.py OUT URL PROCESS COMMAND..., or OUT URL buttons: presses the buttons of a run's own page, stop last."""
import os
import signal
import subprocess
import sys

from browser import Browser
from screen_reader import check_focus, check_names, count_speech

out, url, command = sys.argv[1], sys.argv[2], sys.argv[4:]
keep = os.environ.get("VGGFLOW_KEEP_SCREENSHOTS")
BADGE = "document.querySelector('.badge')?.textContent"
DONE = "document.querySelector('progress')?.value"


def check(page, expression, wanted=True):
    got = page.value(expression)
    assert got == wanted, f"{expression}: expected {wanted}, got {got}"


def listen(page):
    """By ear and keyboard, while the run trains (an evaluation every four updates)."""
    names = check_names(page)
    charts = [name for name in names["figure"] if name.startswith("chart: ")]
    assert len(charts) >= 5 and all("Arrow keys read its points" in name for name in charts), charts
    said = [name for name in names["image"] if ". Last: " in name]
    assert len(said) == len(charts), f"expected the last figures of each chart in words, got {said}"
    assert "updates done" in names["progressbar"] and "table of evaluations" in names["region"], names
    assert check_focus(page) > len(charts)
    # Nobody hears every update, and nobody's place on the page is taken away.
    count_speech(page)
    page.value("window.card = document.querySelector('#runs article'); window.figure = document.querySelector('#runs dd').firstChild")
    begun = page.value(DONE)
    page.wait(f"{DONE} >= {begun} + 8")
    done, evaluations = page.value(DONE) - begun, page.value("window.spoken.filter((s) => s.includes(': reward ')).length")
    spoken = page.value("window.spoken")
    assert 1 <= evaluations and len(spoken) <= done / 4 + 2, f"{done} updates were spoken as {spoken}"
    check(page, "window.card === document.querySelector('#runs article') && window.figure === document.querySelector('#runs dd').firstChild")


def follow(page, process):
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
    listen(page)
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


def press_buttons(page):
    page.open(url)
    page.wait(f"{BADGE} === 'running' && !document.getElementById('buttons-section').hidden")
    page.value("document.getElementById('sample-prompt').value = 'a <b>dog'; document.getElementById('sample').click()")
    page.wait("document.querySelector('#samples h3').textContent === 'a <b>dog'")
    page.wait("[...document.querySelector('#samples .card').querySelectorAll('img')].map((i) => i.naturalWidth).join() === '16,16'")
    page.value("document.getElementById('save').click()")
    page.wait("document.getElementById('buttons-said').textContent.startsWith('saved after')")
    page.value("document.getElementById('stop').click()")
    page.wait("document.getElementById('stop').disabled")
    page.wait("document.getElementById('connection').className === 'lost'")


with Browser(out) as browser:
    if sys.argv[3] == "buttons":
        press_buttons(browser)
    else:
        follow(browser, int(sys.argv[3]))

#!/usr/bin/env python3
"""The page of votes in headless Chromium, by keyboard and by ear: what has the focus, what is said after a choice, and the way back, to the
last of four pairs. Usage: votes_in_browser.py OUT URL"""
import sys

from browser import Browser
from screen_reader import check_focus, check_names, nodes

out, url = sys.argv[1], sys.argv[2]
SAID = "document.getElementById('said').textContent"

with Browser(out) as page:
    page.open(url)
    page.wait("document.getElementById('left').naturalWidth > 0 && document.getElementById('right').naturalWidth > 0")
    prompt = page.value("document.getElementById('prompt').textContent")
    names = check_names(page)
    assert {f"left image of: {prompt}", f"right image of: {prompt}"} <= set(names["image"]), names["image"]
    assert names["button"] == ["left", "tie", "right", "back"], names["button"]
    keys = [properties.get("keyshortcuts") for role, _, properties in nodes(page) if role == "button"]
    assert keys == ["ArrowLeft", "ArrowDown", "ArrowRight", "Backspace"], keys
    described = page.value("document.getElementById('keys').textContent")
    assert all(key in described for key in ("left", "right", "down", "backspace")), described
    assert check_focus(page) == 5  # four buttons and the result
    page.wait(f"{SAID}.startsWith('0 of 4 voted. Now: ')")
    for key, said in (("ArrowLeft", "You chose the left image. 1 of 4"), ("ArrowDown", "You called it a tie. 2 of 4"), ("Backspace", "Went back. 2 of 4")):
        page.press(key)
        page.wait(f"{SAID}.startsWith('{said} voted. Now: ')")
    # By its button, whose focus stays.
    page.value("document.getElementById('choose-right').focus()")
    page.press("Enter")
    page.wait(f"{SAID}.startsWith('You chose the right image. 2 of 4 voted. Now: ')")
    assert page.value("document.activeElement.id") == "choose-right"
    for place in (3, 4):
        page.press("ArrowLeft")
        page.wait(f"{SAID}.startsWith('You chose the left image. {place} of 4 voted.')")
    page.wait(f"{SAID}.endsWith('All pairs have a vote.')")
    check_names(page)
    assert not page.errors, page.errors

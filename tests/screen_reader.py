"""What a screen reader and a keyboard find on a page, from Chromium's accessibility tree (browser.py)."""

# Roles that say nothing without a name.
NAMED = {"button", "link", "textbox", "spinbutton", "combobox", "slider", "checkbox", "progressbar", "image", "img", "table", "region",
         "log", "article"}
LIVE = "[aria-live]:not([aria-live=off]), [role=status], output:not([aria-live])"


def nodes(page):
    """(role, name, properties) of what is not hidden from a screen reader."""
    found = []
    for node in page.call("Accessibility.getFullAXTree")["nodes"]:
        if not node.get("ignored"):
            properties = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
            found.append((node["role"]["value"], node.get("name", {}).get("value", "").strip(), properties))
    return found


def check_names(page):
    """Everything that is to be used or looked at has a name, and the page landmarks and headings in order. Returns the names by role."""
    by_role = {}
    for role, name, properties in nodes(page):
        by_role.setdefault(role, []).append(name)
        if role in NAMED or (properties.get("focusable") and role not in ("RootWebArea", "MenuListOption", "option")):
            assert name, f"a {role} has no name: {properties}"
            assert role not in ("generic", "none"), f"'{name}' takes the focus and has no role"
    for landmark in ("banner", "main"):
        assert len(by_role.get(landmark, [])) == 1, f"expected one {landmark}, got {by_role.get(landmark)}"
    levels = page.value("[...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.checkVisibility()).map((h) => Number(h.tagName[1]))")
    assert levels and levels[0] == 1 and levels.count(1) == 1, f"expected one h1 at the top, got {levels}"
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:])), f"headings skip a level: {levels}"
    return by_role


def check_focus(page):
    """Tab visits all that can be used, in the order of the page, and shows where it is. Returns how many places there are."""
    wanted = page.value("""(() => {
      window.places = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex]')]
        .filter((e) => !e.disabled && e.tabIndex >= 0 && e.checkVisibility());
      document.activeElement.blur();
      document.body.tabIndex = -1;
      document.body.focus();
      document.body.removeAttribute('tabindex');
      return window.places.length; })()""")
    for place in range(wanted):
        page.press("Tab")
        at = page.value("window.places.indexOf(document.activeElement)")
        assert at == place, f"expected place {place} of {wanted}, got {at}: {page.value('document.activeElement.outerHTML')[:200]}"
        style = page.value("(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + parseFloat(s.outlineWidth) })()")
        assert style.startswith(("solid", "auto")) and float(style.split()[1]) >= 2, f"the focus is not to be seen: {style}"
        box = page.value("(() => { const b = document.activeElement.getBoundingClientRect(); return [b.bottom > 0, b.top < innerHeight] })()")
        assert box == [True, True], f"the focus is off the screen: {page.value('document.activeElement.outerHTML')[:200]}"
    return wanted


def count_speech(page):
    """From here on the page counts in window.spoken what its live regions would say."""
    page.value(f"""(() => {{
      window.spoken = [];
      for (const region of document.querySelectorAll("{LIVE}"))
        new MutationObserver(() => window.spoken.push(region.textContent)).observe(region, {{ childList: true, characterData: true, subtree: true }});
    }})()""")

#!/usr/bin/env python3
"""Lists the tests that ctest --output-junit FILE says were skipped, each with the sentence that it printed. Usage: skipped.py FILE"""
import sys
import xml.etree.ElementTree as tree

skipped = [case for case in tree.parse(sys.argv[1]).iter("testcase") if case.find("skipped") is not None]
print(f"skipped tests: {len(skipped)}")
for case in skipped:
    lines = (case.findtext("system-out") or "").splitlines()
    # GoogleTest gives the reason in the line after.
    why = [line.strip() for before, line in zip(["", *lines], lines) if line.startswith("left out") or before.endswith(": Skipped")]
    print(f"  {case.get('name')}: {why[0] if why else 'it does not say why'}")

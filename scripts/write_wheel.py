#!/usr/bin/env python3
"""Packs a folder into a wheel (PEP 427), with its RECORD; the same bytes give the same file.
Usage: write_wheel.py FOLDER OUTPUT_FOLDER VERSION PLATFORM_TAG"""
import base64
import hashlib
import os
import pathlib
import sys
import zipfile

folder, out, version, platform = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
tag = f"py3-none-{platform}"
info = f"vggflow-{version}.dist-info"
METADATA = f"""Metadata-Version: 2.1
Name: vggflow
Version: {version}
Summary: Aligns flow-matching image models with differentiable rewards
Requires-Python: >=3.10
Requires-Dist: torch ==2.11.*
Provides-Extra: arrays
Requires-Dist: numpy >=1.24; extra == "arrays"
"""
WHEEL = f"""Wheel-Version: 1.0
Generator: vggflow scripts/wheel.sh
Root-Is-Purelib: false
Tag: {tag}
"""
entries = {
    f"{info}/METADATA": (METADATA.encode(), 0o644),
    f"{info}/WHEEL": (WHEEL.encode(), 0o644),
    f"{info}/entry_points.txt": (b"[console_scripts]\nvggflow = vggflow:main\n", 0o644),
}
for path in sorted(p for p in folder.rglob("*") if p.is_file()):
    entries[str(path.relative_to(folder))] = (path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


record = "".join(record_line(name, data) for name, (data, _) in entries.items()) + f"{info}/RECORD,,\n"
entries[f"{info}/RECORD"] = (record.encode(), 0o644)
out.mkdir(parents=True, exist_ok=True)
wheel = out / f"vggflow-{version}-{tag}.whl"
with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, (data, mode) in entries.items():
        entry = zipfile.ZipInfo(name)  # of 1980: no time of its own
        entry.external_attr = (0o100000 | mode) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, data)
print(f"wheel: {wheel}, {wheel.stat().st_size} bytes")

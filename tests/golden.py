#!/usr/bin/env python3
"""Compares runs with the stored golden table, or stores it. Usage: golden.py RUNS TABLE compare|store METHOD..."""
import hashlib
import json
import pathlib
import re
import struct
import sys

# Relative, between kinds of processors: their kernels add up in other orders. Adam divides a gradient by its own size, so that in its first steps
# the rounding of gradients that are next to nothing moves weights by whole steps: later losses and gradients differ by up to 2e-3 between an AMD
# processor with bf16 units and an Intel one without.
FIRST, LATER = 1e-3, 1e-2


def processor():
    """The vendor and vector units, which decide the order of sums in LibTorch's kernels and ours."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    field = lambda name: (re.search(rf"^{name}\s*: (.*)$", text, re.M) or [None, "unknown"])[1]
    units = sorted(f for f in field("flags").split() if re.match("avx|amx|fma", f))
    return " ".join([field("vendor_id"), field("cpu family"), *units])


def tensors(file):
    """Name -> floats of a safetensors file in fp32."""
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", f"{file}: expected fp32, got {entry['dtype']} in {name}"
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        out[name] = struct.unpack(f"<{(end - start) // 4}f", data[start:end])
    return out


def curve(run):
    """What a run is known by: numbers of each update, and hash and norms of its LoRA."""
    updates = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "update":
            updates.append({key: row[key] for key in ("loss", "reward", "grad_norm", "values")})
    lora = tensors(run / "lora.safetensors")
    digest = hashlib.sha256(b"".join(struct.pack(f"<{len(v)}f", *v) for _, v in sorted(lora.items()))).hexdigest()
    norm = lambda part: sum(x * x for name, v in lora.items() if part in name for x in v) ** 0.5
    return {"updates": updates, "lora": {"sha256": digest, "norm_a": norm("lora_A"), "norm_b": norm("lora_B")}}


def numbers(value, path=""):
    """(path, number) pairs of nested dictionaries and lists."""
    if isinstance(value, dict):
        for key in value:
            yield from numbers(value[key], f"{path}.{key}")
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield from numbers(entry, f"{path}[{i}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


def differences(method, got, want, exact):
    have, out = dict(numbers(got)), []
    for path, number in numbers(want):
        other = have.get(path)
        tolerance = FIRST if path.startswith((".updates[0]", ".lora")) else LATER
        near = other is not None and abs(other - number) <= tolerance * max(abs(number), 1e-3)
        if other != number and (exact or not near):
            out.append(f"{method}{path}: expected {number!r}, got {other!r}")
    if exact and got["lora"]["sha256"] != want["lora"]["sha256"]:
        out.append(f"{method}: the LoRA differs in its bits")
    return out


def main(runs, table, task, methods):
    made = {method: curve(runs / method) for method in methods}
    stored = json.loads(table.read_text())
    if task == "store":
        stored.update({method: {"processor": processor(), **made[method]} for method in methods})
        table.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
        print(f"golden: stored {', '.join(methods)}")
        return 0
    exact = [m for m in methods if m in stored and stored[m]["processor"] == processor()]
    problems = [f"{m}: not in the table; run golden.sh with 'store'" for m in methods if m not in stored]
    problems += [f"{m}: in the table, and no longer registered" for m in stored if m not in methods]
    for method in set(methods) & set(stored):
        problems += differences(method, made[method], stored[method], method in exact)
    how = "bit for bit"
    if len(exact) < len(methods):
        how = f"{len(exact)} bit for bit, the others within {FIRST:g} in their first update and {LATER:g} later, since another kind of processor made their curves"
    if problems:
        print("golden: " + "\ngolden: ".join(problems[:5]), file=sys.stderr)
        print(f"golden: {len(problems)} differences ({how})", file=sys.stderr)
        return 1
    print(f"golden: {len(methods)} methods equal the stored curves: {how}")
    return 0


sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))

#!/usr/bin/env python3
"""Writes the fuzzers' first inputs to fuzz/corpus: good_* are accepted, bad_* refused. Only the standard library is needed.
Usage: fuzz/make_corpus.py"""
import io
import json
import pathlib
import struct
import zipfile

folder = pathlib.Path(__file__).parent / "corpus"


def put(kind, name, data):
    target = folder / kind / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def safetensors(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


good = {"a": entry("F32", [2], 0, 8), "b": entry("BF16", [1, 3], 8, 14), "c": entry("BOOL", [], 14, 15), "d": entry("F8_E4M3", [1], 15, 16),
        "e": entry("I64", [0, 9], 16, 16), "__metadata__": {"format": "pt"}}
put("safetensors", "good_all", safetensors(good, bytes(16)))
put("safetensors", "good_padded", safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   ', b"\0"))
put("safetensors", "good_empty", safetensors({}, b""))
put("safetensors", "bad_short", b"\0\0\0")
put("safetensors", "bad_length", safetensors(good, bytes(16), length=2**63))
put("safetensors", "bad_overlap", safetensors({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, bytes(8)))
put("safetensors", "bad_huge_shape", safetensors({"a": entry("F32", [0, 2**48, 2**48], 0, 0)}, b""))
put("safetensors", "bad_bool", safetensors({"a": entry("BOOL", [1], 0, 1)}, b"\7"))
put("safetensors", "bad_twice", safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}}', b"\0"))
put("safetensors", "bad_nested", safetensors(b'{"a":' * 50 + b"1" + b"}" * 50, b""))
put("safetensors", "bad_utf8", safetensors(b'{"\xff":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0"))


def archive(program, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in [("a/data.pkl", program), ("a/byteorder", b"little"), ("a/data/0", bytes(32))]:
            z.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return out.getvalue()


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def tensor(numel=16, size=b"K\x02K\x08\x86", stride=b"K\x08K\x01\x86", memo=b""):
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cuda:0") + b"K" + bytes([numel]) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + memo + b"K\0" + size + stride + b"\x89ccollections\nOrderedDict\n)RtR"


# Bare programs (first byte 0x80): the fuzzer puts them into an archive with a storage '0' of 16 floats.
state = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(" + text("w") + tensor() + text("n") + b"K\x01u}" + text("_metadata") + b"}sb."
put("pickle", "good_state_dict", state)
put("pickle", "good_nested", b"\x80\x02}" + text("m") + b"}q\x01" + text("w") + tensor() + b"ss.")
put("pickle", "good_protocol4", b"\x80\x04\x95" + bytes(8) + b"}\x94(\x8c\x01a\x94J\xff\xff\xff\xffK\x07\x8a\x01\xff\x8c\x01l](K\x01G" + bytes(8) + b"N\x88eu.")
put("pickle", "good_archive", archive(b"\x80\x02}."))
put("pickle", "bad_os_system", b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.")
put("pickle", "bad_memo", b"\x80\x02h\x09.")
put("pickle", "bad_beyond", b"\x80\x02}" + text("w") + tensor(stride=b"K\x09K\x01\x86") + b"s.")
put("pickle", "bad_storage", b"\x80\x02}" + text("w") + tensor(numel=17) + b"s.")
put("pickle", "bad_cycle", b"\x80\x02}q\x00" + text("a") + b"h\x00s.")
put("pickle", "bad_instruction", b"\x80\x02(ios\nsystem\n.")
put("pickle", "bad_deflated", archive(b"\x80\x02}.", zipfile.ZIP_DEFLATED))
put("pickle", "bad_truncated", archive(b"\x80\x02}.")[:-30])
print(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()), "bytes")

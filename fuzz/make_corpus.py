#!/usr/bin/env python3
"""Writes the fuzzers' first inputs to fuzz/corpus: good_* are accepted, bad_* refused. Only the standard library is needed.
Usage: fuzz/make_corpus.py"""
import io
import json
import pathlib
import struct
import zipfile
import zlib

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
put("json", "good_object", b'{"a": [1, -2.5e3, true, null], "b": {"c": "\\u00e9 \\"[[["}}')
put("json", "good_number", b" 3 ")
put("json", "good_levels", b"[" * 64 + b"]" * 64)
put("json", "good_brackets_in_text", b'["' + b"[" * 1000 + b'"]')
put("json", "bad_levels", b"[" * 65 + b"]" * 65)
put("json", "bad_deep", b'{"a":' * 3000 + b"1" + b"}" * 3000)
put("json", "bad_open", b"[" * 10000)
put("json", "bad_empty", b"")
put("json", "bad_two", b"{} {}")
put("json", "bad_utf8", b'"\xff"')
put("json", "bad_truncated", b'{"a": [1, 2')


# ---- images
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, rows=None, before=b"", interlace=0):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    if rows is None:
        line = (width * channels * depth + 7) // 8
        rows = b"".join(b"\0" + bytes((x * 7 + y) % 251 for x in range(line)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + before + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


text_chunks = chunk(b"tEXt", b"prompt\0a cat") + chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a cat\nSteps: 3")) + \
    chunk(b"iTXt", b"title\0\0\0\0\0" + "猫".encode())
put("image", "good_rgb.png", png(5, 3))
put("image", "good_text.png", png(2, 2, before=text_chunks))
for colour, depth in [(0, 1), (0, 16), (3, 8), (4, 8), (6, 16)]:
    put("image", f"good_{colour}_{depth}.png", png(4, 4, depth, colour))
put("image", "good_text_that_unfolds.png", png(1, 1, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(16 << 20), 9))))
put("image", "bad_wide.png", png(40000, 40000, rows=bytes(100)))
put("image", "bad_empty.png", png(11500, 11500, 1, 0, rows=bytes(1439 * 11500)))
put("image", "bad_cut.png", png(5, 3)[:-20])
put("image", "bad_chunk.png", png(1, 1, before=b"\x41\0\0\x22" + text_chunks[4:]))
put("image", "bad_sum.png", png(5, 3).replace(b"IDAT", b"IDAX"))
put("image", "bad_zero.png", png(0, 3, rows=b""))
# Grey JPEGs of 8 x 8 blocks: one symbol, a code of one bit, says "no change" (of DC) and "no more" (of AC).
table = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
codes = b"".join(b"\xff\xc4\0\x14" + bytes([kind]) + bytes([1] + [0] * 15) + b"\0" for kind in (0, 16))


def jpeg(width, height, frame=0xC0, bits=b"\x3f", scan=b"\0\x3f\0"):
    start = b"\xff" + bytes([frame]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    return b"\xff\xd8" + table + start + codes + b"\xff\xda\0\x08\1\1\0" + scan + bits + b"\xff\xd9"


put("image", "good_grey.jpg", jpeg(8, 8))
put("image", "good_blocks.jpg", jpeg(24, 16, bits=b"\0\x0f"))
put("image", "good_progressive.jpg", jpeg(8, 8, 0xC2, bits=b"\x7f", scan=b"\0\0\0"))
put("image", "bad_progressive.jpg", jpeg(4000, 4000, 0xC2, bits=b"\x7f", scan=b"\0\0\0"))
put("image", "bad_short.jpg", jpeg(80, 80))
put("image", "bad_size.jpg", jpeg(65000, 65000))
put("image", "bad_code.jpg", jpeg(8, 8, bits=b"\xbf"))
put("image", "bad_kind", b"GIF89a")

# ---- zip
put("zip", "good_archive", archive(b"\x80\x02}."))
put("zip", "good_empty", b"PK\5\6" + bytes(18))
put("zip", "bad_deflated", archive(b"\x80\x02}.", zipfile.ZIP_DEFLATED))
put("zip", "bad_truncated", archive(b"\x80\x02}.")[:-30])
put("zip", "bad_sum", archive(b"\x80\x02}.").replace(b"little", b"bittle"))
put("zip", "bad_none", b"PK")

# ---- settings
put("settings", "good_all", b"whole: 3\nreal: 2.5\ntext: 'a: b'\nword: b\nlist: [1, 2]\ntexts: [x, \"\\u00e9\"]\ninner:\n  yes: true\n  numbers: []\n")
put("settings", "good_empty", b"")
put("settings", "good_choices", b"shade: dark\nshades: [dark, light, dark]\n")
put("settings", "bad_choices", b"shades: [dark, dim]\n")
put("settings", "good_alias", b"text: &a x\ntexts: [*a, *a]\n")
put("settings", "bad_override", b"texts=[a, b]")
put("settings", "bad_range", b"whole: 1001\n")
put("settings", "bad_key", b"holes: 1\n")
put("settings", "bad_deep", b"text: " + b"[" * 2000)
put("settings", "bad_levels", b"".join(b" " * i + b"a:\n" for i in range(200)))
put("settings", "bad_tab", b"inner:\n\tyes: true\n")
put("settings", "bad_list", b"- 1\n- 2\n")
put("settings", "bad_cycle", b"texts: &a [*a]\n")

# ---- prompts: the first byte is the kind of file
put("prompts", "good_text", b"\0a cat\r\n\n  a dog \n\xc3\xa9\n")
put("prompts", "good_csv", b'\1id,Prompt\n1,"a ""cat"",\nor two"\n2,b\n')
put("prompts", "good_tsv", b"\2prompt\tseed\na cat\t3\n")
put("prompts", "good_json", b'\3["a", {"prompt": "b", "seed": 3}]')
put("prompts", "good_jsonl", b'\4{"prompt": "a"}\n"b"\n')
put("prompts", "bad_utf8", b"\0a \xff\n")
put("prompts", "bad_zero", b"\0a\0b\n")
put("prompts", "bad_quote", b'\1prompt\n"a\n')
put("prompts", "bad_row", b"\1prompt\na,b\n")
put("prompts", "bad_column", b"\2text\na\n")
put("prompts", "bad_deep", b"\3" + b"[" * 1000)
put("prompts", "bad_line", b'\4{"prompt": "a"}\n{\n')
put("prompts", "bad_empty", b"\0\n\n")

# ---- tokenizers: the first byte is the model, 0 CLIP, 1 T5, 2 BERT
tokenizers = pathlib.Path(__file__).parent.parent / "src/vggflow/text/testdata/tokenizer_json"
files = {"clip": b"\0", "t5": b"\1", "bert": b"\2"}
small = {name: json.loads((tokenizers / name / "tokenizer.json").read_text()) for name in files}
for name, first in files.items():
    def packed(value):
        return first + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    whole = packed(small[name])
    put("tokenizer_json", f"good_{name}", whole)
    put("tokenizer_json", f"bad_{name}_cut", whole[:-100])
    put("tokenizer_json", f"bad_{name}_step", packed(small[name] | {"normalizer": {"type": "NFKC"}}))
    put("tokenizer_json", f"bad_{name}_kind", packed(small[name] | {"model": {"type": "WordLevel", "vocab": {}}}))
put("tokenizer_json", "bad_deep", b"\0" + b'{"model":' * 1000)

clip = small["clip"]["model"]
merges = "\n".join(m if isinstance(m, str) else " ".join(m) for m in clip["merges"]).encode()
vocabulary = json.dumps(clip["vocab"], separators=(",", ":"), ensure_ascii=False).encode()
config = json.dumps({"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "model_max_length": 77}).encode()
put("vocabulary", "good_clip", b"\0" + vocabulary + b"\0#version: 0.2\n" + merges + b"\n\0" + config)
put("vocabulary", "bad_clip_twice", b"\0" + vocabulary.replace(b":5,", b":4,", 1) + b"\0\0" + config)
put("vocabulary", "bad_clip_merge", b"\0" + vocabulary + b"\0#version: 0.2\nno such\n\0" + config)
put("vocabulary", "bad_clip_limit", b"\0" + vocabulary + b"\0\0" + config.replace(b"77", b"1e30"))


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def piece(text, score):
    return field(1, field(1, text) + bytes([2 << 3 | 5]) + struct.pack("<f", score))


pieces = b"".join(piece(t, s) for t, s in [(b"<pad>", 0), (b"</s>", 0), (b"<unk>", 0), ("▁two".encode(), -2), (b"c", -3), (b"a", -3)])
put("vocabulary", "good_t5", b"\1" + pieces + field(2, b"\x18\1"))
put("vocabulary", "good_t5_empty_map", b"\1" + pieces + field(3, field(2, bytes(4))))
put("vocabulary", "bad_t5_map", b"\1" + pieces + field(3, field(2, b"\x09\0\0\0")))
put("vocabulary", "bad_t5_type", b"\1" + pieces + field(2, b"\x18\2"))
put("vocabulary", "bad_t5_cut", b"\1" + pieces[:-3])
words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ntwo\ncaf\n##e\n##s\n,\n"
put("vocabulary", "good_bert", b"\2" + words)
put("vocabulary", "bad_bert_without_mask", b"\2" + words.replace(b"[MASK]\n", b""))
put("vocabulary", "bad_bert_twice", b"\2" + words + b"two\n")

# ---- answers of servers
ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
put("http", "good_length", ok + b'Content-Length: 15\r\n\r\n{"scores": [1]}')
put("http", "good_chunks", ok + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"sco\r\na\r\nres": [1]}\r\n0\r\n\r\n')
put("http", "good_until_the_end", b'HTTP/1.0 200 OK\r\n\r\n{}')
put("http", "bad_status", b"HTTP/1.1 503 Busy\r\nRetry-After: 1e99\r\nContent-Length: 2\r\n\r\n{}")
put("http", "bad_redirect", b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n")
put("http", "bad_length", ok + b"Content-Length: 99999999999\r\n\r\n{}")
put("http", "bad_chunk", ok + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}")
put("http", "good_packed_unasked", ok + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
put("http", "bad_deep", ok + b"Content-Length: 1000\r\n\r\n" + b"[" * 1000)
put("http", "bad_none", b"")
put("http", "bad_noise", b"SSH-2.0-OpenSSH_9.2\r\n")


# ---- names of LoRA files: "name rows columns" a line, behind a zero byte the settings
def lora(names, settings=b"", rank=2, width=8):
    lines = []
    for name in names:
        up = any(part in name for part in ("lora_B", "lora_up", "lora_linear_layer.up", "lora.up"))
        lines.append(name if name.endswith(".alpha") else f"{name} {width} {rank}" if up else f"{name} {rank} {width}")
    return "\n".join(lines).encode() + (b"\0" + settings if settings else b"")


block = "transformer_blocks.0.attn.to_q"
pair = [".lora_A.weight", ".lora_B.weight"]
put("lora_keys", "good_diffusers", lora(["transformer." + block + p for p in pair], b'{"transformer.r":2,"transformer.lora_alpha":4}'))
put("lora_keys", "good_peft", lora(["base_model.model." + block + p for p in pair]))
put("lora_keys", "good_adapter_name", lora([f"base_model.model.{block}.lora_{x}.mine.weight" for x in "AB"]))
put("lora_keys", "good_kohya", lora(["lora_unet_transformer_blocks_0_attn_to_q" + p for p in (".lora_down.weight", ".lora_up.weight", ".alpha")]))
put("lora_keys", "bad_half", lora(["transformer." + block + pair[0]]))
put("lora_keys", "bad_kind", lora(["transformer." + block + p for p in (".lokr_w1", ".lokr_w2")]))
put("lora_keys", "bad_rank", lora(["transformer." + block + p for p in pair], b'{"transformer.r":4}'))
put("lora_keys", "good_pattern", lora(["transformer." + block + p for p in pair], b'{"transformer.alpha_pattern":{"(a|a)*$":3}}'))
put("lora_keys", "bad_settings", lora(["transformer." + block + p for p in pair], b"[" * 200))
put("lora_keys", "bad_names", lora(["a", "b.weight"]))
put("lora_keys", "bad_empty", b"")
put("lora_keys", "bad_utf8", b"\xe1")
print(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()), "bytes")

#!/usr/bin/env python3
"""Ids of SD3's three tokenizers from transformers, for the prompts that this script makes up.
Usage: tokenizer_reference.py ASSETS src/vggflow/text/testdata/tokenizer_reference.safetensors
ASSETS holds tokenizers/{clip/{vocab.json,merges.txt},t5/spiece.model} and sd3_config/tokenizer{,_2}/*.json. The file holds the prompts
(bytes, some of them not UTF-8), for each tokenizer one 64-bit FNV-1a hash a prompt of the untruncated ids and of the ids cut and padded
as diffusers does, and the untruncated ids themselves of the first prompts."""
import json
import pathlib
import random
import shutil
import sys
import tempfile

import numpy
from safetensors.numpy import save_file
from transformers import CLIPTokenizer, T5TokenizerFast

WRITTEN_OUT = 200
WORDS = """a an the red blue golden photo of portrait dog cat woman astronaut riding horse on mars highly detailed oil painting by van gogh
8k uhd trending artstation cinematic lighting Unreal Engine masterpiece octane render bokeh 35mm f/1.8 watercolour isometric cyberpunk
Tokyo street rain neon sign saying "HELLO" can't won't it's they're I've I'm we'll he'd DON'T IT'S rock'n'roll O'Brien state-of-the-art
email@example.com https://example.com/a?b=c&d=1 #hashtag @user 1,234.56 $99.99 50% 3:2 16x9 C++ a/b/c snake_case CamelCase ALLCAPS
supercalifragilisticexpialidocious antidisestablishmentarianism naïve café résumé Zürich São Paulo crème brûlée jalapeño""".split()
SENTENCES = ["", " ", "   ", "\n", "a photo of a cat", "A painting of a fox in the style of Monet, 4k!!!", "Hello, world!", "hello!!wow! !", "!",
             "!!!!",
             "I'm sure it's what they'd've said; we'll see", "''s 's't 're''ll", "it’s “quoted” — dash… ‘single’",
             "1234567890 3.14159 1e-5 ½ ² ③ Ⅷ ٣٤٥ १२३ 一二三",
             "ein Mädchen läuft über die Straße, GROẞE ÄPFEL", "une forêt enchantée où l’été n’en finit pas",
             "El niño soñó con pingüinos ¿verdad? ¡sí!",
             "Кот сидит на крыше под дождём", "Η γάτα κάθεται ΣΤΗ ΣΚΕΠΗ ΣΑΣ", "猫が屋根の上に座っている。カタカナｶﾀｶﾅ", "一只猫坐在屋顶上，下着雨", "고양이가 지붕 위에 앉아 있다",
             "قطة تجلس على السطح ﷺ ﻻ", "חתול יושב על הגג", "बिल्ली छत पर बैठी है क्ष ज्ञ", "แมวนั่งอยู่บนหลังคา", "con mèo ngồi trên mái nhà",
             "İSTANBUL'da bir kedi ıı",
             "ﬁne ﬂow ﬀ ﬃ ＦＵＬＬ　ＷＩＤＴＨ ㎏ ㍿ № ™ ℡ Å Ω K", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷🇯 ❤️ ☺︎ 1️⃣ ©️ ®‍©",
             "e\u0301 a\u0308\u0304 \u0301x o\u031b\u0323 q\u0323\u0307 q\u0307\u0323",
             "ｅ\u0301 ª\u0301 ª\u0951 ①\u20dd ™\u0301 ©\u200d™\u0301",
             "\u0600ª\u0301 \u0d4eª\u0301 \u1100\u1161\u11a8 \uac00\u11a8 \u1112\u1161\u11ab", "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
             "tab\tnew\r\nline\x0bvt\x0cff\x85nel\u2028ls\u2029ps\u00a0nbsp\u3000wide\u1680og", "\x00nul\x01\x02\x1b[31m\x7f\x80\x9f",
             "▁ ▁a a▁b ▁▁ a▁", "\ufffd \ufffe \uffff \U0010ffff \ue000",
             "<|startoftext|> <|endoftext|> <|STARTOFTEXT|> <|EndOfText|>x<|endoftext|>y", "!<|endoftext|>! a<|startoftext|>b <|<|endoftext|>|>",
             "<|endoftext", "<pad></s><unk> <extra_id_0>",
             "a  <extra_id_5>  b <extra_id_99>\n\n<extra_id_100> <extra_id_7><extra_id_8>", "＜extra_id_5＞ ＜/s＞ ＜pad＞ <Extra_id_1>",
             "</s> </ s> x</s>y", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 🅰🅱 ⓐⓑ ㊙ 🈶",
             "ǅ ǈ ŉ ẚ ß ſ K Å ϴ ẞ Ⱥ Ⴀ Ꭰ ꭰ Ა \U00010400", "שׁ וֹ אַ \ufb2c \ufb1d 搜\ufa0e\ufa10 \U0002f800 क़ \u0958\u0301 \u0915\u093c",
             "\u1e9b\u0323 \u1fee\u0345\u0313 \u0344 \u0f73\u0f75\u0f81 \u2126 \u212b"]
RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x531, 0x6FF), (0x700, 0x97F), (0x980, 0xDFF), (0xE00, 0x109F),
          (0x10A0, 0x13FF),
          (0x1400, 0x1CFF), (0x1D00, 0x20CF), (0x20D0, 0x2BFF), (0x2C00, 0x303F), (0x3040, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
          (0xA000, 0xABFF),
          (0xAC00, 0xD7FF), (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFFFF), (0x10000, 0x10FFF), (0x11000, 0x16FFF), (0x1B000, 0x1D7FF),
          (0x1E000, 0x1EFFF),
          (0x1F000, 0x1FAFF), (0x20000, 0x2FA1F), (0xE0000, 0xE01EF)]
MARKS = [*range(0x300, 0x34F), 0x34F, *range(0x483, 0x488), *range(0x591, 0x5BE), *range(0x64B, 0x660), 0x93C, 0x94D, 0x9BE, 0xE31, 0xFE0F, 0x200C,
         0x200D, 0x20DD, 0x3099, 0x309A]
EMOJI = [*range(0x1F300, 0x1F700, 7), *range(0x2600, 0x2700, 11), 0x2764, 0xA9, 0xAE, 0x2122]
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "</s>", "<pad>", "<unk>", "<extra_id_3>", "<extra_id_42>", "!", "\u2581", "</w>"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u2009", "\x0b"]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def character(self):
        first, last = self.random.choice(RANGES)
        return chr(self.random.randint(first, last))

    def words(self, most):
        r = self.random
        separators = [" "] * 8 + [", ", ". ", "! ", "; ", " - ", "...", "", "\n", " (", ") "]
        return "".join(r.choice(WORDS) + r.choice(separators) for _ in range(r.randint(1, most)))

    def one_script(self):
        first, last = self.random.choice(RANGES)
        r = self.random
        draw = lambda: r.choice([" ", chr(r.randint(first, last)), chr(r.randint(first, last))])
        return "".join(draw() for _ in range(r.randint(1, 25)))

    def any_characters(self):
        return "".join(self.character() for _ in range(self.random.randint(1, 20)))

    def marks(self):
        r = self.random
        bases = "aeioucsnÅẞªºｅｱ①™ªक\u0958가\u1100\u1161\u0600\u06dd©®ª½"
        marked = lambda: r.choice(bases) + "".join(chr(r.choice(MARKS)) for _ in range(r.randint(0, 4))) + r.choice(["", " "])
        return "".join(marked() for _ in range(r.randint(1, 10)))

    def emoji(self):
        r = self.random
        tails = ["", "\ufe0f", "\U0001f3fd", "\u200d", "\u20e3", " "]
        flags = "".join(chr(r.randint(0x1F1E6, 0x1F1FF)) for _ in range(r.randint(0, 5)))
        faces = "".join(chr(r.choice(EMOJI)) + r.choice(tails) for _ in range(r.randint(1, 8)))
        return faces + flags + r.choice(["", "\u0301", " ok"])

    def controls(self):
        r = self.random
        draw = lambda: r.choice([chr(r.randint(0, 0x1F)), chr(r.randint(0x7F, 0xA0)), r.choice(SPACES), r.choice(WORDS)])
        return "".join(draw() for _ in range(r.randint(1, 12)))

    def punctuation(self):
        r = self.random
        signs = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»…—–’‘“”、。·•′″§¶"
        draw = lambda: r.choice(signs) * r.randint(1, 4) + r.choice(["", "", "a", "S", "9", " ", "t", "ll"])
        return "".join(draw() for _ in range(r.randint(1, 15)))

    def numbers(self):
        r = self.random
        forms = ["{:d}", "{:,d}", "-{:d}.5", "{:d}%", "${:d}", "{:d}px", "x{:d}y", "{:d}th", "²{:d}"]
        return " ".join(r.choice(forms).format(r.randint(0, 10 ** r.randint(1, 12))) for _ in range(r.randint(1, 8)))

    def specials(self):
        r = self.random
        draw = lambda: r.choice([r.choice(SPECIAL), r.choice(SPECIAL), r.choice(SPACES), r.choice(WORDS), self.character()])
        return "".join(draw() for _ in range(r.randint(1, 10)))

    def mixed(self):
        r = self.random
        makers = [lambda: self.words(3), self.one_script, self.emoji, self.marks]
        return "".join(r.choice(makers)() for _ in range(r.randint(1, 4)))

    def not_utf8(self):
        r = self.random
        data = bytearray(r.choice([self.words(4), self.any_characters(), self.marks()]).encode())
        for _ in range(r.randint(1, 6)):
            at = r.randint(0, len(data))
            wrong = [r.choice([r.randint(0x80, 0xFF), r.randint(0xC0, 0xFF), 0xED, 0xF4, 0x20]) for _ in range(r.randint(0, 3))]
            data[at : at + r.choice([0, 0, 1])] = bytes(wrong)
        return bytes(data)


def prompts():
    maker = Maker(20260622)
    out = [s.encode() for s in SENTENCES]
    out += ["x" * 3000, "abc " * 400, "ａ" * 700, "\u0301" * 300, "'" * 500, "漢字" * 300, "🙂" * 200, maker.words(1200), "<|endoftext|>" * 100, "a" + "\u0323\u0307" * 200]
    kinds = [(maker.words, 1300), (maker.one_script, 900), (maker.any_characters, 700), (maker.marks, 600), (maker.emoji, 300), (maker.controls, 300),
             (maker.punctuation, 300), (maker.numbers, 200), (maker.specials, 300), (maker.mixed, 300), (maker.not_utf8, 300)]
    left = [kind for kind, count in kinds for _ in range(count)]
    maker.random.shuffle(left)
    for kind in left:
        out.append(kind(25) if kind == maker.words else kind())
    return [p if isinstance(p, bytes) else p.encode() for p in out]


def t5_config():
    """SD3's tokenizer_3/tokenizer_config.json: its sentinels swallow the white space around them."""
    plain = {"normalized": False, "single_word": False, "special": True}
    tokens = {str(i): {"content": c, "lstrip": False, "rstrip": False, **plain} for i, c in enumerate(["<pad>", "</s>", "<unk>"])}
    tokens |= {str(32099 - i): {"content": f"<extra_id_{i}>", "lstrip": True, "rstrip": True, **plain} for i in range(100)}
    return {"add_prefix_space": True, "added_tokens_decoder": tokens, "additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)],
            "clean_up_tokenization_spaces": True, "eos_token": "</s>", "extra_ids": 100, "legacy": True, "model_max_length": 512,
            "pad_token": "<pad>", "sp_model_kwargs": {}, "tokenizer_class": "T5Tokenizer", "unk_token": "<unk>"}


def fnv(ids):
    """FNV-1a over the ids as four little-endian bytes each."""
    value = 0xCBF29CE484222325
    for byte in numpy.asarray(ids, "<u4").tobytes():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return numpy.uint64(value).astype(numpy.int64)


def main(assets, target):
    data = prompts()
    out = {"prompts": numpy.frombuffer(b"".join(data), numpy.uint8), "prompt_ends": numpy.cumsum([len(p) for p in data])}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ["tokenizer", "tokenizer_2"]:
            shutil.copytree(assets / "sd3_config" / name, folder / name)
            for file in ["vocab.json", "merges.txt"]:
                shutil.copy(assets / "tokenizers/clip" / file, folder / name / file)
        (folder / "tokenizer_3").mkdir()
        shutil.copy(assets / "tokenizers/t5/spiece.model", folder / "tokenizer_3")
        (folder / "tokenizer_3/tokenizer_config.json").write_text(json.dumps(t5_config()))
        tokenizers = {"clip_l": (CLIPTokenizer.from_pretrained(folder / "tokenizer"), 77),
                      "clip_g": (CLIPTokenizer.from_pretrained(folder / "tokenizer_2"), 77),
                      "t5": (T5TokenizerFast.from_pretrained(folder / "tokenizer_3"), 256)}
    texts = [p.decode("utf-8", errors="replace") for p in data]
    for name, (tokenizer, length) in tokenizers.items():
        whole = tokenizer(texts).input_ids
        cut = tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids
        out |= {f"{name}.hash": numpy.array([fnv(x) for x in whole]), f"{name}.cut_hash": numpy.array([fnv(x) for x in cut])}
        first = whole[:WRITTEN_OUT]
        out |= {f"{name}.ids": numpy.array(sum(first, []), numpy.int32), f"{name}.id_ends": numpy.cumsum([len(x) for x in first])}
    save_file(out, target)
    print(f"{len(data)} prompts, {len(b''.join(data))} bytes; longest {max(map(len, whole))} T5 ids")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])

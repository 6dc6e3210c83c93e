#!/usr/bin/env python3
"""tokenizer.json files as transformers 5 saves them, and their ids of some prompts by Hugging Face's tokenizers library.

Usage: tokenizer_json_reference.py src/vggflow/text/testdata/tokenizer_json
Writes clip/, t5/ and bert/, each tokenizer.json and tokenizer_config.json alone (small vocabularies made up here), and ids.json.
"""
import json
import pathlib
import shutil
import sys

from transformers import AutoTokenizer, BertTokenizer, CLIPTokenizer, T5Tokenizer

PROMPTS = ["", " ", "a cat", "A CAT", "aaa aaaa", "the cat's  at the\tbat", "it's can't we'll", "café naïve e\u0301", "12 cats, 3 dogs!",
           "<|endoftext|> a<|startoftext|>b", "</s> x <pad>", "a <extra_id_0> b<extra_id_99>", "[CLS] a [SEP] b [MASK][mask]", "猫 cat 座",
           "ﬁne ＦＵＬＬ ½", "👍🏽 ❤️", "tab\tnew\nline", "un unaffable unaffables", "▁ a▁b", "!!", "abab ab bb", "ÀÉ ß", "x" * 110]


def byte_alphabet():
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(other)) for b in range(256)]


def clip():
    bytes_ = byte_alphabet()
    merges = [("a", "t</w>"), ("c", "a"), ("ca", "t</w>"), ("a", "a"), ("a", "a</w>"), ("aa", "aa</w>"), ("t", "h"), ("th", "e</w>")]
    tokens = bytes_ + [b + "</w>" for b in bytes_] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(dict.fromkeys(tokens))}, merges=merges, model_max_length=77)


def t5():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("a", -4.0), ("b", -4.0), ("ab", -7.0), ("▁a", -5.0),
              ("▁ab", -9.5), ("bb", -9.0), ("c", -2.0), ("at", -3.5), ("▁cat", -4.5), ("t", -6.25), ("é", -7.5), ("!", -5.0), ("s", -5.5)]
    return T5Tokenizer(vocab=pieces, extra_ids=100, model_max_length=512)


def bert():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789!',.", *("##" + c for c in "aeinstz12"),
              "cat", "##s", "un", "una", "##aff", "##able", "##ff", "the", "猫"]
    return BertTokenizer(vocab={t: i for i, t in enumerate(dict.fromkeys(tokens))})


target = pathlib.Path(sys.argv[1])
ids = {}
for name, make in (("clip", clip), ("t5", t5), ("bert", bert)):
    folder = target / name
    shutil.rmtree(folder, ignore_errors=True)
    make().save_pretrained(folder)
    files = sorted(f.name for f in folder.iterdir())
    assert files == ["tokenizer.json", "tokenizer_config.json"], files
    saved = AutoTokenizer.from_pretrained(folder)
    ids[name] = [{"text": text, "ids": saved(text).input_ids} for text in PROMPTS]
lines = [f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "]" for name, cases in ids.items()]
(target / "ids.json").write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")

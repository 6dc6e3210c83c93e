#!/usr/bin/env python3
"""Ids of BERT's tokenizer from transformers, for the prompts of tokenizer_reference.py and [DEC] and [ENC] as BLIP adds them.
Usage: wordpiece_reference.py src/vggflow/text/testdata [VOCAB]
Writes wordpiece_vocab.txt (made up here: the parts of the prompts' words, so that most words are known and some are not) and
wordpiece_reference.safetensors: the ids of each tenth prompt with it. With VOCAB, the vocab.txt of bert-base-uncased, also one FNV-1a hash a
prompt of its ids, whole and cut to 35, under "real"."""
import pathlib
import random
import runpy
import sys

import numpy
from safetensors.numpy import save_file
from transformers import BertTokenizer

HERE = pathlib.Path(__file__).parent
EXTRA = ["[CLS] a [SEP] b", "x[MASK]y [mask] [PAD][UNK]", "[DEC] a photo [ENC]", "[ENC][DEC]x", "[dec] [ CLS ]",
         "a" * 100 + " " + "a" * 101, "é" * 100 + "中" * 3]


def load(file):
    tokens = file.read_text(encoding="utf-8").split("\n")[:-1]
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    return tokenizer


def make_vocabulary(texts):
    """Every second character of the prompts after normalisation, single and as a continuation, and pieces of the commonest words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    probe = BertTokenizer(vocab={t: i for i, t in enumerate(tokens)})._tokenizer
    counts = {}
    for text in texts:
        for word, _ in probe.pre_tokenizer.pre_tokenize_str(probe.normalizer.normalize_str(text)):
            counts[word] = counts.get(word, 0) + 1
    draw = random.Random(5)
    characters = sorted({c for word in counts for c in word})
    known = [c for c in characters if ord(c) < 0x250 or draw.random() < 0.15]
    tokens += known + ["##" + c for c in known if draw.random() < 0.7]
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:150]:
        cut = draw.randint(1, len(word))
        tokens += [word[:cut], "##" + word[cut:]] if cut < len(word) else [word]
    return list(dict.fromkeys(tokens))


tools = runpy.run_path(str(HERE / "tokenizer_reference.py"), run_name="tools")
target = pathlib.Path(sys.argv[1])
data = tools["prompts"]() + [text.encode() for text in EXTRA]
texts = [p.decode("utf-8", errors="replace") for p in data]
(target / "wordpiece_vocab.txt").write_text("".join(t + "\n" for t in make_vocabulary(texts)), encoding="utf-8")
shown = list(range(0, len(data), 10)) + list(range(len(data) - len(EXTRA), len(data)))
ids = [load(target / "wordpiece_vocab.txt")(texts[i]).input_ids for i in shown]
out = {"prompts": numpy.frombuffer(b"".join(data[i] for i in shown), numpy.uint8),
       "prompt_ends": numpy.cumsum([len(data[i]) for i in shown]).astype("<i4"),
       "ids": numpy.array(sum(ids, []), "<i2"), "id_ends": numpy.cumsum([len(x) for x in ids]).astype("<i4")}
if len(sys.argv) > 2:
    tokenizer = load(pathlib.Path(sys.argv[2]))
    fnv = tools["fnv"]
    out |= {"real.hash": numpy.array([fnv(x) for x in tokenizer(texts[:-len(EXTRA)]).input_ids]),
            "real.cut_hash": numpy.array([fnv(x) for x in tokenizer(texts[:-len(EXTRA)], truncation=True, max_length=35).input_ids])}
save_file(out, target / "wordpiece_reference.safetensors")
unknown = sum(x.count(1) for x in ids) / sum(map(len, ids))
print(f"{len(shown)} prompts written out, {unknown:.0%} of their ids unknown; {len(data)} in all")

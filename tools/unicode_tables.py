#!/usr/bin/env python3
"""Writes src/vggflow/text/unicode_tables.cpp: the Unicode properties that the tokenizers need, as the pinned tokenizers library sees
them. Its parts follow different Unicode versions (the regex engine 16, lower-casing 17, normalisation 12), so each property is asked
of the library itself, one code point at a time; python's unicodedata gives what can only be read, the combining classes and the
decompositions, and is then held against the library. Grapheme classes come from the regex package, whose version is newer than the
library's: where the library can be asked (code points of up to three bytes that join what stands before them) its answer counts.
Usage: unicode_tables.py SPIECE_MODEL > src/vggflow/text/unicode_tables.cpp   (packages: tools/reference/requirements.txt)"""
import sys
import unicodedata

import regex
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers, pre_tokenizers

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)


def of_class(pattern):
    """Code points that the library's regex engine matches."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    found = set()
    for i in range(0, len(CODES), 4096):
        for piece, _ in split.pre_tokenize_str("".join(map(chr, CODES[i : i + 4096]))):
            found.update(map(ord, piece))
    return sorted(found)


def ranges(codes, value=lambda c: None):
    """[first, last, value] of runs of neighbours with one value."""
    out = []
    for c in codes:
        if out and out[-1][1] + 1 == c and out[-1][2] == value(c):
            out[-1][1] = c
        else:
            out.append([c, c, value(c)])
    return out


def lower_case():
    """[first, last, step, delta] of runs that move by the same distance; U+0130 gives two characters and is the code's own case."""
    lower = normalizers.Lowercase()
    moves = {c: lower.normalize_str(chr(c)) for c in CODES}
    moves = {c: s for c, s in moves.items() if s != chr(c)}
    assert [c for c, s in moves.items() if len(s) > 1] == [0x130] and moves.pop(0x130) == "i\u0307"
    out = []
    for c, s in moves.items():
        delta = ord(s) - c
        if out and out[-1][3] == delta and (out[-1][0] == out[-1][1] and c - out[-1][1] <= 2 or c - out[-1][1] == out[-1][2]):
            out[-1][2] = c - out[-1][1]
            out[-1][1] = c
        else:
            out.append([c, c, 1, delta])
    return out


def combining_classes():
    nfd = normalizers.NFD()

    def known(c, combining_class):
        """Whether the library sorts c before a mark of a higher class."""
        pair = "a" + ("\u0301" if combining_class < 230 else "\u0345") + chr(c)  # classes 230 and 240, the last there is
        return c == 0x345 or nfd.normalize_str(pair) != pair

    classes = {c: unicodedata.combining(chr(c)) for c in CODES if unicodedata.combining(chr(c))}
    return ranges([c for c, value in classes.items() if known(c, value)], classes.get)


def decompositions():
    """(code, first, second or 0, whether the pair composes), Hangul syllables left out."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    out = []
    for c in CODES:
        text = unicodedata.decomposition(chr(c))
        if not text or text.startswith("<") or c in HANGUL or nfd.normalize_str(chr(c)) == chr(c):
            continue
        parts = [int(x, 16) for x in text.split()]
        out.append((c, *(parts + [0])[:2], int(len(parts) == 2 and nfc.normalize_str("".join(map(chr, parts))) == chr(c))))
    assert {c for c in CODES if nfd.normalize_str(chr(c)) != chr(c)} - set(HANGUL) == {row[0] for row in out}
    return out


def bert_normalized(**rules):
    """What BERT's normaliser makes of each code point under some of its rules."""
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    normalizer = normalizers.BertNormalizer(**off | rules)
    return {c: normalizer.normalize_str(chr(c)) for c in CODES}


def bert_dropped():
    cleaned = bert_normalized(clean_text=True)
    dropped = {c for c in CODES if not cleaned[c]}
    assert all(cleaned[c] == " " for c in set(of_class(r"\s")) - dropped) and all(s in ("", " ", chr(c)) for c, s in cleaned.items())
    return sorted(dropped)


def bert_accents():
    """Marks that are dropped from decomposed text."""
    return [c for c, s in bert_normalized(strip_accents=True).items() if not s and normalizers.NFD().normalize_str(chr(c)) == chr(c)]


def bert_ideographs():
    return [c for c, s in bert_normalized(handle_chinese_chars=True).items() if s == f" {chr(c)} "]


def bert_punctuation():
    """Code points that stand alone between two letters."""
    split = pre_tokenizers.BertPreTokenizer()
    return [c for c in CODES if len(split.pre_tokenize_str(f"a{chr(c)}b")) == 3]


GRAPHEME = {"CR": "kCr", "LF": "kLf", "Control": "kControl", "ZWJ": "kZwj", "SpacingMark": "kSpacingMark", "Prepend": "kPrepend",
            "Regional_Indicator": "kRegional", "L": "kLeading", "V": "kVowel", "T": "kTrailing"}


def grapheme_classes(model):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(open(model, "rb").read())
    t5 = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)

    def members(prop):
        matches = regex.compile(rf"\p{{{prop}}}").match
        return {c for c in CODES if matches(chr(c))}

    classes = {}
    for prop, name in GRAPHEME.items():
        classes |= dict.fromkeys(members("GCB=" + prop), name)
    classes |= dict.fromkeys(members("ExtPict"), "kPictographic") | dict.fromkeys(members("InCB=Consonant"), "kConsonant")
    linkers, inner = members("InCB=Linker"), members("InCB=Extend")
    for c in members("GCB=Extend"):
        classes[c] = "kLinker" if c in linkers else "kExtend" if c in inner else "kExtendOnly"
    joins = {"kExtend", "kExtendOnly", "kLinker", "kSpacingMark", "kZwj"}
    for c in range(0x80, 0x10000):
        # T5's normaliser maps a grapheme of up to five bytes by its first character: what joins U+00AA is swallowed.
        if classes.get(c) in joins and t5.normalize_str(chr(c)) and t5.normalize_str("\u00aa" + chr(c)) != "a":
            del classes[c]
    return ranges(sorted(classes), classes.get)


def emit(kind, name, rows):
    print(f"\nconstexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        cell = " {" + ",".join(x if isinstance(x, str) else f"{x:#x}" if x >= 0 else str(x) for x in row) + "},"
        if len(line) + len(cell) > 150:
            print(line)
            line = "   "
        line += cell
    print(line + "\n};")


print("// Written by tools/unicode_tables.py: do not edit. What the pinned tokenizers library takes for letters, numbers, lower case,\n"
      "// canonical decompositions and graphemes, and what BERT's normaliser does to a character.\n#include \"vggflow/text/unicode_tables.h\"\n\nnamespace vggflow::unicode {\nnamespace {\n")
print("using enum Grapheme;")
emit("Range", "kLetters", [r[:2] for r in ranges(of_class(r"\p{L}"))])
emit("Range", "kNumbers", [r[:2] for r in ranges(of_class(r"\p{N}"))])
emit("Range", "kSpaces", [r[:2] for r in ranges(of_class(r"\s"))])
emit("CaseShift", "kLowerCase", lower_case())
emit("CombiningRange", "kCombining", combining_classes())
emit("Decomposition", "kDecompositions", decompositions())
emit("GraphemeRange", "kGraphemes", grapheme_classes(sys.argv[1]))
emit("Range", "kBertDropped", [r[:2] for r in ranges(bert_dropped())])
emit("Range", "kBertAccents", [r[:2] for r in ranges(bert_accents())])
emit("Range", "kBertIdeographs", [r[:2] for r in ranges(bert_ideographs())])
emit("Range", "kBertPunctuation", [r[:2] for r in ranges(bert_punctuation())])
print("\n}  // namespace\n")
for kind, function, name in [("Range", "letters", "kLetters"), ("Range", "numbers", "kNumbers"), ("Range", "spaces", "kSpaces"),
                             ("CaseShift", "lower_case", "kLowerCase"), ("CombiningRange", "combining", "kCombining"),
                             ("Decomposition", "decompositions", "kDecompositions"), ("GraphemeRange", "graphemes", "kGraphemes"),
                             ("Range", "bert_dropped", "kBertDropped"), ("Range", "bert_accents", "kBertAccents"),
                             ("Range", "bert_ideographs", "kBertIdeographs"), ("Range", "bert_punctuation", "kBertPunctuation")]:
    print(f"std::span<const {kind}> {function}() {{ return {name}; }}")
print("\n}  // namespace vggflow::unicode")

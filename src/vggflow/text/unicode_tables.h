#pragma once
// The tables behind text/unicode.h, written by tools/unicode_tables.py. Every table is sorted by
// code point.

#include <cstdint>
#include <span>

namespace vggflow::unicode {

struct Range {
  uint32_t first, last;
};
/// Every `step`-th code point of [first, last] has its lower case `delta` away.
struct CaseShift {
  uint32_t first, last, step;
  int32_t delta;
};
struct CombiningRange {
  uint32_t first, last;
  uint8_t combining_class;
};
/// Canonical decomposition into one (second = 0) or two code points; `composes` says whether the
/// pair is put together again.
struct Decomposition {
  uint32_t code, first, second;
  bool composes;
};
/// Classes of UAX 29. Marks are split by their part in conjuncts (rule GB9c): kLinker, kExtend
/// (passed over), kExtendOnly (ends one).
enum class Grapheme : uint8_t {
  kOther,
  kCr,
  kLf,
  kControl,
  kExtend,
  kExtendOnly,
  kLinker,
  kZwj,
  kSpacingMark,
  kPrepend,
  kRegional,
  kLeading,
  kVowel,
  kTrailing,
  kLv,
  kLvt,
  kPictographic,
  kConsonant
};
struct GraphemeRange {
  uint32_t first, last;
  Grapheme value;
};

std::span<const Range> letters();
std::span<const Range> numbers();
std::span<const Range> spaces();
std::span<const CaseShift> lower_case();
std::span<const CombiningRange> combining();
std::span<const Decomposition> decompositions();
std::span<const GraphemeRange> graphemes();
std::span<const Range> bert_dropped();
std::span<const Range> bert_accents();
std::span<const Range> bert_ideographs();
std::span<const Range> bert_punctuation();

}  // namespace vggflow::unicode

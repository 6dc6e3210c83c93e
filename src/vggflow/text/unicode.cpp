#include "vggflow/text/unicode.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "vggflow/text/unicode_tables.h"

namespace vggflow::unicode {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kHangulFirst = 0xAC00, kLeadingFirst = 0x1100, kVowelFirst = 0x1161,
                   kTrailingBase = 0x11A7;
constexpr char32_t kLeadings = 19, kVowels = 21, kTrailings = 28,
                   kSyllables = kLeadings * kVowels * kTrailings;

// The row of a table sorted by [first, last] that holds c, or null.
template <class Row>
const Row* find_range(std::span<const Row> table, char32_t c) {
  const auto row =
      std::partition_point(table.begin(), table.end(), [c](const Row& r) { return r.last < c; });
  return row != table.end() && row->first <= c ? &*row : nullptr;
}

// Length of the sequence that a lead byte opens, and the range of its second byte, which excludes
// overlong forms, surrogates and code points beyond U+10FFFF (Unicode 15, table 3-7).
struct Lead {
  size_t length;
  uint8_t low, high;
};
Lead lead_of(uint8_t b) {
  if (b >= 0xC2 && b <= 0xDF) return {2, 0x80, 0xBF};
  if (b >= 0xE0 && b <= 0xEF)
    return {3, static_cast<uint8_t>(b == 0xE0 ? 0xA0 : 0x80),
            static_cast<uint8_t>(b == 0xED ? 0x9F : 0xBF)};
  if (b >= 0xF0 && b <= 0xF4)
    return {4, static_cast<uint8_t>(b == 0xF0 ? 0x90 : 0x80),
            static_cast<uint8_t>(b == 0xF4 ? 0x8F : 0xBF)};
  return {0, 0, 0};
}

uint8_t combining_class(char32_t c) {
  if (c < 0x300) return 0;
  const auto* row = find_range(combining(), c);
  return row ? row->combining_class : 0;
}

void decompose(char32_t c, std::u32string& out) {
  if (c < 0xC0) {
    out.push_back(c);
    return;
  }
  if (c >= kHangulFirst && c < kHangulFirst + kSyllables) {
    const char32_t s = c - kHangulFirst;
    out.push_back(kLeadingFirst + s / (kVowels * kTrailings));
    out.push_back(kVowelFirst + s % (kVowels * kTrailings) / kTrailings);
    if (s % kTrailings) out.push_back(kTrailingBase + s % kTrailings);
    return;
  }
  const auto table = decompositions();
  const auto row = std::partition_point(table.begin(), table.end(),
                                        [c](const Decomposition& d) { return d.code < c; });
  if (row == table.end() || row->code != c) {
    out.push_back(c);
    return;
  }
  decompose(row->first, out);
  if (row->second) decompose(row->second, out);
}

// Sorts every run of marks by combining class, equal classes in the order they came.
void sort_marks(std::u32string& text) {
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(i),
                     text.begin() + static_cast<std::ptrdiff_t>(end), [](char32_t a, char32_t b) {
                       return combining_class(a) < combining_class(b);
                     });
    i = std::max(end, i + 1);
  }
}

// The composition of a pair, or 0.
char32_t compose(char32_t a, char32_t b) {
  static const std::unordered_map<uint64_t, char32_t> pairs = [] {
    std::unordered_map<uint64_t, char32_t> map;
    for (const Decomposition& d : decompositions()) {
      if (d.composes) map[uint64_t{d.first} << 32 | d.second] = d.code;
    }
    return map;
  }();
  if (a >= kLeadingFirst && a < kLeadingFirst + kLeadings && b >= kVowelFirst &&
      b < kVowelFirst + kVowels) {
    return kHangulFirst + ((a - kLeadingFirst) * kVowels + (b - kVowelFirst)) * kTrailings;
  }
  const bool is_lv =
      a >= kHangulFirst && a < kHangulFirst + kSyllables && (a - kHangulFirst) % kTrailings == 0;
  if (is_lv && b > kTrailingBase && b < kTrailingBase + kTrailings) return a + (b - kTrailingBase);
  const auto found = pairs.find(uint64_t{a} << 32 | b);
  return found == pairs.end() ? 0 : found->second;
}

// Joins each character to the last starter unless one of its own or a higher class stands between.
std::u32string compose_all(const std::u32string& text) {
  std::u32string out;
  size_t starter = std::u32string::npos;
  uint8_t before = 0;  // class of the last character after the starter, 0 if there is none
  for (const char32_t c : text) {
    const uint8_t own = combining_class(c);
    if (starter != std::u32string::npos &&
        (out.size() == starter + 1 || (before != 0 && before < own))) {
      if (const char32_t joined = compose(out[starter], c)) {
        out[starter] = joined;
        continue;
      }
    }
    if (own == 0) starter = out.size();
    before = own;
    out.push_back(c);
  }
  return out;
}

Grapheme grapheme_class(char32_t c) {
  if (c >= 0x20 && c < 0x7F) return Grapheme::kOther;
  if (c >= kHangulFirst && c < kHangulFirst + kSyllables)
    return (c - kHangulFirst) % kTrailings ? Grapheme::kLvt : Grapheme::kLv;
  const auto* row = find_range(graphemes(), c);
  return row ? row->value : Grapheme::kOther;
}

bool is_extend(Grapheme g) {
  return g == Grapheme::kExtend || g == Grapheme::kExtendOnly || g == Grapheme::kLinker;
}
bool is_control(Grapheme g) {
  return g == Grapheme::kControl || g == Grapheme::kCr || g == Grapheme::kLf;
}

// The rules of UAX 29 over one cluster: joins() asks whether it goes on with `next`, enter() takes
// that in.
class Cluster {
 public:
  explicit Cluster(Grapheme first) { enter(first); }

  bool joins(Grapheme next) const {
    using enum Grapheme;
    if (last_ == kCr && next == kLf) return true;             // GB3
    if (is_control(last_) || is_control(next)) return false;  // GB4, GB5
    if (last_ == kLeading) {                                  // GB6
      if (next == kLeading || next == kVowel || next == kLv || next == kLvt) return true;
    }
    if ((last_ == kLv || last_ == kVowel) && (next == kVowel || next == kTrailing))
      return true;                                                                // GB7
    if ((last_ == kLvt || last_ == kTrailing) && next == kTrailing) return true;  // GB8
    if (is_extend(next) || next == kZwj || next == kSpacingMark) return true;     // GB9, GB9a
    if (last_ == kPrepend) return true;                                           // GB9b
    if (linked_ && next == kConsonant) return true;                               // GB9c
    if (emoji_joiner_ && next == kPictographic) return true;                      // GB11
    return last_ == kRegional && next == kRegional && regionals_ % 2 == 1;        // GB12, GB13
  }

  void enter(Grapheme next) {
    using enum Grapheme;
    emoji_joiner_ = emoji_ && next == kZwj;
    emoji_ = next == kPictographic || (emoji_ && is_extend(next));
    const bool passes = next == kExtend || next == kZwj || next == kLinker;
    linked_ = passes && (linked_ || (consonant_ && next == kLinker));
    consonant_ = next == kConsonant || (consonant_ && passes);
    regionals_ += next == kRegional;
    last_ = next;
  }

 private:
  Grapheme last_ = Grapheme::kOther;
  bool emoji_ = false, emoji_joiner_ = false, consonant_ = false, linked_ = false;
  int64_t regionals_ = 0;
};

}  // namespace

std::u32string decode(std::string_view bytes) {
  std::u32string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const auto at = [&](size_t k) { return static_cast<uint8_t>(bytes[k]); };
    const uint8_t b = at(i++);
    if (b < 0x80) {
      text.push_back(b);
      continue;
    }
    const Lead lead = lead_of(b);
    char32_t c = lead.length == 0 ? 0 : b & (0x7F >> lead.length);
    size_t have = 1;
    for (; have < lead.length && i < bytes.size(); ++have, ++i) {
      const bool fits =
          have == 1 ? at(i) >= lead.low && at(i) <= lead.high : (at(i) & 0xC0) == 0x80;
      if (!fits) break;
      c = c << 6 | (at(i) & 0x3F);
    }
    text.push_back(have == lead.length ? c : kReplacement);
  }
  return text;
}

std::string encode(std::u32string_view text) {
  std::string bytes;
  const auto push = [&bytes](char32_t b) {
    bytes.push_back(static_cast<char>(static_cast<uint8_t>(b)));
  };
  for (const char32_t c : text) {
    if (c < 0x80) {
      push(c);
    } else if (c < 0x800) {
      push(0xC0 | c >> 6), push(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
      push(0xE0 | c >> 12), push(0x80 | (c >> 6 & 0x3F)), push(0x80 | (c & 0x3F));
    } else {
      push(0xF0 | c >> 18), push(0x80 | (c >> 12 & 0x3F)), push(0x80 | (c >> 6 & 0x3F)),
          push(0x80 | (c & 0x3F));
    }
  }
  return bytes;
}

bool is_letter(char32_t c) {
  if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  return find_range(letters(), c) != nullptr;
}

bool is_number(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return find_range(numbers(), c) != nullptr;
}

bool is_space(char32_t c) { return find_range(spaces(), c) != nullptr; }

bool is_bert_dropped(char32_t c) { return find_range(bert_dropped(), c) != nullptr; }
bool is_bert_accent(char32_t c) { return find_range(bert_accents(), c) != nullptr; }
bool is_bert_ideograph(char32_t c) { return find_range(bert_ideographs(), c) != nullptr; }
bool is_bert_punctuation(char32_t c) { return find_range(bert_punctuation(), c) != nullptr; }

std::u32string lower(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    if (c == 0x130) {  // I with a dot above: the only one that becomes two
      out += U"i\u0307";
      continue;
    }
    const auto* row = find_range(lower_case(), c);
    out.push_back(row && (c - row->first) % row->step == 0 ? c + static_cast<char32_t>(row->delta)
                                                           : c);
  }
  return out;
}

std::u32string nfc(std::u32string_view text) {
  // Nothing below U+0300 is a mark or an excluded composite.
  if (std::ranges::all_of(text, [](char32_t c) { return c < 0x300; })) return std::u32string(text);
  return compose_all(nfd(text));
}

std::u32string nfd(std::u32string_view text) {
  std::u32string parts;
  parts.reserve(text.size());
  for (const char32_t c : text) decompose(c, parts);
  sort_marks(parts);
  return parts;
}

size_t grapheme_end(std::u32string_view text, size_t begin) {
  Cluster cluster(grapheme_class(text[begin]));
  size_t end = begin + 1;
  for (; end < text.size(); ++end) {
    const Grapheme next = grapheme_class(text[end]);
    if (!cluster.joins(next)) break;
    cluster.enter(next);
  }
  return end;
}

}  // namespace vggflow::unicode

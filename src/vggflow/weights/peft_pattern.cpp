#include "vggflow/weights/peft_pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <bitset>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

using Signs = std::bitset<128>;  // a class of ASCII

enum class Kind {
  kSign,
  kBegin,
  kEnd,
  kEdge,
  kNoEdge,
  kSequence,
  kChoice,
  kRepeat,
  kAhead,
  kNotAhead
};

struct Node {
  Kind kind = Kind::kSequence;
  Signs signs;
  std::vector<Node> parts;
  size_t least = 0, most = 0;  // of a repeat
};

Node node_of(Kind kind) {
  Node out;
  out.kind = kind;
  return out;
}

Node node_of(const Signs& signs) {
  Node out = node_of(Kind::kSign);
  out.signs = signs;
  return out;
}

Signs only(char c) { return Signs().set(static_cast<unsigned char>(c)); }

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// "\d", "\W" ... as Python has them for str: its white space holds the separators 28 to 31.
std::optional<Signs> category(char c) {
  Signs out;
  for (size_t i = 0; i < out.size(); ++i) {
    const char sign = static_cast<char>(i);
    switch (std::tolower(static_cast<unsigned char>(c))) {
      case 'd':
        out[i] = sign >= '0' && sign <= '9';
        break;
      case 's':
        out[i] = sign == ' ' || (sign >= 9 && sign <= 13) || (sign >= 28 && sign <= 31);
        break;
      case 'w':
        out[i] = is_word(sign);
        break;
      default:
        return std::nullopt;
    }
  }
  return std::isupper(static_cast<unsigned char>(c)) ? ~out : out;
}

std::optional<char> control(char c) {
  switch (c) {
    case 'a':
      return '\a';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'v':
      return '\v';
    default:
      return std::nullopt;
  }
}

// By the rules of Python's re module (re/_parser.py).
class Parser {
 public:
  explicit Parser(const std::string& pattern) : pattern_(pattern), rest_(pattern) {}

  Node read() {
    Node all = choice();
    if (!rest_.empty()) refuse("a ')' without its '('");
    return all;
  }

 private:
  struct Bounds {
    size_t least, most;
  };

  [[noreturn]] void refuse(const std::string& what) const {
    fail(
        "[lora] the settings name layers by the regular expression '{}', which is not read: it has "
        "{} before its sign {}. Write it with groups, classes, repeats and lookaheads alone, or "
        "name the layers",
        pattern_, what, pattern_.size() - rest_.size() + 1);
  }
  char next(const char* within) {
    if (rest_.empty()) refuse(fmt::format("no end of {}", within));
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  Node choice() {
    Node out = node_of(Kind::kChoice);
    do out.parts.push_back(sequence());
    while (take("|"));
    return out;
  }
  Node sequence() {
    Node out = node_of(Kind::kSequence);
    while (!rest_.empty() && rest_.front() != '|' && rest_.front() != ')')
      out.parts.push_back(repeated(item()));
    return out;
  }

  Node item() {
    if (quantifier()) refuse("a repeat of nothing");
    const char c = next("it");
    switch (c) {
      case '.':  // the path has no line end, the one sign that it would not be
        return node_of(~Signs());
      case '^':
        return node_of(Kind::kBegin);
      case '$':
        return node_of(Kind::kEnd);
      case '[':
        return node_of(read_class());
      case '(':
        return group();
      case '\\':
        return escape();
      default:
        return node_of(only(c));
    }
  }

  Node repeated(Node item) {
    const auto bounds = quantifier();
    if (!bounds) return item;
    constexpr Kind kPlaces[] = {Kind::kBegin, Kind::kEnd, Kind::kEdge, Kind::kNoEdge};
    if (std::find(std::begin(kPlaces), std::end(kPlaces), item.kind) != std::end(kPlaces))
      refuse("a repeat of a place such as '^'");
    // Whether a whole path matches does not depend on which repeat is tried first.
    const bool lazy = take("?");
    if (!lazy && take("+")) refuse("a possessive repeat");
    if (quantifier()) refuse("a repeat of a repeat");
    Node out = node_of(Kind::kRepeat);
    out.least = bounds->least;
    out.most = bounds->most;
    out.parts.push_back(std::move(item));
    return out;
  }

  // The repeat that stands here, if one does: "{" is a plain sign where no bounds follow.
  std::optional<Bounds> quantifier() {
    constexpr size_t kAny = SIZE_MAX;
    if (take("*")) return Bounds{0, kAny};
    if (take("+")) return Bounds{1, kAny};
    if (take("?")) return Bounds{0, 1};
    const std::string_view before = rest_;
    if (!take("{") || rest_.starts_with("}")) {
      rest_ = before;
      return std::nullopt;
    }
    const auto low = number();
    const bool range = take(",");
    const auto high = range ? number() : low;
    if (!take("}")) {
      rest_ = before;
      return std::nullopt;
    }
    const Bounds bounds{low.value_or(0), high.value_or(kAny)};
    if (bounds.least > bounds.most) refuse("a repeat whose bounds are the wrong way round");
    return bounds;
  }
  std::optional<size_t> number() {
    std::optional<size_t> out;
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      out = out.value_or(0) * 10 + static_cast<size_t>(rest_.front() - '0');
      if (*out > 1000000) refuse("a repeat of more than a million times");
      rest_.remove_prefix(1);
    }
    return out;
  }

  Node group() {
    Kind kind = Kind::kSequence;
    if (take("?")) {
      if (take("=")) {
        kind = Kind::kAhead;
      } else if (take("!")) {
        kind = Kind::kNotAhead;
      } else if (take("P<")) {
        read_name();
      } else if (!take(":")) {
        const bool behind = take("<=") || take("<!");
        refuse(behind ? "a lookbehind" : fmt::format("'(?{}'", rest_.substr(0, 1)));
      }
    }
    Node out = node_of(kind);
    out.parts.push_back(choice());
    if (!take(")")) refuse("a '(' without its ')'");
    return out;
  }
  void read_name() {
    std::string name;
    for (char c; (c = next("a group's name")) != '>';) name += c;
    const bool good = !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
                      std::all_of(name.begin(), name.end(), is_word);
    if (!good || !names_.insert(name).second) refuse(fmt::format("the name '{}' of a group", name));
  }

  Node escape() {
    const char c = next("an escape");
    switch (c) {
      case 'A':
        return node_of(Kind::kBegin);
      case 'Z':
        return node_of(Kind::kEnd);
      case 'b':
        return node_of(Kind::kEdge);
      case 'B':
        return node_of(Kind::kNoEdge);
      default:
        return node_of(escaped(c));
    }
  }
  Signs escaped(char c) const {
    if (const auto signs = category(c)) return *signs;
    if (const auto sign = control(c)) return only(*sign);
    if (std::isalnum(static_cast<unsigned char>(c))) refuse(fmt::format("'\\{}'", c));
    return only(c);
  }

  // A "]" that comes first is a plain sign, as every "[" is: Python has no "[:alpha:]".
  Signs read_class() {
    constexpr const char* kWithin = "a class ('[')";
    const bool negative = take("^");
    Signs all;
    for (bool first = true;; first = false) {
      const char c = next(kWithin);
      if (c == ']' && !first) break;
      const Signs from = class_sign(c);
      if (!rest_.starts_with('-') || rest_.starts_with("-]")) {
        all |= from;
        continue;
      }
      take("-");
      const Signs to = class_sign(next(kWithin));
      all |= range(from, to);
    }
    return negative ? ~all : all;
  }
  Signs class_sign(char c) {
    if (c != '\\') return only(c);
    const char escape = next("an escape");
    return escape == 'b' ? only('\b') : escaped(escape);
  }
  Signs range(const Signs& from, const Signs& to) const {
    size_t low = 0, high = 0;
    while (low < from.size() && !from[low]) ++low;
    while (high < to.size() && !to[high]) ++high;
    if (from.count() != 1 || to.count() != 1 || low > high) refuse("a range that is none");
    Signs out;
    for (size_t i = low; i <= high; ++i) out.set(i);
    return out;
  }

  const std::string& pattern_;
  std::string_view rest_;
  std::set<std::string> names_;
};

// Follows all matches at once: a place is a count of signs read, and each node takes the set of
// places where it may begin to the set where it may end. That takes polynomial time.
class Matcher {
 public:
  using Places = std::vector<bool>;
  explicit Matcher(const std::string& path) : path_(path) {}

  Places none() const { return Places(path_.size() + 1, false); }

  Places after(const Node& node, const Places& from) {
    constexpr size_t kMost = 50'000'000;
    work_ += from.size();
    VGGFLOW_CHECK(work_ <= kMost,
                  "[lora] a regular expression of the settings takes too long on '{}': expected "
                  "one with fewer repeats inside repeats and lookaheads",
                  path_);
    switch (node.kind) {
      case Kind::kSign:
        return after_sign(node.signs, from);
      case Kind::kSequence: {
        Places at = from;
        for (const Node& part : node.parts) at = after(part, at);
        return at;
      }
      case Kind::kChoice: {
        Places all = none();
        for (const Node& part : node.parts) unite(all, after(part, from));
        return all;
      }
      case Kind::kRepeat:
        return after_repeat(node, from);
      default:
        return kept(node, from);
    }
  }

 private:
  static bool any(const Places& places) {
    return std::find(places.begin(), places.end(), true) != places.end();
  }
  static void unite(Places& all, const Places& more) {
    for (size_t i = 0; i < all.size(); ++i) all[i] = all[i] || more[i];
  }

  Places after_sign(const Signs& signs, const Places& from) const {
    Places out = none();
    for (size_t i = 0; i < path_.size(); ++i)
      out[i + 1] = from[i] && signs[static_cast<unsigned char>(path_[i])];
    return out;
  }

  Places after_repeat(const Node& node, const Places& from) {
    Places at = from;
    for (size_t i = 0; i < node.least; ++i) {
      Places next = after(node.parts[0], at);
      if (next == at) break;
      at = std::move(next);
    }
    Places all = at;
    for (size_t i = node.least; i < node.most && any(at); ++i) {
      at = after(node.parts[0], at);
      for (size_t p = 0; p < at.size(); ++p) at[p] = at[p] && !all[p];
      unite(all, at);
    }
    return all;
  }

  // Nodes that read nothing keep some of the places.
  Places kept(const Node& node, const Places& from) {
    Places out = none();
    for (size_t i = 0; i < from.size(); ++i) out[i] = from[i] && holds(node, i);
    return out;
  }
  bool holds(const Node& node, size_t at) {
    switch (node.kind) {
      case Kind::kBegin:
        return at == 0;
      case Kind::kEnd:
        return at == path_.size();
      case Kind::kEdge:
        return is_edge(at);
      case Kind::kNoEdge:
        return !is_edge(at) && !path_.empty();  // as Python 3.11 has it
      default: {
        Places here = none();
        here[at] = true;
        return any(after(node.parts[0], here)) == (node.kind == Kind::kAhead);
      }
    }
  }
  bool is_edge(size_t at) const {
    const bool before = at > 0 && is_word(path_[at - 1]),
               behind = at < path_.size() && is_word(path_[at]);
    return before != behind;
  }

  const std::string& path_;
  size_t work_ = 0;
};

void expect_plain(const std::string& text) {
  constexpr size_t kLongest = 2000;
  VGGFLOW_CHECK(text.size() <= kLongest,
                "[lora] a pattern or a name of a layer has {} bytes, expected at most {}",
                text.size(), kLongest);
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 128 && c != '\n';
  });
  VGGFLOW_CHECK(plain,
                "[lora] expected ASCII signs without line ends in patterns and names of layers, "
                "got '{}'",
                text);
}

}  // namespace

bool peft_pattern_matches(const std::string& pattern, const std::string& path) {
  constexpr const char* kNameSigns =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
  expect_plain(pattern);
  expect_plain(path);
  // A name without other signs of an expression, of which a file has one per layer: '.' is any
  // sign.
  if (pattern.find_first_not_of(kNameSigns) == std::string::npos) {
    if (path.size() < pattern.size()) return false;
    const size_t at = path.size() - pattern.size();
    return (at == 0 || path[at - 1] == '.') &&
           std::equal(pattern.begin(), pattern.end(),
                      path.begin() + static_cast<std::ptrdiff_t>(at),
                      [](char p, char c) { return p == '.' || p == c; });
  }
  Matcher matcher(path);
  Matcher::Places begins = matcher.none();
  for (size_t i = 0; i < begins.size(); ++i) begins[i] = i == 0 || path[i - 1] == '.';
  return matcher.after(Parser(pattern).read(), begins)[path.size()];
}

}  // namespace vggflow

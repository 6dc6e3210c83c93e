#include "vggflow/rewards/expression.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <sstream>
#include <system_error>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

std::string trim(const std::string& text) {
  const size_t a = text.find_first_not_of(' '), b = text.find_last_not_of(' ');
  return a == std::string::npos ? "" : text.substr(a, b - a + 1);
}

// Reads terms from left to right.
class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  std::vector<WeightedName> terms() {
    std::vector<WeightedName> all{term()};
    while (at_ < text_.size()) {
      ++at_;  // the plus
      all.push_back(term());
    }
    return all;
  }

 private:
  [[noreturn]] void expected_term(const std::string& got) const {
    fail("[reward] expected 'weight*name + weight*name', got '{}' in '{}'", trim(got), text_);
  }
  void skip_spaces() { at_ = std::min(text_.find_first_not_of(' ', at_), text_.size()); }
  std::string take(size_t end) {
    const std::string piece = text_.substr(at_, end - at_);
    at_ = end;
    return piece;
  }
  size_t end_or(size_t found) const { return std::min(found, text_.size()); }

  WeightedName term() {
    skip_spaces();
    const double w = weight();
    skip_spaces();
    const std::string name = trim(address_or_word());
    if (name.empty()) expected_term(name);
    skip_spaces();
    return {w, name};
  }

  std::string address_or_word() {
    if (at_ < text_.size() && text_[at_] == '(') return bracketed();
    return has_scheme(text_.substr(at_)) ? take(end_or(text_.find(" + ", at_))) : word();
  }

  // The number before a '*', or 1 where there is none.
  double weight() {
    double value = 1;
    const char* const begin = text_.data() + at_;
    const auto [end, error] =
        std::from_chars(begin + (begin < text_.data() + text_.size() && *begin == '+'),
                        text_.data() + text_.size(), value);
    const size_t star = text_.find_first_not_of(' ', static_cast<size_t>(end - text_.data()));
    if (error != std::errc{} || star == std::string::npos || text_[star] != '*') return 1;
    if (!std::isfinite(value)) expected_term(text_.substr(at_, star - at_));
    at_ = star + 1;
    return value;
  }

  // A registered name, up to the next plus.
  std::string word() {
    const std::string name = take(end_or(text_.find('+', at_)));
    if (const size_t star = name.find('*'); star != std::string::npos)
      expected_term(name.substr(0, star));
    return name;
  }

  // What is between the bracket and the one that ends the term.
  std::string bracketed() {
    for (size_t close = text_.find(')', at_); close != std::string::npos;
         close = text_.find(')', close + 1)) {
      const size_t next = text_.find_first_not_of(' ', close + 1);
      if (next != std::string::npos && text_[next] != '+') continue;
      const std::string name = text_.substr(at_ + 1, close - at_ - 1);
      at_ = end_or(next);
      return name;
    }
    fail("[reward] expected a ')' that ends the term, got '{}' in '{}'", text_.substr(at_), text_);
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::vector<WeightedName> parse_expression(const std::string& expression) {
  return Parser(expression).terms();
}

bool has_scheme(const std::string& name) {
  const size_t letters = static_cast<size_t>(
      std::find_if(name.begin(), name.end(), [](unsigned char c) { return !std::islower(c); }) -
      name.begin());
  return letters > 0 && letters < name.size() && name[letters] == ':';
}

Address split_options(const std::string& name, char mark) {
  const size_t at = name.rfind(mark);
  if (at == std::string::npos) return {name, {}};
  Address address{name.substr(0, at), {}};
  std::istringstream in(name.substr(at + 1));
  for (std::string pair; std::getline(in, pair, '&');) {
    const size_t equals = pair.find('=');
    VGGFLOW_CHECK(equals != std::string::npos && equals > 0,
                  "[reward] expected key=value after the '{}' of '{}', got '{}'", mark, name, pair);
    const std::string key = pair.substr(0, equals);
    for (const auto& [known, value] : address.options)
      VGGFLOW_CHECK(known != key, "[reward] the option '{}' is given twice in '{}'", key, name);
    address.options.emplace_back(key, pair.substr(equals + 1));
  }
  return address;
}

}  // namespace vggflow

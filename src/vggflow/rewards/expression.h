#pragma once
// Reward expressions:  expression = term {"+" term},  term = [number "*"] name.
//
// A name is a registered word (emoji-clip), or has a scheme and then an address that may hold any
// sign (plugin:/a+b*c.so?k=v, http://host/score). An address ends at the next " + " with spaces, or
// at the end; one that holds " + " itself is written in round brackets: 0.5*(plugin:/my + own.so) +
// colorfulness.

#include <string>
#include <utility>
#include <vector>

namespace vggflow {

struct WeightedName {
  double weight;
  std::string name;
  bool operator==(const WeightedName&) const = default;
};

/// The terms of an expression, without its brackets and outer spaces. Throws for a weight that is
/// no number, an empty term, or an unclosed bracket.
std::vector<WeightedName> parse_expression(const std::string& expression);

/// Whether a name is an address: it begins with letters and a colon.
bool has_scheme(const std::string& name);

/// "address?a=1&b=2" as the part before the mark and the pairs after it, in the order written. The
/// mark is the last '?' or '#' in the name; a pair without '=', an empty key or one given twice is
/// refused.
struct Address {
  std::string base;
  std::vector<std::pair<std::string, std::string>> options;
};
Address split_options(const std::string& name, char mark);

}  // namespace vggflow

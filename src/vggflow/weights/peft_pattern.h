#pragma once
// PEFT's patterns of layers, which are Python's regular expressions. C++'s differ in silence ("\Z",
// "[]k]", "[[:alpha:]]", "\b" in a lookahead), so that they are read here as Python reads them.

#include <string>

namespace vggflow {

/// Whether PEFT's pattern names the module: Python's re.match(rf"(.*\.)?({pattern})$", path), for a
/// path of ASCII signs. Takes literals, classes, groups (named ones too), alternatives, repeats
/// (lazy ones too), "^ $ \A \Z \b \B \d \D \s \S \w \W" and lookaheads. Throws with the construct's
/// name for all else that Python has (flags, lookbehinds, references, possessive repeats, codes of
/// signs) or refuses, and where a match would take more than about a second.
bool peft_pattern_matches(const std::string& pattern, const std::string& path);

}  // namespace vggflow

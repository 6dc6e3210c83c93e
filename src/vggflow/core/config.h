#pragma once
// Configuration from one field list. A settings struct writes each field down once,
//
//   struct AlignConfig {
//     int64_t updates = 100;
//     template <class V> void fields(V& v) { v("updates", updates, "updates of the policy",
//     range(1, 1e6)); }
//   };
//
// and loading, overrides, help and saving walk that list: fields_of(config) gives it as plain data.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "vggflow/core/field.h"

namespace vggflow {

/// A field that holds an enum, by the place of its word among the choices.
struct EnumTarget {
  std::function<size_t()> get;
  std::function<void(size_t place)> set;
};

/// A field that holds a list of enums, by the places of their words.
struct EnumListTarget {
  std::function<std::vector<size_t>()> get;
  std::function<void(const std::vector<size_t>& places)> set;
};

/// One field: its dotted key, where its value lies, and what it may hold.
struct Field {
  using Target =
      std::variant<bool*, int64_t*, double*, std::string*, std::vector<int64_t>*,
                   std::vector<double>*, std::vector<std::string>*, EnumTarget, EnumListTarget>;
  std::string key;
  Target target;
  std::string comment;
  std::optional<Range> range;
  std::vector<std::string> choices;
};
using Fields = std::vector<Field>;

/// The visitor that turns a struct's field list into data.
class FieldCollector {
 public:
  template <class T>
  void operator()(const char* name, T& value, const char* comment) {
    all.push_back({prefix_ + name, &value, comment, std::nullopt, {}});
  }
  template <class T>
  void operator()(const char* name, T& value, const char* comment, Range range) {
    all.push_back({prefix_ + name, &value, comment, range, {}});
  }
  template <class T>
  void operator()(const char* name, T& value, const char* comment, Choices words) {
    all.push_back({prefix_ + name, &value, comment, std::nullopt, std::move(words.words)});
  }
  /// An enum with option_words.
  template <OptionEnum E>
  void operator()(const char* name, E& value, const char* comment) {
    const auto get = [&value] { return place_of(value); };
    const auto set = [&value](size_t place) { value = option_words(value)[place].second; };
    all.push_back({prefix_ + name, EnumTarget{get, set}, comment, std::nullopt, words_of<E>()});
  }
  template <OptionEnum E>
  void operator()(const char* name, std::vector<E>& values, const char* comment) {
    const auto get = [&values] {
      std::vector<size_t> places;
      for (const E value : values) places.push_back(place_of(value));
      return places;
    };
    const auto set = [&values](const std::vector<size_t>& places) {
      values.clear();
      for (const size_t place : places) values.push_back(option_words(E{})[place].second);
    };
    all.push_back({prefix_ + name, EnumListTarget{get, set}, comment, std::nullopt, words_of<E>()});
  }
  template <class T>
  void section(const char* name, T& value) {
    const std::string before = prefix_;
    prefix_ += std::string(name) + ".";
    value.fields(*this);
    prefix_ = before;
  }
  Fields all;

 private:
  template <OptionEnum E>
  static size_t place_of(E value) {
    size_t place = 0;
    const auto known = option_words(value);
    while (place < known.size() && known[place].second != value) ++place;
    return place;
  }
  template <OptionEnum E>
  static std::vector<std::string> words_of() {
    std::vector<std::string> words;
    for (const auto& [word, value] : option_words(E{})) words.push_back(word);
    return words;
  }
  std::string prefix_;
};

/// The fields of `config`, pointing into it.
template <class T>
Fields fields_of(T& config) {
  FieldCollector collector;
  config.fields(collector);
  return std::move(collector.all);
}

/// The field of a key; null where there is none.
const Field* field_of(const Fields& fields, const std::string& key);

/// Whether the field holds a list.
bool is_list(const Field& field);

/// Sets the fields that a YAML file names. Throws for a file that is not YAML, an unknown key
/// (naming line and nearest key), a value of the wrong type, out of range or not among the choices.
/// In texts "~/" becomes the home folder (home.h), and users and passwords of addresses are kept
/// out of the value (secret.h).
void load_yaml(const Fields& fields, const std::filesystem::path& file);
/// The same from text; `origin` names it in errors.
void load_yaml_text(const Fields& fields, const std::string& text, const std::string& origin);

/// Sets one field from "key=value"; the value is YAML, so lists are written [1, 2].
void apply_override(const Fields& fields, const std::string& assignment);

/// What a field may hold, for help: "a number, 0 to 1".
std::string type_text(const Field& field);

/// All values with comments; load_yaml reads it back exactly.
std::string to_yaml(const Fields& fields);

/// Text as a YAML scalar that reads back exactly, whatever signs it holds.
std::string yaml_scalar(const std::string& text);

/// The value of a field as YAML.
std::string value_text(const Field& field);

/// Keys whose values differ between two lists of the same struct.
std::vector<std::string> differences(const Fields& a, const Fields& b);

}  // namespace vggflow

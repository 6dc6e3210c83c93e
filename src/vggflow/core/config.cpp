#include "vggflow/core/config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <sstream>
#include <type_traits>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/home.h"
#include "vggflow/core/json.h"
#include "vggflow/core/nearest.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/yaml.h"

namespace vggflow {
namespace {

template <class T>
constexpr const char* type_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "a whole number";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "text";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "a list of whole numbers";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "a list of numbers";
  return "a list of texts";
}

std::string node_text(const YAML::Node& node) { return without_password(YAML::Dump(node)); }

// What a text becomes as a setting.
std::string setting_text(const std::string& text) { return keep_password(with_home(text)); }

template <class T>
T parse(const YAML::Node& node, const Field& field, const std::string& where) {
  try {
    if constexpr (std::is_same_v<T, std::string>) {
      if (node.IsNull()) return "";
      if (!node.IsScalar()) throw YAML::Exception(node.Mark(), "");
      return setting_text(node.as<std::string>());
    }
    T value = node.as<T>();
    if constexpr (std::is_same_v<T, std::vector<std::string>>)
      std::transform(value.begin(), value.end(), value.begin(), setting_text);
    return value;
  } catch (const YAML::Exception&) {
    fail("[config] {}: expected {} for '{}', got '{}'", where, type_name<T>(), field.key,
         node_text(node));
  }
}

void check_range(const Field& field, double value, const std::string& where) {
  if (!field.range) return;
  VGGFLOW_CHECK(value >= field.range->low && value <= field.range->high,
                "[config] {}: expected '{}' from {} to {}, got {}", where, field.key,
                field.range->low, field.range->high, value);
}

void check_choice(const Field& field, const std::string& value, const std::string& where) {
  if (field.choices.empty() ||
      std::find(field.choices.begin(), field.choices.end(), value) != field.choices.end())
    return;
  fail("[config] {}: expected '{}' to be one of {}, got '{}'; did you mean '{}'?", where, field.key,
       fmt::join(field.choices, ", "), value, nearest(value, field.choices, 1).front());
}

template <class T>
void check_value(const Field& field, const T& value, const std::string& where) {
  if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>)
    check_range(field, static_cast<double>(value), where);
  if constexpr (std::is_same_v<T, std::string>) check_choice(field, value, where);
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    for (const std::string& each : value) check_choice(field, each, where);
  }
  if constexpr (std::is_same_v<T, std::vector<int64_t>> || std::is_same_v<T, std::vector<double>>) {
    for (const auto each : value) check_range(field, static_cast<double>(each), where);
  }
}

struct Setter {
  const Field& field;
  const YAML::Node& node;
  const std::string& where;
  template <class T>
  void operator()(T* target) const {
    T value = parse<T>(node, field, where);
    check_value(field, value, where);
    *target = std::move(value);
  }
  void operator()(const EnumTarget& target) const {
    target.set(place_of(parse<std::string>(node, field, where)));
  }
  void operator()(const EnumListTarget& target) const {
    std::vector<size_t> places;
    for (const auto& word : parse<std::vector<std::string>>(node, field, where))
      places.push_back(place_of(word));
    target.set(places);
  }
  size_t place_of(const std::string& word) const {
    check_choice(field, word, where);
    const auto place = std::find(field.choices.begin(), field.choices.end(), word);
    return static_cast<size_t>(place - field.choices.begin());
  }
};

void set_field(const Field& field, const YAML::Node& node, const std::string& where) {
  std::visit(Setter{field, node, where}, field.target);
}

const Field& find_field(const Fields& fields, const std::string& key, const std::string& where) {
  if (const Field* found = field_of(fields, key)) return *found;
  std::vector<std::string> keys;
  for (const Field& f : fields) keys.push_back(f.key);
  fail("[config] {}: unknown setting '{}'; {}", where, key, did_you_mean(nearest_keys(key, keys)));
}

bool is_section(const Fields& fields, const std::string& key) {
  return std::any_of(fields.begin(), fields.end(),
                     [&](const Field& f) { return f.key.starts_with(key + "."); });
}

void load_map(const Fields& fields, const YAML::Node& map, const std::string& prefix,
              const std::string& origin) {
  for (const auto& entry : map) {
    const std::string key = prefix + entry.first.as<std::string>();
    const std::string where = fmt::format("{} line {}", origin, entry.first.Mark().line + 1);
    if (entry.second.IsMap() && is_section(fields, key)) {
      load_map(fields, entry.second, key + ".", origin);
    } else {
      set_field(find_field(fields, key, where), entry.second, where);
    }
  }
}

std::string text_of(bool x) { return x ? "true" : "false"; }
std::string text_of(int64_t x) { return fmt::to_string(x); }
std::string text_of(double x) {
  return fmt::format("{}", x);
}  // the shortest digits that read back exactly
std::string text_of(const std::string& x) { return yaml_scalar(x); }
template <class T>
std::string text_of(const std::vector<T>& list) {
  std::vector<std::string> parts;
  for (const T& x : list) parts.push_back(text_of(x));
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

struct TypeText {
  template <class T>
  std::string operator()(T*) const {
    return type_name<T>();
  }
  std::string operator()(const EnumTarget&) const { return type_name<std::string>(); }
  std::string operator()(const EnumListTarget&) const {
    return type_name<std::vector<std::string>>();
  }
};

struct ValueText {
  const Field& field;
  template <class T>
  std::string operator()(const T* target) const {
    return text_of(*target);
  }
  std::string operator()(const EnumTarget& target) const {
    return text_of(field.choices.at(target.get()));
  }
  std::string operator()(const EnumListTarget& target) const {
    std::vector<std::string> words;
    for (const size_t place : target.get()) words.push_back(field.choices.at(place));
    return text_of(words);
  }
};

std::string constraint_text(const Field& field) {
  if (field.range) return fmt::format(", {} to {}", field.range->low, field.range->high);
  if (!field.choices.empty()) return fmt::format(", one of {}", fmt::join(field.choices, " | "));
  return "";
}

}  // namespace

const Field* field_of(const Fields& fields, const std::string& key) {
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&key](const Field& f) { return f.key == key; });
  return found == fields.end() ? nullptr : &*found;
}

bool is_list(const Field& field) {
  return std::holds_alternative<std::vector<std::string>*>(field.target) ||
         std::holds_alternative<std::vector<int64_t>*>(field.target) ||
         std::holds_alternative<std::vector<double>*>(field.target) ||
         std::holds_alternative<EnumListTarget>(field.target);
}

std::string yaml_scalar(const std::string& text) {
  // The emitter would put other signs in place of bytes that are no UTF-8, such as those of a
  // file's name; the parser takes them as they are.
  if (!is_utf8(text)) {
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? "''" : std::string(1, c);
    return quoted + "'";
  }
  YAML::Emitter out;
  out << YAML::DoubleQuoted << text;
  return out.c_str();
}

void load_yaml_text(const Fields& fields, const std::string& text, const std::string& origin) {
  refuse_foreign(text, fmt::format("[config] {}", origin));
  const YAML::Node root = read_yaml(text, fmt::format("[config] {}", origin));
  if (root.IsNull()) return;
  VGGFLOW_CHECK(root.IsMap(), "[config] {}: expected lines of 'key: value'", origin);
  load_map(fields, root, "", origin);
}

void load_yaml(const Fields& fields, const std::filesystem::path& file) {
  std::ifstream in(file);
  VGGFLOW_CHECK(in, "[config] cannot read {}", file.string());
  std::stringstream text;
  text << in.rdbuf();
  load_yaml_text(fields, text.str(), file.string());
}

void apply_override(const Fields& fields, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  VGGFLOW_CHECK(equals != std::string::npos && equals > 0, "[config] expected key=value, got '{}'",
                without_password(assignment));
  const std::string where = "override " + without_password(assignment);
  const Field& field = find_field(fields, assignment.substr(0, equals), where);
  const YAML::Node value =
      read_yaml(assignment.substr(equals + 1), fmt::format("[config] {}: the value", where));
  try {
    set_field(field, value, where);
  } catch (const YAML::Exception& e) {
    fail("[config] {}: the value is not YAML: {}", where, e.what());
  }
}

std::string value_text(const Field& field) { return std::visit(ValueText{field}, field.target); }

std::string type_text(const Field& field) {
  return std::visit(TypeText{}, field.target) + constraint_text(field);
}

std::string to_yaml(const Fields& fields) {
  std::string out;
  std::vector<std::string> open;  // the section that the last line lies in
  for (const Field& f : fields) {
    std::vector<std::string> path;
    std::stringstream key(f.key);
    for (std::string part; std::getline(key, part, '.');) path.push_back(part);
    const std::string name = path.back();
    path.pop_back();
    for (size_t depth = 0; depth < path.size(); ++depth) {
      if (depth < open.size() &&
          std::equal(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(depth) + 1,
                     open.begin()))
        continue;
      out += fmt::format("{:{}}{}:\n", "", 2 * depth, path[depth]);
      open.resize(depth);
      open.push_back(path[depth]);
    }
    open = path;
    out += fmt::format("{:{}}{}: {}  # {}{}\n", "", 2 * path.size(), name, value_text(f), f.comment,
                       constraint_text(f));
  }
  return out;
}

std::vector<std::string> differences(const Fields& a, const Fields& b) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i].key != b[i].key || value_text(a[i]) != value_text(b[i])) keys.push_back(a[i].key);
  }
  return keys;
}

}  // namespace vggflow

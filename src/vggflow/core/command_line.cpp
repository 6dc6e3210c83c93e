#include "vggflow/core/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "vggflow/core/error.h"
#include "vggflow/core/home.h"
#include "vggflow/core/nearest.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/core/usage_error.h"

namespace vggflow {
namespace {

template <class... Args>
[[noreturn]] void refuse(const Call& call, fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(
      fmt::format("[{}] {}", call.command, fmt::format(format, std::forward<Args>(args)...)));
}

// "key=value": a key holds letters, digits, _ - and dots, so that a path with '=' is none.
bool is_assignment(const std::string& word) {
  const size_t equals = word.find('=');
  return equals != std::string::npos && equals > 0 &&
         std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(equals), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
         });
}

class Parser {
 public:
  Parser(const Call& call, const Syntax& syntax, const Fields& fields)
      : call_(call), syntax_(syntax), fields_(fields) {}

  CommandLine parse() {
    while (place_ < call_.words.size()) word(call_.words[place_++]);
    for (const auto& [key, entries] : lists_) {
      std::vector<std::string> quoted;
      for (const std::string& e : entries) quoted.push_back(yaml_scalar(e));
      line_.settings.push_back(fmt::format("{}=[{}]", key, fmt::join(quoted, ", ")));
    }
    return std::move(line_);
  }

 private:
  void word(const std::string& word) {
    if (word == "--help" || word == "-h") {
      line_.help = CommandLine::Help::kShort;
    } else if (word == "--help-all") {
      line_.help = CommandLine::Help::kAll;
    } else if (word.starts_with("-")) {
      flag(word);
    } else if (word.starts_with("trust=")) {
      trust(word.substr(6));
    } else if (is_assignment(word) && !is_path(word)) {
      const bool field = field_of(fields_, word.substr(0, word.find('='))) != nullptr;
      (field || !syntax_.reads_file ? line_.settings : line_.others).push_back(word);
    } else {
      positional(word);
    }
  }

  // Where a command takes files, one whose name looks like a setting is still a file.
  bool is_path(const std::string& word) const {
    return !syntax_.positionals.empty() && std::filesystem::exists(word);
  }

  void flag(const std::string& word) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);
    if (name == "--config") return config(value_of(name, value));
    if (name == "--trust") return trust(value_of(name, value));
    const auto known = std::find_if(syntax_.flags.begin(), syntax_.flags.end(),
                                    [&name](const Flag& f) { return f.name == name; });
    if (known == syntax_.flags.end()) refuse_flag(name);
    const Field* field = field_of(fields_, known->key);
    VGGFLOW_CHECK(field, "[{}] expected the flag {} to name a setting, got '{}'", call_.command,
                  name, known->key);
    if (std::holds_alternative<bool*>(field->target)) {
      line_.settings.push_back(known->key + "=" + value.value_or("true"));
    } else {
      give(*field, value_of(name, value));
    }
  }

  std::string value_of(const std::string& name, const std::optional<std::string>& value) {
    if (value) return *value;
    if (place_ == call_.words.size() || call_.words[place_].starts_with("--"))
      refuse(call_, "expected a value after {}", name);
    return call_.words[place_++];
  }

  // "plugins,http", or with the brackets of a list.
  void trust(const std::string& words) {
    std::string word;
    for (const char c : words + ",") {
      if (c == ',' && !word.empty()) line_.trust.push_back(std::exchange(word, {}));
      if (std::isalnum(static_cast<unsigned char>(c))) word += c;
    }
  }

  void config(const std::string& file) {
    if (!line_.file.empty())
      refuse(call_, "expected one --config FILE, got two: {} and {}", line_.file, file);
    line_.file = find_shipped(with_home(file)).string();
    const bool has_folder = std::any_of(syntax_.flags.begin(), syntax_.flags.end(),
                                        [](const Flag& f) { return f.name == "--model-config"; });
    if (std::filesystem::is_directory(line_.file))
      refuse(call_, "expected --config FILE, a YAML file of settings, got the folder {}{}", file,
             has_folder ? "; a folder of a model's configurations is --model-config " + file : "");
    if (!std::filesystem::exists(line_.file))
      refuse(call_, "expected --config FILE, a YAML file of settings; there is no file {}",
             places_of(file));
  }

  [[noreturn]] void refuse_flag(const std::string& name) const {
    std::string key = name.substr(std::min(name.find_first_not_of('-'), name.size()));
    std::replace(key.begin(), key.end(), '-', '_');
    std::vector<std::string> keys, flags = kOwnFlags;
    for (const Field& f : fields_) keys.push_back(f.key);
    for (const Flag& f : syntax_.flags) flags.push_back(f.name);
    const std::vector<std::string> meant = nearest_keys(key, keys);
    const std::string flag = nearest(name, flags, 1).front();
    const bool is_key =
        !meant.empty() && (meant.front() == key || meant.front().ends_with("." + key));
    if (is_key && edit_distance(name, flag) > 1)
      refuse(call_, "unknown flag {}; settings are key=value: {}=...", name,
             fmt::join(meant, "=... or "));
    refuse(call_, "unknown flag {}; {}", name, did_you_mean({flag}));
  }

  void positional(const std::string& word) {
    if (given_ < syntax_.positionals.size()) {
      const Positional& p = syntax_.positionals[given_];
      if (!p.rest) ++given_;
      return give(*field_of(fields_, p.key), word);
    }
    const std::string extension = std::filesystem::path(word).extension();
    if (extension == ".yaml" || extension == ".yml")
      refuse(call_, "a file of settings is given by --config: vggflow {} --config {}",
             call_.command, word);
    if (!syntax_.positionals.empty())
      refuse(call_, "expected at most {} of {}, got another: '{}'{}{}", syntax_.positionals.size(),
             names(), word, syntax_.too_many.empty() ? "" : "; ", syntax_.too_many);
    refuse_word(word);
  }

  [[noreturn]] void refuse_word(const std::string& word) const {
    std::vector<std::string> keys;
    for (const Field& f : fields_) keys.push_back(f.key);
    const std::vector<std::string> meant = nearest_keys(word, keys);
    const bool near = !meant.empty() &&
                      (meant.front().ends_with(word) || edit_distance(word, meant.front()) <= 2);
    refuse(call_, "expected key=value, got '{}'{}", word,
           near ? fmt::format("; did you mean {}=...?", fmt::join(meant, "=... or ")) : "");
  }

  std::string names() const {
    std::vector<std::string> all;
    for (const Positional& p : syntax_.positionals) all.push_back(shown_name(p));
    return fmt::format("{}", fmt::join(all, ", "));
  }

  void give(const Field& field, const std::string& value) {
    if (!is_list(field)) {
      line_.settings.push_back(field.key + "=" + yaml_scalar(value));
      return;
    }
    const auto known = std::find_if(lists_.begin(), lists_.end(),
                                    [&field](const auto& l) { return l.first == field.key; });
    if (known == lists_.end())
      lists_.push_back({field.key, {value}});
    else
      known->second.push_back(value);
  }

  const Call& call_;
  const Syntax& syntax_;
  const Fields& fields_;
  size_t place_ = 0, given_ = 0;
  CommandLine line_;
  std::vector<std::pair<std::string, std::vector<std::string>>> lists_;  // in order of first use
};

bool is_empty(const Field& field) {
  const std::string value = value_text(field);
  return value == "[]" || value == "\"\"";
}

}  // namespace

std::string shown_name(const Positional& positional) {
  std::string name = positional.key;
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string usage_line(const Call& call, const Syntax& syntax) {
  std::string line = "vggflow " + call.command;
  for (const Positional& p : syntax.positionals) {
    const std::string name = shown_name(p) + (p.rest ? " ..." : "");
    const bool needed =
        std::find(syntax.required.begin(), syntax.required.end(), p.key) != syntax.required.end();
    line += needed ? " " + name : " [" + name + "]";
  }
  return line + " [--config FILE] [key=value ...]";
}

CommandLine parse_command_line(const Call& call, const Syntax& syntax, const Fields& fields) {
  return Parser(call, syntax, fields).parse();
}

void apply_command_line(const CommandLine& line, const Call& call, const Syntax& syntax,
                        const Fields& fields) {
  try {
    if (!line.file.empty() && !syntax.reads_file) load_yaml(fields, line.file);
    for (const std::string& setting : line.settings) apply_override(fields, setting);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
  for (const std::string& key : syntax.required) {
    const Field* field = field_of(fields, key);
    VGGFLOW_CHECK(field, "[{}] expected the required key to name a setting, got '{}'", call.command,
                  key);
    if (is_empty(*field))
      refuse(call, "expected {}: {}; usage: {}", key, field->comment, usage_line(call, syntax));
  }
}

}  // namespace vggflow

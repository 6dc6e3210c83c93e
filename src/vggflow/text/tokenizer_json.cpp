#include "vggflow/text/tokenizer_json.h"

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What each model's tokenizer here does; other steps would give other ids.
struct Steps {
  const char* model;
  std::set<std::string> normalizers, pre_tokenizers;
};
const Steps& steps_of(const std::string& model) {
  static const std::vector<Steps> all{
      {"BPE", {"NFC", "Replace", "Lowercase"}, {"Split", "ByteLevel"}},
      {"Unigram", {"Precompiled", "Replace", "Strip"}, {"WhitespaceSplit", "Metaspace"}},
      {"WordPiece", {"BertNormalizer"}, {"BertPreTokenizer"}}};
  return *std::find_if(all.begin(), all.end(), [&](const Steps& s) { return model == s.model; });
}

// The steps of a normaliser or pre-tokeniser: itself, or those of a sequence of them.
std::vector<json> steps_in(const json& file, const char* key, const char* inner) {
  const json step = file.value(key, json());
  if (step.is_null()) return {};
  if (step.at("type") != "Sequence") return {step};
  return step.at(inner).get<std::vector<json>>();
}

// bert-base-uncased's: the accents go with the capitals.
void check_uncased(const json& normalizer) {
  const json accents = normalizer.value("strip_accents", json());
  VGGFLOW_CHECK(normalizer.value("lowercase", true) && (accents.is_null() || accents == true),
                "a tokenizer that tells capitals or accents apart; only uncased ones are read");
}

void check_steps(const std::vector<json>& steps, const std::set<std::string>& known) {
  for (const json& step : steps) {
    const auto type = step.at("type").get<std::string>();
    VGGFLOW_CHECK(known.contains(type), "the step '{}', which is not done here", type);
    if (type == "BertNormalizer") check_uncased(step);
  }
}

std::string decode_base64(const std::string& text) {
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    VGGFLOW_CHECK(digit >= 0, "a character map that is no base64");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>(bits >> held & 0xFF);
  }
  return out;
}

std::string character_map(const std::vector<json>& normalizers) {
  for (const json& step : normalizers) {
    if (step.at("type") == "Precompiled" && step.at("precompiled_charsmap").is_string())
      return decode_base64(step.at("precompiled_charsmap").get<std::string>());
  }
  return "";
}

// A list of [token, score] in the order of the ids, or an object of token and id.
std::vector<TokenizerJson::Piece> pieces_of(const json& vocabulary) {
  std::vector<TokenizerJson::Piece> pieces;
  if (vocabulary.is_array()) {
    for (const json& piece : vocabulary)
      pieces.push_back({piece.at(0).get<std::string>(), piece.at(1).get<double>()});
    return pieces;
  }
  pieces.resize(vocabulary.size());
  std::vector<bool> seen(vocabulary.size(), false);
  for (const auto& [token, value] : vocabulary.items()) {
    const auto id = value.get<int64_t>();
    VGGFLOW_CHECK(id >= 0 && id < std::ssize(pieces) && !seen[static_cast<size_t>(id)],
                  "the id {} for '{}', expected every id from 0 to {} once", id, token,
                  std::ssize(pieces) - 1);
    seen[static_cast<size_t>(id)] = true;
    pieces[static_cast<size_t>(id)].text = token;
  }
  return pieces;
}

// Pairs, or, in older files, "left right".
std::vector<std::pair<std::string, std::string>> merges_of(const json& model) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const json& merge : model.at("merges")) {
    if (merge.is_array()) {
      merges.emplace_back(merge.at(0).get<std::string>(), merge.at(1).get<std::string>());
      continue;
    }
    const auto text = merge.get<std::string>();
    const size_t blank = text.find(' ');
    VGGFLOW_CHECK(blank != std::string::npos, "the merge '{}' of one token", text);
    merges.emplace_back(text.substr(0, blank), text.substr(blank + 1));
  }
  return merges;
}

// A setting of the model that must have the value that is done here.
void expect(const json& model, const char* key, const json& wanted) {
  const json value = model.value(key, json());
  VGGFLOW_CHECK(value.is_null() || value == wanted, "the model's {} {}, expected {}", key,
                value.dump(), wanted.dump());
}

TokenizerJson parse(const json& file, const std::string& wanted) {
  const json& model = file.at("model");
  const auto type = model.value("type", "");
  VGGFLOW_CHECK(type == wanted, "a tokenizer of model '{}', expected '{}'", type, wanted);
  const auto normalizers = steps_in(file, "normalizer", "normalizers");
  check_steps(normalizers, steps_of(wanted).normalizers);
  check_steps(steps_in(file, "pre_tokenizer", "pretokenizers"), steps_of(wanted).pre_tokenizers);
  for (const char* off : {"byte_fallback", "fuse_unk", "ignore_merges"}) expect(model, off, false);
  expect(model, "dropout", 0.0);
  expect(model, "unk_id", 2);
  expect(model, "end_of_word_suffix", "</w>");
  expect(model, "continuing_subword_prefix", wanted == "WordPiece" ? "##" : "");
  expect(model, "max_input_chars_per_word", 100);
  TokenizerJson out;
  out.pieces = pieces_of(model.at("vocab"));
  if (wanted == "BPE") out.merges = merges_of(model);
  out.character_map = character_map(normalizers);
  for (const json& token : file.value("added_tokens", json::array()))
    out.added.push_back(read_added_token(token.at("id").get<int64_t>(), token));
  return out;
}

}  // namespace

TokenizerJson TokenizerJson::read(const fs::path& file, const std::string& model) {
  const std::string text = read_tokenizer_file(file);
  try {
    TokenizerJson out = parse(parse_json<json>(text, file.string()), model);
    out.file = file;
    return out;
  } catch (const std::exception& e) {
    fail("[tokenizer] expected a tokenizer of the tokenizers library in {}, got: {}", file.string(),
         e.what());
  }
}

TokenizerConfig read_tokenizer_config(const fs::path& folder,
                                      const std::optional<TokenizerJson>& json) {
  TokenizerConfig config = TokenizerConfig::read(folder);
  if (config.added.empty() && json) config.added = json->added;
  return config;
}

std::optional<TokenizerJson> tokenizer_json_without(const fs::path& folder,
                                                    const std::string& older,
                                                    const std::string& model) {
  const fs::path file = folder / "tokenizer.json";
  if (fs::exists(folder / older)) return std::nullopt;
  VGGFLOW_CHECK(fs::exists(file),
                "[tokenizer] {} has neither {} nor tokenizer.json: the model folder is incomplete, "
                "copy one of them there",
                folder.string(), older);
  return TokenizerJson::read(file, model);
}

}  // namespace vggflow

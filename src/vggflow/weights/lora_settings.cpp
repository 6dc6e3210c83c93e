#include "vggflow/weights/lora_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/json.h"
#include "vggflow/weights/peft_pattern.h"

namespace vggflow {
namespace {

using Json = nlohmann::ordered_json;

// What LoRA is without a setting: PEFT's "off".
bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "none" ||
         (value.is_structured() && value.empty());
}

// Settings of training, of loading by PEFT, or read here: no value of them changes what a file's
// matrices mean.
const std::set<std::string>& harmless() {
  static const std::set<std::string> names{
      "alpha_pattern",       "auto_mapping",   "base_model_name_or_path", "corda_config",
      "ensure_weight_tying", "eva_config",     "exclude_modules",         "inference_mode",
      "init_lora_weights",   "layers_pattern", "layers_to_transform",     "loftq_config",
      "lora_alpha",          "lora_dropout",   "lora_ga_config",          "megatron_core",
      "peft_type",           "peft_version",   "qalora_group_size",       "r",
      "rank_pattern",        "revision",       "runtime_config",          "target_modules",
      "task_type",           "use_rslora"};
  return names;
}

// How B A came to be. These begin with zero and leave the base as it is; the others (PiSSA, OLoRA,
// CorDA, LoftQ, LoRA-GA) take a part out of the base's weights first.
const std::set<std::string>& harmless_starts() {
  static const std::set<std::string> names{"gaussian", "orthogonal", "eva"};
  return names;
}

struct Refused {
  const char* key;
  const char* why;
};
constexpr std::array kRefused{
    Refused{"use_dora", "DoRA, which scales the sum's columns"},
    Refused{"fan_in_fan_out", "matrices the other way round than linear layers have them"},
    Refused{"bias", "trained biases beside the adapter"},
    Refused{"lora_bias", "a bias in B"},
    Refused{"modules_to_save", "whole modules beside the adapter"},
    Refused{"layer_replication", "a base whose layers are repeated"},
    Refused{"trainable_token_indices", "trained tokens beside the adapter"},
    Refused{"target_parameters", "adapters of bare parameters"},
    Refused{"alora_invocation_tokens", "an activated LoRA, which is on after some tokens only"},
    Refused{"use_qalora", "QALoRA, whose A reads pooled inputs"},
    Refused{"use_bdlora", "block-diagonal LoRA"},
    Refused{"kasa_config", "KaSA, which takes a part out of the base"},
    Refused{"velora_config", "VeLoRA"},
    Refused{"monteclora_config", "MonteCLoRA, which draws its matrices"},
    Refused{"arrow_config", "Arrow, which mixes several adapters"},
    Refused{"megatron_config", "Megatron's layers"}};

constexpr const char* kWayOut =
    "merge it with PEFT (merge_and_unload) and pass the merged model, or save it as plain LoRA";

std::string reason(const std::string& key) {
  const auto known = std::find_if(kRefused.begin(), kRefused.end(),
                                  [&](const Refused& r) { return key == r.key; });
  return known == kRefused.end() ? "a setting that is not known here" : known->why;
}

}  // namespace

LoraSettings::LoraSettings(const std::string& text, const std::string& origin) : origin_(origin) {
  refuse_foreign(text, fmt::format("[lora] {}", origin));
  const Json json = parse_json(text, origin);
  VGGFLOW_CHECK(json.is_object(), "[lora] {}: expected a JSON object of settings", origin);
  // diffusers' pipelines put the component before every key, its models and PEFT do not.
  const std::string own = "transformer.";
  for (const auto& [key, value] : json.items()) {
    if (key.starts_with(own))
      values_[key.substr(own.size())] = value;
    else if (key.find('.') == std::string::npos)
      values_[key] = value;
  }
  check();
}

void LoraSettings::check() const {
  const Json type = values_.value("peft_type", Json("LORA"));
  VGGFLOW_CHECK(type == "LORA" || type.is_null(),
                "[lora] {} describes an adapter of the kind {}, which is not read: expected LORA; "
                "{}",
                origin_, type.dump(), kWayOut);
  const Json start = values_.value("init_lora_weights", Json(true));
  const bool plain = start.is_null() || start.is_boolean() ||
                     (start.is_string() && harmless_starts().contains(start.get<std::string>()));
  VGGFLOW_CHECK(plain,
                "[lora] {}: init_lora_weights {} changes the base's weights before training, so "
                "that its matrices mean another base than yours: convert it with PEFT's "
                "save_pretrained(..., path_initial_model_for_weight_conversion=...), or {}",
                origin_, start.dump(), kWayOut);
  for (const auto& [key, value] : values_.items()) {
    VGGFLOW_CHECK(harmless().contains(key) || is_off(value),
                  "[lora] {} has {} = {}: {}, which is not read; {}", origin_, key, value.dump(),
                  reason(key), kWayOut);
  }
}

double LoraSettings::scale(const std::string& path, int64_t rank,
                           std::vector<std::string>& problems) const {
  const auto r = value("r", "rank_pattern", path),
             alpha = value("lora_alpha", "alpha_pattern", path);
  if (r && *r != static_cast<double>(rank))
    problems.push_back(
        fmt::format("'{}' has rank {} by its settings and {} by its tensors", path, *r, rank));
  const auto real_rank = static_cast<double>(rank);
  const bool stabilised = values_.value("use_rslora", Json(false)) == true;
  return alpha.value_or(real_rank) / (stabilised ? std::sqrt(real_rank) : real_rank);
}

std::optional<double> LoraSettings::value(const char* key, const char* patterns,
                                          const std::string& path) const {
  const Json by_pattern = values_.value(patterns, Json());
  if (by_pattern.is_object()) {
    for (const auto& [pattern, number] : by_pattern.items()) {
      if (peft_pattern_matches(pattern, path)) return number_of(patterns, number);
    }
  }
  const Json general = values_.value(key, Json());
  return general.is_null() ? std::nullopt : std::optional(number_of(key, general));
}

double LoraSettings::number_of(const std::string& key, const Json& value) const {
  VGGFLOW_CHECK(value.is_number(), "[lora] {}: expected a number for the setting '{}', got {}",
                origin_, key, value.dump());
  return value.get<double>();
}

}  // namespace vggflow

#pragma once
// PEFT's settings of an adapter: adapter_config.json, or the header entry lora_adapter_metadata
// that diffusers writes.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace vggflow {

/// Every setting is done, without effect here, or refused with the way out: an allow-list, so that
/// one which PEFT adds later is not passed over.
class LoraSettings {
 public:
  /// None: alpha is the rank.
  LoraSettings() = default;
  /// Throws for text that is no JSON object and for settings that ask for another formula or
  /// another base than W + alpha / r B A; `origin` names it.
  LoraSettings(const std::string& text, const std::string& origin);

  /// alpha / rank of the layer, or alpha / sqrt(rank) by rank-stabilised LoRA. A rank that is not
  /// the settings' is added to `problems`.
  double scale(const std::string& path, int64_t rank, std::vector<std::string>& problems) const;

 private:
  using Json = nlohmann::ordered_json;  // of the patterns the first match counts
  void check() const;
  std::optional<double> value(const char* key, const char* patterns, const std::string& path) const;
  double number_of(const std::string& key, const Json& value) const;
  Json values_ = Json::object();
  std::string origin_;
};

}  // namespace vggflow

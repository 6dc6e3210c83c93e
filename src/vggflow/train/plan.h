#pragma once
// What a run of `align` will need, before anything is loaded: parameters, memory by part, operations and time of an update, and which settings make it
// fit. It is computed from sizes (network_cost.h), the methods' own cost formulas (algorithms/method.h) and the settings.

#include <string>
#include <vector>

#include "vggflow/io/jsonl.h"
#include "vggflow/train/align.h"
#include "vggflow/train/network_cost.h"

namespace vggflow {

/// The sizes of a model, read from its configurations.
struct ModelShape {
  std::string description;       ///< for people: what was read
  MmditOptions network;
  int64_t text_tokens = 0;
  int64_t height = 0, width = 0;  ///< of a state
  double stored_bytes = 2;        ///< of a number in the transformer's file
  double text_parameters = 0;     ///< of all text encoders
  bool keeps_text_encoders = false;  ///< nano's word table stays; SD3's encoders leave once the prompts are encoded
  AutoencoderKlOptions vae;
  bool has_decoder = false;       ///< states are latents; without one they are images
  /// Whether it is TAESD3 that makes images of them.
  bool tiny_decoder(const ModelOptions& options) const { return has_decoder && (keeps_text_encoders || options.sd3.decoder == "taesd3"); }
};

/// Reads the shape of config.flow's model: config.json and config.yaml, and of the weights the safetensors header alone. Where nothing of an org/name lies in the
/// cache and it is one of Stable Diffusion 3's releases, its published sizes are taken; a model that is there and does not open is an error.
ModelShape read_model_shape(const ModelOptions& options);

struct Amount {
  std::string name;
  double value = 0;
};

/// How fast a device multiplies and how much it holds.
struct Device {
  std::string name;
  double memory = 0;         ///< bytes
  double half = 0, full = 0;  ///< FLOP/s reached in practice on transformers in bf16, and on fp32 decoders and rewards
};

/// The GPUs that are known by name: "h100", "h200", "a100", "4090". Rates are peaks times what published runs reach: docs/plan.md.
const std::vector<Device>& known_devices();
/// This machine: its memory, and the rates of matrix products as they are now, or `flops` for both where it is positive.
Device this_machine(at::ScalarType compute, double flops);

struct Plan {
  std::vector<Amount> parameters;   ///< by network
  std::vector<Amount> memory;       ///< bytes by part, at the fullest moment; they sum up to the peak
  std::vector<Amount> moments;      ///< the peak of each phase of a run
  std::string fullest;              ///< the phase that decides
  double peak = 0;                  ///< bytes of the whole process
  Passes passes;                    ///< of an update
  std::string cost_formula;
  double half_flops = 0;            ///< of an update in the products' dtype: network and `lora` value network
  double full_flops = 0;            ///< in fp32: decoder, reward, the other value networks
  std::vector<Amount> work;         ///< the same by part
  std::vector<std::string> notes;   ///< what was not known
  double seconds(const Device& device) const { return half_flops / device.half + full_flops / device.full; }
};

/// The plan of a configuration. Throws where check_settings does (checks.h).
Plan plan(const AlignConfig& config, const ModelShape& shape);

/// One setting changed against the configuration, and what it makes of memory and time.
struct Switch {
  std::string setting;  ///< "checkpointing=true", as it is written on the command line
  std::string what;
  Plan plan;
};
/// Every switch that this configuration has not thrown yet, and all that save memory together, last.
std::vector<Switch> switches(const AlignConfig& config, const ModelShape& shape);

/// A table for people.
std::string plan_text(const AlignConfig& config, const ModelShape& shape, const Plan& plan, const std::vector<Switch>& switches, const std::vector<Device>& devices);
Json plan_json(const Plan& plan, const std::vector<Switch>& switches, const std::vector<Device>& devices);

}  // namespace vggflow

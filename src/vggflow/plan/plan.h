#pragma once
// What a run of `align` will need, before anything is loaded: parameters, memory by part,
// operations and time of an update, and which settings make it fit. It is computed from sizes
// (flow/model_shape.h), the methods' own cost formulas (algorithms/method.h) and the settings.

#include <cstdint>
#include <string>
#include <vector>

#include "vggflow/families/open_model.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/train/align.h"

namespace vggflow {

struct Amount {
  std::string name;
  double value = 0;
};

/// How fast a device multiplies and how much it holds.
struct Device {
  std::string name;
  double memory = 0;          ///< bytes
  double half = 0, full = 0;  ///< FLOP/s reached in practice on transformers in bf16, and on fp32
                              ///< decoders and rewards
  std::string lacks = {};     ///< what this program lacks to compute on it; empty: nothing
  bool gpu = false;           ///< its memory is held against MemoryPlans of a GPU
};

/// The GPUs that are known by name: "h100", "h200", "a100", "4090". Rates are peaks times what
/// published runs reach: docs/plan.md. `lacks`: of this installation (device/installation.h).
std::vector<Device> known_devices(const std::string& lacks);
/// This machine: its memory, and the rates of matrix products as they are now, or `flops` for both
/// where it is positive.
Device this_machine(at::ScalarType compute, double flops);

/// What a run takes of the memory where its networks lie.
struct MemoryPlan {
  std::vector<Amount> memory;   ///< bytes by part, at the fullest moment; they sum up to the peak
  std::vector<Amount> moments;  ///< the peak of each phase of a run
  std::string fullest;          ///< the phase that decides
  double peak = 0;              ///< bytes of the whole process
};

/// Its own memory is that of the process on a CPU.
struct Plan : MemoryPlan {
  MemoryPlan gpu;                  ///< of the card's memory, where it runs on one
  std::vector<Amount> parameters;  ///< by network
  Passes passes;                   ///< of an update
  std::string cost_formula;
  double half_flops = 0;  ///< of an update in the products' dtype: network and `lora` value network
  double full_flops = 0;  ///< in fp32: decoder, reward, the other value networks
  std::vector<Amount> work;  ///< the same by part
  /// Of one image of an evaluation: sampling, decoder, reward and panel; not the judge and the
  /// network of eval.features. In the products' dtype, and in fp32.
  double image_half_flops = 0, image_full_flops = 0;
  std::vector<std::string> notes;  ///< what was not known
  double ranks = 1;                ///< processes: memory is of each, work is shared by all
  const MemoryPlan& memory_on(bool on_gpu) const { return on_gpu ? gpu : *this; }
  bool memory_fits(const Device& device) const {
    return memory_on(device.gpu).peak <= device.memory;
  }
  /// Whether the program can run it there.
  bool fits(const Device& device) const { return device.lacks.empty() && memory_fits(device); }
  double seconds(const Device& device) const {
    return (half_flops / device.half + full_flops / device.full) / ranks;
  }
  double image_seconds(const Device& device) const {
    return (image_half_flops / device.half + image_full_flops / device.full) / ranks;
  }
};

/// The plan of a configuration on so many processes, each with a device of its own. Throws where
/// check_settings does (checks.h), and where the processes cannot share the batch (train/shares.h).
Plan plan(const AlignConfig& config, const ModelShape& shape, int ranks = 1);

/// One setting changed against the configuration, and what it makes of memory and time.
struct Switch {
  std::string setting;  ///< "checkpointing=true", as it is written on the command line
  std::string what;
  Plan plan;
};
/// Every switch that this configuration has not thrown yet, and all that save memory together,
/// last.
std::vector<Switch> switches(const AlignConfig& config, const ModelShape& shape, int ranks = 1);

/// Throws where the run's peak, on a GPU or not, is above config.memory_limit, with the settings
/// that lower it. No limit: says nothing.
void check_memory_limit(const AlignConfig& config, const ModelShape& shape, bool on_gpu,
                        int ranks = 1);

/// Images that the evaluations of a whole run draw, the grids left out.
struct EvaluatedImages {
  double base;  ///< two sets of the base's; runs of a comparison draw them once for all
  double run;   ///< a set each time after that
};
EvaluatedImages evaluated_images(const AlignConfig& config);

/// What an arm of a comparison takes: `runs` alignments of one plan.
struct ArmPlan {
  std::string name;
  int64_t runs = 1;
  double updates = 0;  ///< of a run
  EvaluatedImages images{};
  Plan plan;
  /// Of a run that finds the base's figures.
  double seconds(const Device& device) const {
    return updates * plan.seconds(device) + images.run * plan.image_seconds(device);
  }
  /// Of all runs, of which one draws the base's images.
  double all_seconds(const Device& device) const {
    return static_cast<double>(runs) * seconds(device) + images.base * plan.image_seconds(device);
  }
};

/// A table for people: a row per arm, and what all runs take on each device, one after the other.
std::string arms_text(const std::vector<ArmPlan>& arms, const std::vector<Device>& devices);

/// A table for people.
std::string plan_text(const AlignConfig& config, const ModelShape& shape, const Plan& plan,
                      const std::vector<Switch>& switches, const std::vector<Device>& devices);
Json plan_json(const Plan& plan, const std::vector<Switch>& switches,
               const std::vector<Device>& devices);

}  // namespace vggflow

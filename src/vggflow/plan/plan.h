#pragma once
// What a run of `align` will need, before anything is loaded: parameters, memory by part,
// operations and time of an update, and which settings make it fit. It is computed from sizes
// (flow/model_shape.h), the methods' own cost formulas (algorithms/method.h) and the settings.

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
  std::vector<Amount> work;        ///< the same by part
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

/// A table for people.
std::string plan_text(const AlignConfig& config, const ModelShape& shape, const Plan& plan,
                      const std::vector<Switch>& switches, const std::vector<Device>& devices);
Json plan_json(const Plan& plan, const std::vector<Switch>& switches,
               const std::vector<Device>& devices);

}  // namespace vggflow

#pragma once
// The sizes of a flow model, known before anything of it is loaded: what settings are checked
// against and what a plan is computed from, whatever the model's family.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/dist/group.h"
#include "vggflow/flow/flow_model.h"
#include "vggflow/flow/precision.h"
#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// How a network is called.
struct NetworkCall {
  int64_t bytes = 4;            ///< of a number in the matrix products
  int64_t rank = 0;             ///< of adapters on the policy's layers, 0: none or merged
  bool input_gradient = false;  ///< x asks for a gradient
  bool trained = false;         ///< every weight asks for a gradient
  bool checkpointing = false;   ///< blocks run again in the backward pass
  bool batched = true;          ///< several rows in one call
};

/// The sizes of a FlowNetwork on states and prompts of given sizes, without memory for its numbers.
class NetworkSizes {
 public:
  virtual ~NetworkSizes() = default;
  /// Its modules, whose parameters are shapes alone: what adapters can sit on.
  virtual std::unique_ptr<Module> skeleton() const = 0;
  /// Numbers that can be trained, and those of tables that are held besides.
  virtual double parameters() const = 0;
  virtual double tables() const { return 0; }
  /// Numbers of the layer that gives the prediction (FlowNetwork::output_layer).
  virtual double output_parameters() const = 0;
  /// Numbers of the frozen weights that stay on the host with Offload::kBlocks, and those that the
  /// device holds at once in their place.
  struct Offloaded {
    double on_host = 0, on_device = 0;
  };
  virtual Offloaded offloaded() const { return {}; }
  virtual PassCost cost(const NetworkCall& call) const = 0;
  /// Of a pass through pairs (value, tangent).
  virtual PassCost tangent_cost(const NetworkCall& call) const = 0;
  /// Whether it gives FlowNetwork::velocity_pair where it computes in bf16.
  virtual bool carries_pairs() const { return false; }
  /// Of FlowNetwork::small.
  virtual std::unique_ptr<NetworkSizes> small(int64_t width, int64_t layers,
                                              int64_t states) const = 0;
};

/// What makes images of states.
struct DecoderSizes {
  std::string name;  ///< for people; empty: states are images
  double parameters = 0;
  PassCost cost = {};  ///< of an image, fp32
};

/// A setting of the family that would take less memory.
struct ModelSwitch {
  std::string setting;                 ///< as it is written on the command line
  std::string what;                    ///< for people
  std::vector<std::string> overrides;  ///< what it sets, one "key=value" each
  bool harmless = true;                ///< leaves images as they are
};

class FamilyModel;

/// The sizes of a model under its settings.
struct ModelShape {
  std::string description;     ///< for people: what was read
  std::vector<int64_t> state;  ///< (C, H, W)
  int64_t upscale = 1;         ///< sides of an image over those of its state
  int64_t text_tokens = 0, context_width = 0, pooled_width = 0;  ///< of a prompt's conditioning
  double stored_bytes = 2;          ///< of a number in the network's file
  double text_parameters = 0;       ///< of all text encoders
  bool text_encoders_stay = false;  ///< in memory; else they leave once the prompts are encoded
  bool embeddings_stay = false;     ///< in memory, of every prompt
  bool decodes_singly = false;      ///< one image after the other where there is no gradient
  bool has_own_prompts = false;     ///< see has_own_prompts (families/open_model.h)
  DecoderSizes decoder;
  std::shared_ptr<const NetworkSizes> network;
  std::vector<ModelSwitch> switches;         ///< that its settings have not thrown yet
  std::shared_ptr<const FamilyModel> model;  ///< what was read
};

/// Whether states are something else than the images themselves.
inline bool has_latents(const ModelShape& shape) { return !shape.decoder.name.empty(); }

/// A model of one family under given settings: its files are opened once, for its sizes and then
/// for itself.
class FamilyModel {
 public:
  virtual ~FamilyModel() = default;
  /// Its sizes; `model` is left unset.
  virtual ModelShape shape() const = 0;
  /// Throws where images of these settings cannot be made.
  virtual void check() const {}
  /// The model itself, frozen, of the processes of a run: all make this call.
  virtual std::unique_ptr<FlowModel> open(const Group& group) const = 0;
  /// Of the network's weights as they lie in the files: what adapters belong to. Reads all of them.
  virtual std::string network_hash() const = 0;
};

/// Where a network's frozen weights lie while it computes on a GPU.
enum class Offload {
  kNone,   ///< on the GPU
  kBlocks  ///< those of its blocks on the host; they visit the GPU in turn
};
inline OptionWords<Offload> option_words(Offload) {
  return {{"none", Offload::kNone}, {"blocks", Offload::kBlocks}};
}

/// Which of a network's frozen weights each process of a run holds.
enum class Weights {
  kResident,  ///< all
  kSharded    ///< of its blocks a part; a block is gathered while the one before it computes
};
inline OptionWords<Weights> option_words(Weights) {
  return {{"resident", Weights::kResident}, {"sharded", Weights::kSharded}};
}

/// How a model is opened, whatever its family.
struct ModelUse {
  std::string path;  ///< folder, name or file
  Precision precision = Precision::kAuto;
  bool checkpointing = false;  ///< of the network's blocks and the decoder's
  Offload offload = Offload::kNone;
  Weights weights = Weights::kResident;
};

}  // namespace vggflow

#include "vggflow/families/sd3/mmdit_sizes.h"

#include <algorithm>

#include "vggflow/families/sd3/mmdit_cost.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/networks/autoencoders/decoder_cost.h"

namespace vggflow {
namespace {

class MmditSizes : public NetworkSizes {
 public:
  MmditSizes(const MmditOptions& options, int64_t image_tokens, int64_t text_tokens)
      : options_(options), image_tokens_(image_tokens), text_tokens_(text_tokens) {}

  std::unique_ptr<Module> skeleton() const override {
    const ShapesOnly guard;
    return std::make_unique<Mmdit>(options_);
  }
  double parameters() const override { return count_parameters<Mmdit>(options_); }
  double tables() const override { return mmdit_grid(options_); }
  double output_parameters() const override {
    const MmditOptions& o = options_;
    return static_cast<double>(o.width() + 1) *
           static_cast<double>(o.patch_size * o.patch_size * o.channels);
  }
  Offloaded offloaded() const override {
    constexpr double kVisiting = 2;  // blocks on the device (nn/block_ring.h)
    const ShapesOnly guard;
    const Mmdit network(options_);
    double all = 0, largest = 0;
    for (const auto& block : network.blocks) {
      const auto numbers = static_cast<double>(block->parameter_count());
      all += numbers;
      largest = std::max(largest, numbers);
    }
    return {all, kVisiting * largest};
  }
  bool carries_pairs() const override { return true; }
  PassCost cost(const NetworkCall& call) const override {
    return mmdit_cost(options_, call_of(call));
  }
  PassCost tangent_cost(const NetworkCall& call) const override {
    return mmdit_tangent_cost(options_, call_of(call));
  }
  std::unique_ptr<NetworkSizes> small(int64_t width, int64_t layers,
                                      int64_t states) const override {
    return std::make_unique<MmditSizes>(small_mmdit_options(width, layers, states, options_),
                                        image_tokens_, text_tokens_);
  }
  bool at_once(const NetworkCall& call) const { return runs_at_once(options_, call_of(call)); }

 private:
  MmditCall call_of(const NetworkCall& c) const {
    return {.image_tokens = image_tokens_,
            .text_tokens = text_tokens_,
            .bytes = c.bytes,
            .rank = c.rank,
            .input_gradient = c.input_gradient,
            .trained = c.trained,
            .checkpointing = c.checkpointing,
            .batched = c.batched};
  }
  MmditOptions options_;
  int64_t image_tokens_, text_tokens_;
};

}  // namespace

ModelShape mmdit_shape(const MmditOptions& o, const std::vector<int64_t>& state,
                       int64_t text_tokens) {
  ModelShape shape;
  shape.state = state;
  shape.text_tokens = text_tokens;
  shape.context_width = o.context_dim;
  shape.pooled_width = o.pooled_dim;
  const int64_t p = o.patch_size;
  shape.network = std::make_shared<MmditSizes>(o, (state[1] / p) * (state[2] / p), text_tokens);
  return shape;
}

bool mmdit_runs_at_once(const NetworkSizes& network, const NetworkCall& call) {
  const auto* mmdit = dynamic_cast<const MmditSizes*>(&network);
  return mmdit && mmdit->at_once(call);
}

DecoderSizes taesd3_sizes(int64_t channels, int64_t h, int64_t w, bool checkpointing) {
  const TaesdOptions options{.latent_channels = channels};
  return {.name = "TAESD3",
          .parameters = taesd_decoder_parameters(options),
          .cost = taesd_decoder_cost(options, h, w, checkpointing)};
}

}  // namespace vggflow

#include "vggflow/families/sd3/releases.h"

namespace vggflow {

bool is_sd3_release(const std::string& name) {
  for (const char* release :
       {"stable-diffusion-3-medium", "stable-diffusion-3.5-medium", "stable-diffusion-3.5-large"}) {
    if (name.find(release) != std::string::npos) return true;
  }
  return false;
}

MmditOptions sd3_release(const std::string& name) {
  MmditOptions o{.sample_size = 128,
                 .channels = 16,
                 .patch_size = 2,
                 .layers = 24,
                 .heads = 24,
                 .head_dim = 64,
                 .context_dim = 4096,
                 .pooled_dim = 2048,
                 .pos_embed_max = 192};
  if (name.find("3.5-medium") != std::string::npos) {
    o.pos_embed_max = 384;
    o.qk_norm = true;
    for (int64_t i = 0; i < 13; ++i) o.dual_attention_layers.push_back(i);
  } else if (name.find("3.5-large") != std::string::npos) {
    o.layers = o.heads = 38;
    o.qk_norm = true;
  }
  return o;
}

}  // namespace vggflow

#include "vggflow/networks/clip/clip_encoders.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "vggflow/core/error.h"

namespace vggflow {

ClipImageEncoder::ClipImageEncoder(const ClipCheckpoint& checkpoint, at::ScalarType dtype, Fit fit)
    : tower_(make_clip_vision(checkpoint, dtype)),
      preprocess_{.size = checkpoint.vision.image, .fit = fit} {}

ClipTextEncoder::ClipTextEncoder(const ClipCheckpoint& checkpoint,
                                 const std::filesystem::path& tokenizer, at::ScalarType dtype)
    : tokenizer_(tokenizer), tower_(make_clip_text(checkpoint, dtype)) {
  VGGFLOW_CHECK(tokenizer_.size() <= checkpoint.text.vocabulary,
                "[clip] the tokenizer in {} has {} tokens, the text tower of {} knows {}: they do "
                "not belong together",
                tokenizer.string(), tokenizer_.size(), checkpoint.origin,
                checkpoint.text.vocabulary);
}

// Without padding: a token sees only those before it, so what follows the end mark changes nothing.
Tensor ClipTextEncoder::embed_one(const std::string& prompt) const {
  auto ids = tokenizer_.ids(prompt);
  const auto most = static_cast<size_t>(tower_->options.positions);
  if (ids.size() > most) {
    ids[most - 1] = ids.back();
    ids.resize(most);
  }
  const Tensor pooled = tower_->forward(at::tensor(ids).unsqueeze(0)).pooled;  // (1, P)
  return ops::l2_normalize(pooled.to(at::kFloat)).squeeze(0);
}

Tensor ClipTextEncoder::embed(const std::vector<std::string>& prompts) const {
  constexpr size_t kMostKept = 4096;
  at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  if (known_.size() > kMostKept) known_.clear();
  std::vector<Tensor> rows;
  for (const std::string& prompt : prompts) {
    auto& known = known_[prompt];
    if (!known.defined()) known = embed_one(prompt);
    rows.push_back(known);
  }
  return at::stack(rows);
}

}  // namespace vggflow

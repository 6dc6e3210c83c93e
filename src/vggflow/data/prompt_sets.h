#pragma once
// What speaks against a prompt set or a batch: evaluation prompts that were trained on, and pairs
// of prompt and noise that occur twice.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vggflow {

/// Evaluation prompts that are in the training set too. Each is counted once, under the closest
/// match.
struct PromptOverlap {
  int64_t train = 0, eval = 0;  ///< prompts looked at
  int64_t exact = 0;            ///< byte for byte
  int64_t normalized =
      0;             ///< equal in lower case, NFC, without punctuation and runs of white space
  int64_t near = 0;  ///< share at least `near_share` of their distinct words (Jaccard index)
  struct Example {
    std::string eval, train;
    double shared_words = 0;
  };
  std::vector<Example> examples;  ///< the closest first, at most ten
  int64_t found() const { return exact + normalized + near; }
};
PromptOverlap prompt_overlap(const std::vector<std::string>& train,
                             const std::vector<std::string>& eval, double near_share = 0.8);

/// "  A red,  RED Heart!" -> "a red red heart".
std::string normalized_prompt(const std::string& prompt);

/// How much of a batch is its own: a pair of prompt and noise that occurs twice gives the same
/// image and the same gradient, so that the effective batch is the number of different pairs.
struct BatchAudit {
  int64_t samples = 0, unique_pairs = 0, unique_prompts = 0, unique_noise = 0;
  int64_t most_repeats = 0;     ///< of one pair
  std::string repeated_prompt;  ///< of that pair; empty where none is repeated
  int64_t repeated() const { return samples - unique_pairs; }
};
/// One prompt and one noise (its hash or its key) a sample.
BatchAudit audit_batch(const std::vector<std::string>& prompts, const std::vector<uint64_t>& noise);

/// A hash of each row's bytes: of noise (B, C, H, W) or of images; equal rows, equal numbers.
std::vector<uint64_t> row_hashes(const at::Tensor& rows);

}  // namespace vggflow

#pragma once
// Checkpoint folders: run/checkpoints/update_000050, complete once they hold their mark. The newest
// complete one is kept, and the one before it, so that a crash while writing loses nothing, and a
// damaged file no more than the updates between the two. checkpoint.json holds the format's number,
// the update and a hash of the state's bytes; folders of the first format, which has none, are read
// as they are.

#include <filesystem>
#include <optional>
#include <string>

#include "vggflow/dist/group.h"
#include "vggflow/io/safetensors.h"

namespace vggflow {

struct Checkpoint {
  int64_t update = 0;
  TensorList tensors;
  Metadata metadata;
};

void save_checkpoint(const std::filesystem::path& run, const Checkpoint& checkpoint);

/// The state of the best evaluation, run/checkpoints/best; replaces the one before.
void save_best_checkpoint(const std::filesystem::path& run, const Checkpoint& checkpoint);

/// The updates of a run's newest complete checkpoint, if there is one.
std::optional<int64_t> last_checkpoint(const std::filesystem::path& run);

/// The newest whole checkpoint of a run, if there is one; says of every newer one that is damaged.
/// Throws where all are.
std::optional<Checkpoint> load_checkpoint(const std::filesystem::path& run);

/// Rank 0's, on every rank.
std::optional<Checkpoint> broadcast(const Group& group,
                                    const std::optional<Checkpoint>& checkpoint);

/// A tensor of a checkpoint by name; throws when it is absent or has another shape than `like`.
Tensor checkpoint_tensor(const Checkpoint& checkpoint, const std::string& name, const Tensor& like);

/// A text of a checkpoint's header by key, and a whole number of it; throws where it is absent or
/// damaged.
const std::string& checkpoint_text(const Checkpoint& checkpoint, const std::string& key);
int64_t checkpoint_number(const Checkpoint& checkpoint, const std::string& key);

}  // namespace vggflow

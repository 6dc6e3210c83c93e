#pragma once
// Frozen weights that the ranks of a run hold between them: each keeps a part of every block, and a
// block is gathered while the one before it computes (nn/block_ring.h).

#include <memory>

#include "vggflow/dist/group.h"
#include "vggflow/nn/block_ring.h"

namespace vggflow {

/// Each rank keeps 1 / size of a block's bytes in its host's memory. A block's visit is a call that
/// all ranks make: from now on they go in step (Group::keep_step), and a rank that asks for another
/// block than the others ends all, by name.
std::unique_ptr<BlockSource> sharded_blocks(const Group& group);

}  // namespace vggflow

#pragma once
// Frozen weights that lie in the host's memory and visit the device block by block. The device
// holds two blocks: the one that computes, and the next one, which is copied beside it. Nothing is
// copied back. Passes go through the blocks up or down, and the ring follows.

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

/// Whether b begins in memory where a of the same shape ends, as weights lie that are multiplied as
/// one.
bool lies_behind(const Tensor& a, const Tensor& b);

/// A module whose weights come and go.
class Visitor {
 public:
  virtual ~Visitor() = default;
  /// Brings its weights to the device.
  virtual void bring_weights() const = 0;
};

class BlockRing {
 public:
  /// Takes the parameters of every block, which lie on the host, and frees them there but for one
  /// packed copy each (page-locked for CUDA). They become tensors of `device`, shared by all views,
  /// which have memory while their block visits; those of a block that is away must not be read.
  BlockRing(const std::vector<Module*>& blocks, at::Device device);
  ~BlockRing();
  BlockRing(const BlockRing&) = delete;
  BlockRing& operator=(const BlockRing&) = delete;

  /// Block's weights are on the device for what the current stream computes from now on, until two
  /// other blocks are asked for; begins to copy the block that follows.
  void acquire(size_t block);

 private:
  struct Block {
    std::vector<Tensor> tensors;   ///< of the device
    std::vector<int64_t> offsets;  ///< of the tensors in `host`, in bytes
    Tensor host;
  };
  struct Slot {
    Tensor bytes;
    c10::Event copied;
    std::ptrdiff_t block;  ///< whose weights these are; -1: nobody's
  };

  Block pack(const Module& block) const;
  Slot* slot_of(size_t block);
  size_t after(size_t block) const;
  void fetch(size_t block, Slot& into);
  Slot& other_than(size_t block);

  at::Device device_;
  at::Storage nothing_;
  c10::Stream copies_;
  std::vector<Block> blocks_;
  std::vector<Slot> slots_;
  size_t last_ = 0;
  bool down_ = false;  ///< the last step went to a lower block
  std::mutex mutex_;   ///< backward passes run on a thread of the device's
};

/// A block's place in a ring; of a block whose weights stay there is none.
struct RingPlace {
  std::shared_ptr<BlockRing> ring;
  size_t block = 0;
  void acquire() const {
    if (ring) ring->acquire(block);
  }
};

}  // namespace vggflow

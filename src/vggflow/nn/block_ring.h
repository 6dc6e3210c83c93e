#pragma once
// Frozen weights that lie elsewhere, such as in the host's memory, and visit the device block by
// block. The device holds two blocks: the one that computes, and the next one, which is brought
// beside it. Nothing is brought back. Passes go through the blocks up or down, and the ring
// follows.

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

/// Where a ring's blocks come from. The ring has slots, numbered from 0, with room for a block
/// each.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  /// Takes the packed bytes (uint8, on the host) of the next block, the first one first.
  virtual void add(const Tensor& bytes) = 0;
  /// Bytes of a slot that a block of `bytes` comes into.
  virtual int64_t room_for(int64_t bytes) const { return bytes; }
  /// Begins to bring a block into a slot, which `into` (uint8, of the device) is: all that the
  /// current stream was asked for so far may still read what lay there.
  virtual void begin(size_t block, size_t slot, const Tensor& into) = 0;
  /// What the current stream computes from now on finds the block in the slot.
  virtual void finish(size_t slot) = 0;
};

/// Blocks in the host's memory, page-locked for CUDA, which are copied beside what computes.
std::unique_ptr<BlockSource> blocks_on_host(at::Device device);

class BlockRing {
 public:
  /// Takes the parameters of every block, which lie on the host, and gives them to `source`, one
  /// packed tensor a block. They become tensors of `device`, shared by all views, which have memory
  /// while their block visits; those of a block that is away must not be read.
  BlockRing(const std::vector<Module*>& blocks, at::Device device,
            std::unique_ptr<BlockSource> source);
  BlockRing(const BlockRing&) = delete;
  BlockRing& operator=(const BlockRing&) = delete;

  /// Block's weights are on the device for what the current stream computes from now on, until two
  /// other blocks are asked for; begins to bring the block that follows.
  void acquire(size_t block);

 private:
  struct Block {
    std::vector<Tensor> tensors;   ///< of the device
    std::vector<int64_t> offsets;  ///< of the tensors in the packed bytes
    int64_t bytes = 0;
  };
  struct Slot {
    Tensor bytes;
    std::ptrdiff_t block;  ///< whose weights these are; -1: nobody's
  };

  Block pack(const Module& block) const;
  Slot* slot_of(size_t block);
  size_t number_of(const Slot& slot) const { return static_cast<size_t>(&slot - slots_.data()); }
  size_t after(size_t block) const;
  void fetch(size_t block, Slot& into);
  Slot& other_than(size_t block);

  at::Device device_;
  at::Storage nothing_;
  std::unique_ptr<BlockSource> source_;
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

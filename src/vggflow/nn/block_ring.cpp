#include "vggflow/nn/block_ring.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

constexpr int64_t kAlignment = 64;  // bytes

c10::Stream current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// The tensor's numbers are those of a storage from `offset` bytes on; sizes stay.
void point(const Tensor& tensor, const at::Storage& storage, int64_t offset) {
  at::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  impl.set_storage_keep_dtype(storage);
  impl.set_storage_offset(offset / tensor.element_size());
}

}  // namespace

bool lies_behind(const Tensor& a, const Tensor& b) {
  return a.sizes() == b.sizes() && a.is_contiguous() && b.is_contiguous() &&
         a.storage().is_alias_of(b.storage()) &&
         b.storage_offset() == a.storage_offset() + a.numel();
}

BlockRing::BlockRing(const std::vector<Module*>& blocks, at::Device device)
    : device_(device),
      nothing_(at::empty({0}, at::device(device).dtype(at::kByte)).storage()),
      copies_(c10::impl::VirtualGuardImpl(device.type())
                  .getStreamFromGlobalPool(device, /*isHighPriority=*/false)) {
  const at::NoGradGuard no_graph;
  int64_t largest = 0;
  for (Module* block : blocks) {
    blocks_.push_back(pack(*block));
    largest = std::max(largest, blocks_.back().host.numel());
  }
  constexpr size_t kSlots = 2;
  while (slots_.size() < std::min(kSlots, blocks_.size()))
    slots_.push_back({at::empty({largest}, at::device(device).dtype(at::kByte)),
                      c10::Event(device.type()), /*block=*/-1});
}

// What still runs reads the slots.
BlockRing::~BlockRing() {
  copies_.synchronize();
  current_stream(device_).synchronize();
}

// Matrices first: what lay behind one another, as queries', keys' and values' weights do for their
// joint product, does so again, and nothing else.
BlockRing::Block BlockRing::pack(const Module& module) const {
  std::vector<Tensor*> parameters;
  for (const NamedTensor& p : module.parameters()) {
    VGGFLOW_CHECK(p.tensor->is_cpu(), "[block_ring] expected {} on the host, got it on {}", p.name,
                  p.tensor->device().str());
    parameters.push_back(p.tensor);
  }
  std::stable_sort(parameters.begin(), parameters.end(),
                   [](const Tensor* a, const Tensor* b) { return a->dim() > b->dim(); });
  Block block;
  int64_t bytes = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (i > 0 && !lies_behind(*parameters[i - 1], *parameters[i]))
      bytes = (bytes / kAlignment + 1) * kAlignment;
    block.offsets.push_back(bytes);
    bytes += static_cast<int64_t>(parameters[i]->nbytes());
  }
  block.host = at::empty({bytes}, at::dtype(at::kByte).pinned_memory(device_.is_cuda()));
  for (size_t i = 0; i < parameters.size(); ++i) {
    Tensor& p = *parameters[i];
    block.host.narrow(0, block.offsets[i], static_cast<int64_t>(p.nbytes()))
        .view(p.scalar_type())
        .view(p.sizes())
        .copy_(p);
    Tensor there = at::empty({0}, at::device(device_).dtype(p.scalar_type()));
    there.unsafeGetTensorImpl()->set_sizes_contiguous(p.sizes());
    point(there, nothing_, 0);
    p = there;
    block.tensors.push_back(std::move(there));
  }
  return block;
}

BlockRing::Slot* BlockRing::slot_of(size_t block) {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) {
    return s.block == static_cast<std::ptrdiff_t>(block);
  });
  return found == slots_.end() ? nullptr : &*found;
}

BlockRing::Slot& BlockRing::other_than(size_t block) {
  Slot& first = slots_.front();
  return first.block == static_cast<std::ptrdiff_t>(block) ? slots_.back() : first;
}

// Up again after the last one, since the next pass begins at the first block. A backward pass
// begins at the last one, and after the first one a forward pass begins, whose blocks are here.
size_t BlockRing::after(size_t block) const {
  if (down_) return block == 0 ? 1 : block - 1;
  return (block + 1) % blocks_.size();
}

// All that was asked of the current stream so far may read what lay in the slot.
void BlockRing::fetch(size_t index, Slot& into) {
  const Block& block = blocks_[index];
  if (into.block >= 0) {
    for (const Tensor& t : blocks_[static_cast<size_t>(into.block)].tensors) point(t, nothing_, 0);
  }
  c10::Event read(device_.type());
  read.record(current_stream(device_));
  {
    const c10::StreamGuard on_copies(copies_);
    read.block(copies_);
    into.bytes.narrow(0, 0, block.host.numel()).copy_(block.host, /*non_blocking=*/true);
    into.copied.record(copies_);
  }
  into.block = static_cast<std::ptrdiff_t>(index);
  for (size_t i = 0; i < block.tensors.size(); ++i)
    point(block.tensors[i], into.bytes.storage(), block.offsets[i]);
}

void BlockRing::acquire(size_t block) {
  const at::NoGradGuard no_graph;
  const std::lock_guard lock(mutex_);
  const bool at_end = block + 1 == blocks_.size();
  down_ = block == last_ ? at_end : block + 1 == last_ || (at_end && last_ + 1 != block);
  Slot* slot = slot_of(block);
  if (!slot) {
    slot = &other_than(last_);
    fetch(block, *slot);
  }
  last_ = block;
  slot->copied.block(current_stream(device_));
  const size_t next = after(block);
  if (next < blocks_.size() && !slot_of(next)) fetch(next, other_than(block));
}

}  // namespace vggflow

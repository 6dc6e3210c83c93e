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

namespace {

class HostBlocks : public BlockSource {
 public:
  explicit HostBlocks(at::Device device)
      : device_(device),
        copies_(c10::impl::VirtualGuardImpl(device.type())
                    .getStreamFromGlobalPool(device, /*isHighPriority=*/false)) {}
  // What still runs reads the slots.
  ~HostBlocks() override {
    copies_.synchronize();
    current_stream(device_).synchronize();
  }

  void add(const Tensor& bytes) override {
    blocks_.push_back(device_.is_cuda() ? bytes.pin_memory() : bytes);
  }
  void begin(size_t block, size_t slot, const Tensor& into) override;
  void finish(size_t slot) override { copied_[slot].block(current_stream(device_)); }

 private:
  at::Device device_;
  c10::Stream copies_;
  std::vector<Tensor> blocks_;
  std::vector<c10::Event> copied_;  // by slot
};

void HostBlocks::begin(size_t block, size_t slot, const Tensor& into) {
  while (copied_.size() <= slot) copied_.emplace_back(device_.type());
  c10::Event read(device_.type());
  read.record(current_stream(device_));
  const c10::StreamGuard on_copies(copies_);
  read.block(copies_);
  into.narrow(0, 0, blocks_[block].numel()).copy_(blocks_[block], /*non_blocking=*/true);
  copied_[slot].record(copies_);
}

}  // namespace

std::unique_ptr<BlockSource> blocks_on_host(at::Device device) {
  return std::make_unique<HostBlocks>(device);
}

BlockRing::BlockRing(const std::vector<Module*>& blocks, at::Device device,
                     std::unique_ptr<BlockSource> source)
    : device_(device),
      nothing_(at::empty({0}, at::device(device).dtype(at::kByte)).storage()),
      source_(std::move(source)) {
  const at::NoGradGuard no_graph;
  int64_t room = 0;
  for (Module* block : blocks) {
    blocks_.push_back(pack(*block));
    room = std::max(room, source_->room_for(blocks_.back().bytes));
  }
  constexpr size_t kSlots = 2;
  while (slots_.size() < std::min(kSlots, blocks_.size()))
    slots_.push_back({at::empty({room}, at::device(device).dtype(at::kByte)), /*block=*/-1});
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
  const Tensor packed = at::empty({bytes}, at::kByte);
  for (size_t i = 0; i < parameters.size(); ++i) {
    Tensor& p = *parameters[i];
    packed.narrow(0, block.offsets[i], static_cast<int64_t>(p.nbytes()))
        .view(p.scalar_type())
        .view(p.sizes())
        .copy_(p);
    Tensor there = at::empty({0}, at::device(device_).dtype(p.scalar_type()));
    there.unsafeGetTensorImpl()->set_sizes_contiguous(p.sizes());
    point(there, nothing_, 0);
    p = there;
    block.tensors.push_back(std::move(there));
  }
  block.bytes = bytes;
  source_->add(packed);
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

void BlockRing::fetch(size_t index, Slot& into) {
  const Block& block = blocks_[index];
  if (into.block >= 0) {
    for (const Tensor& t : blocks_[static_cast<size_t>(into.block)].tensors) point(t, nothing_, 0);
  }
  source_->begin(index, number_of(into), into.bytes);
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
  source_->finish(number_of(*slot));
  const size_t next = after(block);
  if (next < blocks_.size() && !slot_of(next)) fetch(next, other_than(block));
}

}  // namespace vggflow

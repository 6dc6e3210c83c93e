#include "vggflow/weights/frozen_weights.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <array>
#include <optional>

#include "vggflow/device/device.h"

namespace vggflow {
namespace {

// Sends tensors of a mapped file to a device through two stages of memory that the device reads by
// itself (pinned, on a GPU): one is filled, from the file and in the wanted dtype, while the other
// is sent. From the file's own pages a copy would wait for every part of it.
class Upload {
 public:
  explicit Upload(at::Device device) : device_(device) {
    for (Stage& stage : stages_) {
      stage.memory = at::empty({kBytes}, at::kByte);
      if (device.is_cuda()) stage.memory = stage.memory.pin_memory();
    }
  }
  ~Upload() {
    for (const Stage& stage : stages_) wait(stage);
  }
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // The order in memory stays, as with Tensor::to: a transposed weight takes another product.
  Tensor operator()(const Tensor& given, at::ScalarType dtype) {
    const Tensor from = given.is_non_overlapping_and_dense() ? given : given.contiguous();
    Tensor to = at::empty_strided(from.sizes(), from.strides(), at::device(device_).dtype(dtype));
    const Tensor source = from.as_strided({from.numel()}, {1}),
                 target = to.as_strided({to.numel()}, {1});
    const int64_t room = kBytes / to.element_size();
    for (int64_t begin = 0; begin < source.numel(); begin += room)
      send(source.narrow(0, begin, std::min(room, source.numel() - begin)),
           target.narrow(0, begin, std::min(room, source.numel() - begin)));
    return to;
  }

 private:
  static constexpr int64_t kBytes = int64_t{32} << 20;
  struct Stage {
    Tensor memory;
    std::optional<c10::Event> sent;
  };

  static void wait(const Stage& stage) {
    if (stage.sent) stage.sent->synchronize();
  }
  void send(const Tensor& from, const Tensor& to) {
    Stage& stage = stages_[next_];
    next_ = 1 - next_;
    wait(stage);
    const Tensor filled = stage.memory.view(to.scalar_type()).narrow(0, 0, from.numel());
    filled.copy_(from);
    to.copy_(filled, /*non_blocking=*/true);
    stage.sent.emplace(device_.type());
    stage.sent->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  }

  at::Device device_;
  std::array<Stage, 2> stages_;
  size_t next_ = 0;
};

}  // namespace

void adopt_weights(const std::vector<NamedTensor>& targets, const ComponentWeights& weights,
                   at::ScalarType dtype, const std::set<std::string>& unused) {
  TensorList list;
  for (const NamedTensor& target : targets) list.emplace_back(target.name, *target.tensor);
  TensorMap tensors = weights.tensors;
  for (const std::string& name : unused) tensors.erase(name);
  expect_fit(tensors, weights.origin, list);
  if (current_device().is_cpu()) {
    for (const NamedTensor& target : targets)
      *target.tensor = tensors.at(target.name).to(at::kCPU, dtype);
    return;
  }
  Upload upload(current_device());
  for (const NamedTensor& target : targets) *target.tensor = upload(tensors.at(target.name), dtype);
}

}  // namespace vggflow

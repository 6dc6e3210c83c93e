#include "vggflow/train/shares.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// The sums of the own shares' gradients, a row each, while they are computed.
class ShareGradients {
 public:
  ShareGradients(ParameterBuffer& buffer, size_t shares)
      : buffer_(buffer),
        rows_(at::zeros({static_cast<int64_t>(shares), buffer.gradient().numel()},
                        buffer.gradient().options())) {}
  ~ShareGradients() { buffer_.accumulate_in(buffer_.gradient()); }
  ShareGradients(const ShareGradients&) = delete;
  ShareGradients& operator=(const ShareGradients&) = delete;
  void turn_to(size_t i) { buffer_.accumulate_in(rows_[static_cast<int64_t>(i)]); }
  void add_up(const Group& group) { buffer_.gradient().copy_(group.ordered_sum(rows_)); }

 private:
  ParameterBuffer& buffer_;
  Tensor rows_;
};

}  // namespace

Shares::Shares(const Group& group, int64_t count, int64_t batch)
    : group_(group),
      count_(std::max<int64_t>(1, count)),
      rows_(batch / count_),
      own_(count_ / group.size()),
      first_(own_ * group.rank()) {
  VGGFLOW_CHECK(batch % count_ == 0,
                "[ranks] expected shares that divide batch={}, got {}: pass shares=N or batch=N",
                batch, count_);
  VGGFLOW_CHECK(count_ % group.size() == 0,
                "[ranks] expected a number of processes that divides shares={}, got {}: start as "
                "many, or a new run with shares={}",
                count_, group.size(), group.size());
}

void Shares::step_value(TrainState& state, const Meet& meet,
                        const std::function<void()>& step) const {
  ParameterBuffer& buffer = state.value->buffer;
  if (count_ == 1) {
    step();
    buffer.zero_grad();
    return;
  }
  const Tensor all = meet(buffer.accumulated().unsqueeze(0));
  buffer.accumulated().zero_();
  if (stepping_++ % own_ != 0) return;
  buffer.gradient().copy_(all[0]);
  for (int64_t i = 1; i < all.size(0); ++i) buffer.gradient().add_(all[i]);
  step();
}

void Shares::run(TrainState& state,
                 const std::function<void(size_t i, const Meet& meet)>& work) const {
  if (count_ == 1) return work(0, {});
  ShareGradients policy(state.policy.buffer, own());
  std::optional<ShareGradients> value;
  if (state.value) value.emplace(state.value->buffer, own());
  take_turns(
      own(), [&](const std::vector<Tensor>& given) { return group_.gather_rows(at::cat(given)); },
      [&](size_t i) {
        policy.turn_to(i);
        if (value) value->turn_to(i);
      },
      work);
  policy.add_up(group_);
  if (value) value->add_up(group_);
}

}  // namespace vggflow

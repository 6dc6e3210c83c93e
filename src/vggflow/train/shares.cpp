#include "vggflow/train/shares.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

std::vector<ParameterBuffer*> buffers_of(TrainState& state) {
  std::vector<ParameterBuffer*> all{&state.policy.buffer};
  if (state.value) all.push_back(&state.value->buffer);
  return all;
}

int64_t numbers_of(const std::vector<ParameterBuffer*>& buffers) {
  int64_t sum = 0;
  for (ParameterBuffer* buffer : buffers) sum += buffer->gradient().numel();
  return sum;
}

// The sums of the own shares' gradients, a row each of all networks, while they are computed: they
// are sent in one piece.
class ShareGradients {
 public:
  ShareGradients(TrainState& state, size_t shares)
      : buffers_(buffers_of(state)),
        rows_(at::zeros({static_cast<int64_t>(shares), numbers_of(buffers_)},
                        state.policy.buffer.gradient().options())) {}
  ~ShareGradients() {
    for (ParameterBuffer* buffer : buffers_) buffer->accumulate_in(buffer->gradient());
  }
  ShareGradients(const ShareGradients&) = delete;
  ShareGradients& operator=(const ShareGradients&) = delete;

  void turn_to(size_t share) {
    for_parts(rows_[static_cast<int64_t>(share)],
              [](ParameterBuffer& buffer, const Tensor& part) { buffer.accumulate_in(part); });
  }
  void add_up(const Group& group) {
    for_parts(group.ordered_sum(rows_),
              [](ParameterBuffer& buffer, const Tensor& part) { buffer.gradient().copy_(part); });
  }

 private:
  // Of a row, the part that is each network's.
  void for_parts(const Tensor& row,
                 const std::function<void(ParameterBuffer& buffer, const Tensor& part)>& f) const {
    int64_t start = 0;
    for (ParameterBuffer* buffer : buffers_) {
      const int64_t length = buffer->gradient().numel();
      f(*buffer, row.narrow(0, start, length));
      start += length;
    }
  }

  std::vector<ParameterBuffer*> buffers_;
  Tensor rows_;
};

}  // namespace

int64_t default_shares(int64_t batch, int processes, bool latents) {
  constexpr int64_t kMost = 8;
  if (processes == 1) return 1;
  for (int64_t count = latents ? kMost : 0; count > processes; --count) {
    if (batch % count == 0 && count % processes == 0) return count;
  }
  return processes;
}

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
  buffer.gradient().copy_(sum_in_order(all));
  step();
}

void Shares::run(TrainState& state,
                 const std::function<void(size_t i, const Meet& meet)>& work) const {
  if (count_ == 1) return work(0, {});
  ShareGradients gradients(state, own());
  take_turns(
      own(), [&](const std::vector<Tensor>& given) { return group_.gather_rows(at::cat(given)); },
      [&](size_t i) { gradients.turn_to(i); }, work);
  gradients.add_up(group_);
}

}  // namespace vggflow

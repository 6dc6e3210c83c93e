#include "vggflow/dist/group.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <iterator>
#include <string>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/version.h"

namespace vggflow {
namespace {

// A message is a packet of what it is and its first bytes; longer ones have a second round, padded
// to the longest.
struct Head {
  int64_t bytes = 0, dtype = 0, dimensions = 0;
  std::array<int64_t, 5> shape{};
};
constexpr int64_t kPacket = 4096, kHead = sizeof(Head);

Head head_of(const Tensor& x) {
  Head head{static_cast<int64_t>(x.nbytes()), static_cast<int64_t>(x.scalar_type()), x.dim(), {}};
  VGGFLOW_CHECK(head.dimensions <= std::ssize(head.shape),
                "[ranks] expected a tensor of at most {} dimensions, got {}", head.shape.size(),
                head.dimensions);
  std::copy(x.sizes().begin(), x.sizes().end(), head.shape.begin());
  return head;
}

Tensor tensor_of(const Head& head, const Tensor& bytes) {
  const at::IntArrayRef shape(head.shape.data(), static_cast<size_t>(head.dimensions));
  Tensor out = at::empty(shape, static_cast<at::ScalarType>(head.dtype));
  if (head.bytes > 0)
    std::memcpy(out.data_ptr(), bytes.const_data_ptr(), static_cast<size_t>(head.bytes));
  return out;
}

Tensor bytes_of(const std::string& text) {
  Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  return bytes;
}

std::string text_of(const Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

// At least `count` bytes, the first of them from `bytes`.
Tensor padded(const Tensor& bytes, int64_t count) {
  if (bytes.numel() == count) return bytes;
  Tensor out = at::zeros({count}, at::kByte);
  out.narrow(0, 0, bytes.numel()).copy_(bytes);
  return out;
}

// The tensors of all ranks, for this rank's, which is contiguous and on the CPU.
std::vector<Tensor> gather_through(Transport& transport, const Tensor& own) {
  constexpr int64_t kRest = kPacket - kHead;
  const Tensor bytes = own.reshape({-1}).view(at::kByte);
  const Head head = head_of(own);
  Tensor packet = at::zeros({kPacket}, at::kByte);
  std::memcpy(packet.data_ptr(), &head, sizeof(head));
  const int64_t first = std::min(head.bytes, kRest);
  packet.narrow(0, kHead, first).copy_(bytes.narrow(0, 0, first));
  std::vector<Tensor> out = transport.gather(packet);
  std::vector<Head> heads(out.size());
  int64_t longest = 0;
  for (size_t r = 0; r < out.size(); ++r) {
    std::memcpy(&heads[r], out[r].const_data_ptr(), sizeof(Head));
    longest = std::max(longest, heads[r].bytes);
  }
  const bool long_ones = longest > kRest;
  if (long_ones) out = transport.gather(padded(bytes, longest));
  for (size_t r = 0; r < out.size(); ++r)
    out[r] = tensor_of(heads[r], long_ones ? out[r] : out[r].narrow(0, kHead, kRest));
  return out;
}

}  // namespace

Tensor sum_in_order(const Tensor& rows) {
  VGGFLOW_CHECK(rows.size(0) > 0, "[ranks] expected a row to add up, got none");
  Tensor sum = rows[0].clone();
  for (int64_t i = 1; i < rows.size(0); ++i) sum.add_(rows[i]);
  return sum;
}

Group Group::open(const Place& place, std::chrono::milliseconds timeout, const GpuRank& gpu) {
  if (place.size == 1) return {};
  return {place, open_gloo(place, timeout, gpu)};
}

std::vector<Tensor> Group::gather(const Tensor& x) const {
  if (!transport_) return {x};
  const Stopwatch watch;
  std::vector<Tensor> out;
  for (const Tensor& of_rank : gather_through(*transport_, x.detach().cpu().contiguous()))
    out.push_back(of_rank.to(x.device()));
  *seconds_ += watch.seconds();
  return out;
}

std::function<void()> Group::begin_gather(const Tensor& bytes, const Tensor& into) const {
  VGGFLOW_CHECK(transport_ && bytes.is_cpu() && into.numel() == size() * bytes.numel(),
                "[ranks] expected room for the bytes of {} ranks, {} each, got {}", size(),
                bytes.numel(), into.numel());
  const bool direct = transport_->takes(into.device());
  const Tensor here = direct ? into : at::empty(into.sizes(), into.options().device(at::kCPU));
  return [begun = transport_->begin_gather(bytes.to(here.device()), here), direct, here, into,
          seconds = seconds_] {
    const Stopwatch watch;
    begun();
    if (!direct) into.copy_(here);
    *seconds += watch.seconds();
  };
}

void Group::deal(int64_t count, const std::function<void(int64_t, bool)>& f) const {
  for (int64_t piece = rank(); piece < count; piece += size()) f(piece, /*counts=*/true);
  const int64_t last_round = count / size() * size();
  if (*in_step_ && last_round < count && last_round + rank() >= count)
    f(last_round, /*counts=*/false);
}

Tensor Group::gather_rows(const Tensor& rows) const {
  return transport_ ? at::cat(gather(rows)) : rows;
}

Tensor Group::ordered_sum(const Tensor& rows) const {
  if (!transport_ || static_cast<int64_t>(rows.nbytes()) <= kPacket - kHead)
    return sum_in_order(gather_rows(rows));
  const Stopwatch watch;
  const at::Device where = transport_->takes(rows.device()) ? rows.device() : at::kCPU;
  const Tensor own = rows.detach().flatten(1).to(where);
  const int64_t count = own.size(0), length = own.size(1), part = (length + size() - 1) / size();
  const Tensor even = at::constant_pad_nd(own, {0, size() * part - length});
  // (ranks, rows, part): to each rank its part of all rows, and from each its rows of this part.
  const Tensor sent = even.view({count, size(), part}).transpose(0, 1).contiguous();
  const Tensor came = transport_->exchange(sent.view({-1}).view(at::kByte))
                          .view(own.scalar_type())
                          .view({size() * count, part});
  const Tensor bytes = sum_in_order(came).view(at::kByte);
  const Tensor into = at::empty({size() * bytes.numel()}, bytes.options());
  transport_->begin_gather(bytes, into)();
  const Tensor all = into.view(own.scalar_type());
  *seconds_ += watch.seconds();
  return all.narrow(0, 0, length).reshape(rows[0].sizes()).to(rows.device());
}

Tensor Group::broadcast(const Tensor& x) const {
  return transport_ ? gather(leads() ? x : at::empty({0}, x.options())).front() : x;
}

std::string Group::broadcast(const std::string& text) const {
  return transport_ ? text_of(broadcast(bytes_of(text))) : text;
}

bool Group::any(bool said) const {
  if (!transport_) return said;
  const std::vector<Tensor> all = gather(at::full({1}, said ? 1 : 0, at::kByte));
  return std::any_of(all.begin(), all.end(), [](const Tensor& x) { return x.item<bool>(); });
}

void Group::agree(const std::string& what, const std::string& text) const {
  if (!transport_) return;
  const std::vector<Tensor> all = gather(bytes_of(text));
  std::vector<std::string> others;
  for (size_t r = 0; r < all.size(); ++r) {
    if (!at::equal(all[r], all[0])) others.push_back(fmt::format("rank {}", r));
  }
  VGGFLOW_CHECK(others.empty(),
                "[ranks] expected {} to be the same on all ranks; {} differs from rank 0. Start "
                "all with the same program, words and files",
                what, examples_of(others, ", "));
}

void Group::lead(const std::function<void()>& f) const {
  if (!transport_) return f();
  std::exception_ptr failure;
  std::string words;
  if (leads()) {
    try {
      f();
    } catch (const std::exception& e) {
      failure = std::current_exception();
      words = std::string("!") + e.what();
    }
  }
  words = broadcast(words);
  if (failure) std::rethrow_exception(failure);
  VGGFLOW_CHECK(words.empty(), "{} (said by rank 0)", words.substr(1));
}

void Group::leave_word(const std::string& text) const {
  if (transport_) transport_->leave_word(text);
}

void agree_on_settings(const Group& group, const Fields& fields) {
  group.agree("the program", fmt::format("{} {}", version(), commit()));
  group.agree("the settings", to_yaml(fields));
  // With threads=0 they come from the surroundings, OMP_NUM_THREADS for one.
  group.agree("the number of threads", std::to_string(at::get_num_threads()));
}

Tensor gather_dealt(const Group& group, const std::vector<Tensor>& own,
                    const std::vector<int64_t>& rows) {
  if (group.size() == 1) return at::cat(own);
  // A rank without a piece gives nothing.
  const std::vector<Tensor> by_rank = group.gather(own.empty() ? at::empty({0}) : at::cat(own));
  std::vector<int64_t> taken(by_rank.size());
  std::vector<Tensor> out;
  for (size_t piece = 0; piece < rows.size(); ++piece) {
    const size_t rank = piece % by_rank.size();
    out.push_back(by_rank[rank].narrow(0, taken[rank], rows[piece]));
    taken[rank] += rows[piece];
  }
  return at::cat(out);
}

}  // namespace vggflow

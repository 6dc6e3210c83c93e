#include "vggflow/weights/sharded_blocks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

constexpr int64_t kAlignment = 64;  // bytes
constexpr int64_t kNumber = sizeof(int64_t);

class ShardedBlocks : public BlockSource {
 public:
  explicit ShardedBlocks(const Group& group) : group_(group) { group_.keep_step(); }
  ~ShardedBlocks() override;
  void add(const Tensor& bytes) override;
  int64_t room_for(int64_t bytes) const override { return group_.size() * part_of(bytes); }
  void begin(size_t block, size_t slot, const Tensor& into) override;
  void finish(size_t slot) override;

 private:
  struct Visit {
    size_t block = 0;
    std::function<void()> number_came = {}, bytes_came = {};  // empty: nothing is under way
    Tensor numbers = {};                                      // of the blocks that ranks ask for
  };
  // Bytes of a block that a rank keeps.
  int64_t part_of(int64_t bytes) const {
    const int64_t part = (bytes + group_.size() - 1) / group_.size();
    return (part + kAlignment - 1) / kAlignment * kAlignment;
  }
  void check_same(const Visit& visit) const;

  Group group_;
  std::vector<Tensor> parts_;  // this rank's, by block
  std::vector<Visit> visits_;  // by slot
};

// Every rank has begun the same gathers, also those whose block nobody will ask for.
ShardedBlocks::~ShardedBlocks() {
  try {
    for (const Visit& visit : visits_) {
      if (visit.number_came) visit.number_came();
      if (visit.bytes_came) visit.bytes_came();
    }
  } catch (const std::exception&) {  // a rank that is gone is told of by whoever misses it
  }
}

void ShardedBlocks::add(const Tensor& bytes) {
  const int64_t part = part_of(bytes.numel()),
                start = std::min(part * group_.rank(), bytes.numel()),
                own = std::min(part, bytes.numel() - start);
  Tensor kept = at::zeros({part}, at::kByte);
  kept.narrow(0, 0, own).copy_(bytes.narrow(0, start, own));
  parts_.push_back(std::move(kept));
}

void ShardedBlocks::begin(size_t block, size_t slot, const Tensor& into) {
  if (visits_.size() <= slot) visits_.resize(slot + 1);
  Tensor number = at::full({1}, static_cast<int64_t>(block), at::kLong).view(at::kByte);
  Visit& visit = visits_[slot];
  visit = {.block = block, .numbers = at::empty({group_.size() * kNumber}, at::kByte)};
  visit.number_came = group_.begin_gather(number, visit.numbers);
  const Tensor& part = parts_[block];
  visit.bytes_came = group_.begin_gather(part, into.narrow(0, 0, group_.size() * part.numel()));
}

void ShardedBlocks::finish(size_t slot) {
  Visit& visit = visits_[slot];
  if (!visit.bytes_came) return;
  visit.number_came();
  check_same(visit);
  visit.bytes_came();
  visit.number_came = visit.bytes_came = {};
}

void ShardedBlocks::check_same(const Visit& visit) const {
  for (int rank = 0; rank < group_.size(); ++rank) {
    int64_t asked = 0;
    std::memcpy(&asked, visit.numbers.const_data_ptr<uint8_t>() + rank * kNumber, kNumber);
    VGGFLOW_CHECK(
        asked == static_cast<int64_t>(visit.block),
        "[ranks] expected all ranks to ask for the same block of sharded weights, rank {} "
        "asks for block {} and rank {} for {}: a share has lost samples whose reward is "
        "not finite, and computes less than the others. Go on with weights=resident",
        group_.rank(), visit.block, rank, asked);
  }
}

}  // namespace

std::unique_ptr<BlockSource> sharded_blocks(const Group& group) {
  return std::make_unique<ShardedBlocks>(group);
}

}  // namespace vggflow

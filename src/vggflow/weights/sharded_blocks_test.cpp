// A nano whose blocks lie with several ranks computes what the whole one does.
#include "vggflow/weights/sharded_blocks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<FlowModel> nano(const Group& group, Weights weights) {
  return open_flow_model({.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano",
                          .precision = Precision::kFp32,
                          .checkpointing = true,
                          .weights = weights,
                          .sd3 = {}},
                         group);
}

// Velocities with and without adapters, merged ones, a tangent, and the adapters' gradients.
std::vector<Tensor> numbers_of(const FlowModel& model) {
  const Tensor x = keyed_normal(1, Purpose::kTest, 0, 0, 2, model.state_shape()),
               t = at::tensor({0.25F, 0.75F});
  const Conditioning words = model.encode({"red heart", "ghost"});
  AdaptedFlow adapted(model, {2, 2, {"transformer_blocks.*.attn.to_q"}}, /*seed=*/3);
  const std::vector<NamedTensor> adapters = adapted.parameters();
  {
    const at::NoGradGuard no_graph;
    for (const NamedTensor& p : adapters) p.tensor->add_(0.01);
  }
  std::vector<Tensor> all{model.velocity(x, t, words)};
  adapted.policy().velocity(x, t, words).square().sum().backward();
  for (const NamedTensor& p : adapters) all.push_back(p.tensor->grad());
  const at::NoGradGuard no_graph;
  adapted.merge();
  all.push_back(adapted.merged().velocity(x, t, words));
  const Dual pair = model.velocity(Dual{x, at::ones_like(x)}, Dual{t, at::ones_like(t)}, words);
  all.insert(all.end(), {pair.value, pair.tangent});
  return all;
}

TEST(ShardedBlocks, GiveTheSameBits) {
  at::set_num_threads(1);
  const std::vector<Tensor> whole = numbers_of(*nano({}, Weights::kResident));
  for (const int ranks : {2, 3}) {
    testing::on_threads(ranks, [&](const Group& group) {
      at::set_num_threads(1);
      const std::vector<Tensor> parts = numbers_of(*nano(group, Weights::kSharded));
      ASSERT_EQ(parts.size(), whole.size());
      for (size_t i = 0; i < whole.size(); ++i)
        EXPECT_TRUE(at::equal(parts[i], whole[i])) << "number " << i << ", rank " << group.rank();
    });
  }
}

TEST(ShardedBlocks, AskedForInAnotherOrderEndAllRanks) {
  EXPECT_THAT(testing::message_of([] {
                testing::on_threads(2, [](const Group& group) {
                  const auto source = sharded_blocks(group);
                  for (int i = 0; i < 2; ++i) source->add(at::zeros({200}, at::kByte));
                  const Tensor slot = at::empty({source->room_for(200)}, at::kByte);
                  source->begin(static_cast<size_t>(group.rank()), 0, slot);
                  source->finish(0);
                });
              }),
              HasSubstr("expected all ranks to ask for the same block of sharded weights"));
}

TEST(ShardedBlocks, TakeAPartOfTheRoomOnEachRank) {
  testing::on_threads(3, [](const Group& group) {
    const auto source = sharded_blocks(group);
    const Tensor bytes = at::arange(200, at::kByte);
    source->add(bytes);
    EXPECT_EQ(source->room_for(200), 3 * 128);
    const Tensor slot = at::empty({3 * 128}, at::kByte);
    source->begin(0, 0, slot);
    source->finish(0);
    EXPECT_TRUE(at::equal(slot.narrow(0, 0, 200), bytes));
  });
}

}  // namespace
}  // namespace vggflow

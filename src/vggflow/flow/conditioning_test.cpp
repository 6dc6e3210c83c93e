// Conditioning goes through rows, types and concatenation whatever tensors a family has.
#include "vggflow/flow/conditioning.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

Conditioning full() {
  return {at::arange(12, at::kFloat).view({3, 2, 2}),
          at::arange(3, at::kFloat).view({3, 1}),
          {{"mask", at::tensor({1, 0, 1, 1, 0, 0}).to(at::kBool).view({3, 2})}}};
}

TEST(Conditioning, RowsPickEveryTensorInTheIndexsOrder) {
  const Conditioning c = full(), picked = c.rows(at::tensor({2, 0, 2}, at::kLong));
  for (const int64_t i : {0, 2}) {
    EXPECT_TRUE(at::equal(picked.context[i], c.context[2]));
    EXPECT_TRUE(at::equal(picked.more.at("mask")[i], c.more.at("mask")[2]));
  }
  EXPECT_EQ(picked.pooled[1].item<float>(), 0);
  EXPECT_TRUE(at::equal(c.rows(1, 2).context, c.context.narrow(0, 1, 2)));
}

TEST(Conditioning, ConcatUndoesRows) {
  const Conditioning c = full(), back = Conditioning::concat(c.rows(0, 1), c.rows(1, 2));
  EXPECT_TRUE(at::equal(back.context, c.context));
  EXPECT_TRUE(at::equal(back.pooled, c.pooled));
  EXPECT_TRUE(at::equal(back.more.at("mask"), c.more.at("mask")));
}

TEST(Conditioning, AFamilyMayLeaveOutWhatItDoesNotUse) {
  const Conditioning c{at::ones({2, 3, 4}), {}};
  const Conditioning both = Conditioning::concat(c.rows(0, 1).expand(5), c.to(at::kBFloat16));
  EXPECT_EQ(both.context.sizes(), (std::vector<int64_t>{7, 3, 4}));
  EXPECT_FALSE(both.pooled.defined());
}

TEST(Conditioning, TypesLeaveMasksAlone) {
  const Conditioning c = full().to(at::kBFloat16);
  EXPECT_EQ(c.context.scalar_type(), at::kBFloat16);
  EXPECT_EQ(c.more.at("mask").scalar_type(), at::kBool);
}

TEST(Conditioning, RefusesPartsOfTwoKinds) {
  EXPECT_THAT(testing::message_of(
                  [] { Conditioning::concat(full(), {at::ones({1, 2, 2}), {}, full().more}); }),
              ::testing::HasSubstr("expected 'pooled' in both parts or in neither"));
}

}  // namespace
}  // namespace vggflow

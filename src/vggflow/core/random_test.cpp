#include "vggflow/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace vggflow {
namespace {

// The counter is (block, sample, update, purpose), so purpose 0 with everything zero is Random123's
// first known answer: philox4x32-10, key 0, counter 0.
TEST(Random, IsPhilox4x32WithTenRounds) {
  RandomStream random({0, static_cast<Purpose>(0), 0, 0});
  EXPECT_EQ(random.bits(), 0x6627e8d5u);
  EXPECT_EQ(random.bits(), 0xe169c58du);
  EXPECT_EQ(random.bits(), 0xbc57ac4cu);
  EXPECT_EQ(random.bits(), 0x9b00dbd8u);
}

TEST(Random, EveryPartOfTheKeyMatters) {
  std::set<uint32_t> first;
  for (const RandomKey& key : {RandomKey{1, Purpose::kNoise, 2, 3},
                               {2, Purpose::kNoise, 2, 3},
                               {1, Purpose::kTime, 2, 3},
                               {1, Purpose::kNoise, 3, 3},
                               {1, Purpose::kNoise, 2, 4},
                               {1ull << 40, Purpose::kNoise, 2, 3}}) {
    first.insert(RandomStream(key).bits());
  }
  EXPECT_EQ(first.size(), 6u);
}

TEST(Random, NormalsHaveTheirMoments) {
  RandomStream random({5, Purpose::kTest, 0, 0});
  double m1 = 0, m2 = 0, m4 = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    m1 += x / n;
    m2 += x * x / n;
    m4 += x * x * x * x / n;
  }
  EXPECT_NEAR(m1, 0, 4 / std::sqrt(n));
  EXPECT_NEAR(m2, 1, 4 * std::sqrt(2.0 / n));
  EXPECT_NEAR(m4, 3, 4 * std::sqrt(96.0 / n));
}

TEST(Random, WeightedDrawsFollowTheirWeights) {
  RandomStream random({6, Purpose::kTest, 0, 0});
  const std::vector<double> weights{1, 0, 3};
  std::vector<int> counts(3);
  for (int i = 0; i < 20000; ++i) ++counts[static_cast<size_t>(random.weighted(weights))];
  EXPECT_EQ(counts[1], 0);
  EXPECT_NEAR(counts[0], 5000, 300);
}

TEST(Random, PermutationsHoldEveryNumberOnce) {
  RandomStream random({6, Purpose::kTest, 1, 0});
  auto p = random.permutation(50);
  EXPECT_NE(p.front() * 100 + p.back(), 49);
  EXPECT_EQ(std::set<int64_t>(p.begin(), p.end()).size(), 50u);
}

}  // namespace
}  // namespace vggflow

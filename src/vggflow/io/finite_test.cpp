#include "vggflow/io/finite.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace vggflow {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(Finite, SeesOneOddNumberWhereverItStandsInEveryDtype) {
  for (const at::ScalarType dtype :
       {at::kBFloat16, at::kHalf, at::kFloat, at::kDouble, at::kFloat8_e5m2, at::kFloat8_e4m3fn}) {
    for (const double odd : {kInf, -kInf, std::numeric_limits<double>::quiet_NaN()}) {
      if (dtype == at::kFloat8_e4m3fn && odd == odd) continue;  // has no infinity
      for (const int64_t place : {0, 1023, 1024, 140000}) {
        at::Tensor x = at::full({140001}, -448.0, at::kFloat);
        EXPECT_TRUE(all_finite(x.to(dtype)));
        x[place] = odd;
        EXPECT_FALSE(all_finite(x.to(dtype))) << c10::toString(dtype) << " " << odd << place;
      }
    }
  }
}

TEST(Finite, SeesTheImaginaryPart) {
  EXPECT_TRUE(all_finite(at::complex(at::ones({2}), at::ones({2}))));
  EXPECT_FALSE(all_finite(at::complex(at::ones({2}), at::full({2}, kInf))));
}

TEST(Finite, LargestNumbersAndStridesAndNothingAreFinite) {
  EXPECT_TRUE(all_finite(at::full({3}, 65504.0, at::kHalf)));
  EXPECT_TRUE(all_finite(at::full({3}, std::numeric_limits<float>::max())));
  EXPECT_TRUE(all_finite(at::zeros({0})));
  EXPECT_TRUE(all_finite(at::ones({2}, at::kLong)));
  at::Tensor x = at::zeros({4, 4});
  x[1][3] = kInf;
  EXPECT_FALSE(all_finite(x.t()));
  EXPECT_TRUE(all_finite(x.narrow(1, 0, 3)));
}

TEST(Finite, SaysWhatIsWrongWithWeights) {
  EXPECT_EQ(weight_fault(at::ones({2})), "");
  EXPECT_EQ(weight_fault(at::ones({2}, at::kLong)), "has dtype Long, expected floating point");
  EXPECT_EQ(weight_fault(at::full({2}, kInf)), "holds numbers that are not finite");
}

}  // namespace
}  // namespace vggflow

// The LAION aesthetic head as its authors saved it, on a GPU; the sums are those that
// tools/reference/torch_pickle_reference.py printed.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "vggflow/core/error.h"
#include "vggflow/io/torch_pickle.h"

namespace vggflow {
namespace {

struct Expected {
  const char *name, *shape;
  double sum, absolute;
};

const Expected kLaion[] = {
    {"layers.0.weight", "(1024, 768)", -11.7656188218, 62952.8008066141},
    {"layers.0.bias", "(1024)", -0.2440383437, 18.1183687979},
    {"layers.2.weight", "(128, 1024)", 15.5601053073, 5199.7022048228},
    {"layers.2.bias", "(128)", -0.9988987763, 6.7434322177},
    {"layers.4.weight", "(64, 128)", 2.5633030383, 239.0265359016},
    {"layers.4.bias", "(64)", 2.8384753466, 13.4431289881},
    {"layers.6.weight", "(16, 64)", 0.0908481755, 60.4556631988},
    {"layers.6.bias", "(16)", 7.6060646772, 15.6604018211},
    {"layers.7.weight", "(1, 16)", 1.5261942148, 4.1589744389},
    {"layers.7.bias", "(1)", 0.9899932146, 0.9899932146},
};

TEST(TorchPickleReal, ReadsTheLaionHeadOfAGpu) {
  const char* assets = std::getenv("VGGFLOW_ASSETS");
  if (!assets) GTEST_SKIP() << "left out: the LAION head, because VGGFLOW_ASSETS is not set";
  const auto all = read_torch_pickle(std::filesystem::path(assets) /
                                     "laion_aesthetic/sac+logos+ava1-l14-linearMSE.pth");
  ASSERT_EQ(all.size(), std::size(kLaion));
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& [name, tensor] = all[i];
    EXPECT_EQ(name, kLaion[i].name);
    EXPECT_EQ(fmt::format("({})", fmt::join(tensor.sizes().vec(), ", ")), kLaion[i].shape);
    EXPECT_NEAR(tensor.sum(at::kDouble).item<double>(), kLaion[i].sum, 1e-8) << name;
    EXPECT_NEAR(tensor.abs().sum(at::kDouble).item<double>(), kLaion[i].absolute, 1e-8) << name;
  }
}

}  // namespace
}  // namespace vggflow

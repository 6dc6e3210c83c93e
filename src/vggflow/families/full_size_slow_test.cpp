// A whole Stable Diffusion 3 of full size against diffusers, by the values that
// tools/reference/full_size_reference.py put into its folder.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "vggflow/families/open_model.h"
#include "vggflow/flow/precision.h"
#include "vggflow/io/safetensors.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// Root mean square of a - b against that of b.
double relative_error(const Tensor& a, const Tensor& b) {
  return ((a - b).square().mean().sqrt() / b.square().mean().sqrt()).item<double>();
}

class FullSize : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("VGGFLOW_SD3_FOLDER");
    if (!folder)
      GTEST_SKIP() << "left out: parity of the full-size model, because VGGFLOW_SD3_FOLDER is not "
                      "set (docs/sd3.md)";
    model = folder;
    if (!fs::exists(model / "reference.safetensors")) {
      GTEST_SKIP() << "left out: parity of the full-size model, because " << model
                   << " has no reference.safetensors: run tools/reference/full_size_reference.py";
    }
    reference = std::make_unique<SafetensorsFile>(model / "reference.safetensors");
  }
  std::unique_ptr<FlowModel> open(Precision precision) const {
    return open_flow_model({.model = model.string(), .precision = precision, .sd3 = {}});
  }
  Tensor velocity(Precision precision) const {
    const auto flow = open(precision);
    const at::ScalarType dtype = precision_dtype(precision);
    // The reference is of the network as diffusers has it: u = -v at the timestep 1000 (1 - t).
    return -flow->velocity(reference->load("hidden_states"), 1 - reference->load("timestep") / 1000,
                           {reference->load("encoder_hidden_states").to(dtype),
                            reference->load("pooled_projections").to(dtype)});
  }

  at::NoGradGuard no_grad;
  fs::path model;
  std::unique_ptr<SafetensorsFile> reference;
};

TEST_F(FullSize, VelocityInFp32IsDiffusers) {
  const double error = relative_error(velocity(Precision::kFp32), reference->load("velocity_fp32"));
  std::printf("velocity in fp32: relative error %.2e\n", error);
  EXPECT_LT(error, 2e-5);
}

// In bf16 both err against fp32; ours may not err more than half as much again.
TEST_F(FullSize, VelocityInBf16ErrsAsDiffusersDoes) {
  const Tensor exact = reference->load("velocity_fp32");
  const double ours = relative_error(velocity(Precision::kBf16).to(at::kFloat), exact),
               theirs = relative_error(reference->load("velocity_bf16"), exact);
  std::printf("velocity in bf16: error against fp32 %.2e, diffusers' %.2e\n", ours, theirs);
  EXPECT_GT(theirs, 0);
  EXPECT_LT(ours, 1.5 * theirs);
}

TEST_F(FullSize, DecodedImageIsDiffusers) {
  const AutoencoderKlOptions options = AutoencoderKlOptions::read(model / "vae" / "config.json");
  const Tensor latents = (reference->load("z") - options.shift_factor) * options.scaling_factor;
  const double error = relative_error(AutoencoderKl::load(model / "vae", "")->decode(latents),
                                      reference->load("image"));
  std::printf("decoded image: relative error %.2e\n", error);
  EXPECT_LT(error, 2e-5);
}

}  // namespace
}  // namespace vggflow

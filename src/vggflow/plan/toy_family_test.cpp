// A family of its own in one file: a two-layer network whose time runs from 0 to 1 as it is, with
// one row for the registry. It is planned, aligned by every method with a correction network of
// every kind, and sampled, so nothing on the way knows what a flow model is made of.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "vggflow/eval/run.h"
#include "vggflow/families/registry.h"
#include "vggflow/io/files.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/plan/plan.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

constexpr int64_t kSide = 8, kNumbers = 3 * kSide * kSide, kText = 2, kHidden = 16;
using C = Conditioning;

struct Toy : Module, FlowModel {
  explicit Toy(uint64_t seed) : in(kNumbers + kText + 1, kHidden), out(kHidden, kNumbers) {
    add("context_embedder", in);  // names that LoRA files know
    add("proj_out", out);
    init_layers(*this, seed);
  }
  template <TensorLike T>
  T v(const T& x, const T& t, const C& c) const {
    const std::vector<T> all{ops::reshape(x, {primal(x).size(0), kNumbers}), lift<T>(c.pooled),
                             ops::unsqueeze(t, 1)};
    const T v = out.forward(ops::silu(in.forward(ops::cat(all, 1))));
    return counted(ops::reshape(v, primal(x).sizes()), passes);
  }
  Tensor velocity(const Tensor& x, const Tensor& t, const C& c) const override {
    return v(x, t, c);
  }
  Dual velocity(const Dual& x, const Dual& t, const C& c) const override { return v(x, t, c); }
  NetworkInputs inputs() const override { return {state_shape(), 0, kText}; }
  Module& network() override { return *this; }
  const Module& network() const override { return *this; }
  std::string output_layer() const override { return "proj_out"; }
  std::unique_ptr<FlowNetwork> view() const override {
    auto other = std::make_unique<Toy>(0);
    const auto own = other->parameters(), shared = parameters();
    for (size_t i = 0; i < own.size(); ++i) *own[i].tensor = *shared[i].tensor;
    other->passes = passes;
    return other;
  }
  std::unique_ptr<FlowNetwork> small(int64_t, int64_t, uint64_t seed) const override {
    auto other = std::make_unique<Toy>(seed);
    other->out.init_zero();
    return other;
  }
  void count_passes(std::shared_ptr<PassCounter> counter) override { passes = counter; }
  C encode(const std::vector<std::string>& prompts) const override {
    return {{}, at::full({std::ssize(prompts), kText}, 0.1 * std::ssize(prompts[0]))};
  }
  C unconditional(int64_t n) const override { return {{}, at::zeros({n, kText})}; }
  std::vector<int64_t> state_shape() const override { return {3, kSide, kSide}; }
  Tensor decode(const Tensor& x1) const override { return x1; }
  Dual decode(const Dual& x1) const override { return x1; }
  std::string description() const override { return "Toy"; }
  Linear in, out;
  std::shared_ptr<PassCounter> passes;
};

struct ToyFamily : FamilyModel, NetworkSizes {
  ModelShape shape() const override {
    ModelShape shape;
    shape.state = {3, kSide, kSide}, shape.pooled_width = kText;
    shape.network = std::make_shared<ToyFamily>();
    return shape;
  }
  std::unique_ptr<FlowModel> open() const override { return std::make_unique<Toy>(1); }
  std::string network_hash() const override { return "toy"; }
  std::unique_ptr<Module> skeleton() const override { return std::make_unique<Toy>(1); }
  double parameters() const override { return count_parameters<Toy>(1); }
  double output_parameters() const override { return kHidden * kNumbers + kNumbers; }
  PassCost cost(const NetworkCall&) const override { return {.forward = 2e4, .graph = 2e3}; }
  PassCost tangent_cost(const NetworkCall&) const override { return {.forward = 4e4}; }
  std::unique_ptr<NetworkSizes> small(int64_t, int64_t) const override {
    return std::make_unique<ToyFamily>();
  }
};

std::shared_ptr<const FamilyModel> toy_family(const ModelOptions&, const FamilyModel*) {
  return std::make_shared<ToyFamily>();
}

TEST(ToyFamily, IsPlannedAlignedAndSampledLikeAnyOther) {
  add_family({"toy", "nothing", [](const auto& path) { return path == "toy"; }, toy_family});
  const testing::TemporaryFolder scratch;
  write_text(scratch / "prompts.txt", "a\nheart\nghost\n");
  AlignConfig c;
  c.flow.model = "toy", c.reward = "colorfulness", c.lora_targets = {"context_embedder"};
  c.prompts.train = c.prompts.eval = (scratch / "prompts.txt").string();
  c.updates = c.eval.prompts = c.eval.images = c.batch = c.lora_rank = 2, c.threads = 1;
  for (const std::string& method : method_names()) {
    for (const ValueKind kind : {ValueKind::kNone, ValueKind::kSmall, ValueKind::kLora}) {
      c.method = method, c.value.kind = kind, c.run = scratch / (method + "_" + word_of(kind));
      if (kind != ValueKind::kNone && !ResolvedMethod(c).method->trains_value()) continue;
      EXPECT_GT(plan(c, read_model_shape(c.flow)).peak, 1e5) << c.run;
      ASSERT_EQ(align(c), RunEnd::kFinished) << c.run;
    }
  }
  SampleConfig s;
  s.out = (scratch / "samples").string(), s.prompts = {"heart"};
  s.generator.flow.model = "toy", s.generator.lora = c.run + "/lora.safetensors";
  sample_images(s);
  EXPECT_TRUE(std::filesystem::exists(scratch / "samples/grid.png"));
}

}  // namespace
}  // namespace vggflow

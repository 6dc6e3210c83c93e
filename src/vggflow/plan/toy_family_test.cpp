// A family of its own in one file: nothing on the way from plan to sample knows what it is made of.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "vggflow/eval/run.h"
#include "vggflow/families/registry.h"
#include "vggflow/io/files.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/plan/plan.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {

constexpr int64_t kSide = 8, kNumbers = 3 * kSide * kSide, kText = 2, kHidden = 16;
constexpr LoraName kNames[]{{"first", "in"}, {"last", "out"}};
using C = Conditioning;
using In = const Tensor&;
using Net = std::unique_ptr<FlowNetwork>;
using Opened = std::shared_ptr<const FamilyModel>;

struct Toy : Module, FlowModel {
  explicit Toy(uint64_t seed, bool zero = false) {
    add("first", in), add("last", out);
    init_layers(*this, seed);
    if (zero) out.init_zero();
  }
  template <TensorLike T>
  T v(const T& x, const T& t, const C& c) const {
    const std::vector<T> all{ops::reshape(x, {primal(x).size(0), kNumbers}), lift<T>(c.pooled),
                             ops::unsqueeze(t, 1)};
    const T v = out.forward(ops::silu(in.forward(ops::cat(all, 1))));
    return counted(ops::reshape(v, primal(x).sizes()), passes);
  }
  Tensor velocity(In x, In t, const C& c) const override { return v(x, t, c); }
  Dual velocity(const Dual& x, const Dual& t, const C& c) const override { return v(x, t, c); }
  NetworkInputs inputs() const override { return {state_shape(), 0, kText}; }
  Module& network() override { return *this; }
  const Module& network() const override { return *this; }
  std::string output_layer() const override { return "last"; }
  Net view() const override {
    auto other = std::make_unique<Toy>(0);
    const auto own = other->parameters(), shared = parameters();
    for (size_t i = 0; i < own.size(); ++i) *own[i].tensor = *shared[i].tensor;
    other->passes = passes;
    return other;
  }
  Net small(int64_t, int64_t, int64_t, uint64_t s) const override {
    return std::make_unique<Toy>(s, true);
  }
  void count_passes(std::shared_ptr<PassCounter> all) override { passes = all; }
  C encode(const std::vector<std::string>& texts) const override {
    return {{}, at::full({std::ssize(texts), kText}, 0.1 * std::ssize(texts[0]))};
  }
  C unconditional(int64_t n) const override { return {{}, at::zeros({n, kText})}; }
  std::vector<int64_t> state_shape() const override { return {3, kSide, kSide}; }
  Tensor decode(const Tensor& x1) const override { return x1; }
  Dual decode(const Dual& x1) const override { return x1; }
  std::string description() const override { return "Toy"; }
  Linear in{kNumbers + kText + 1, kHidden}, out{kHidden, kNumbers};
  std::shared_ptr<PassCounter> passes;
};

struct ToyFamily : FamilyModel, NetworkSizes {
  static std::shared_ptr<const ToyFamily> shared() { return std::make_shared<ToyFamily>(); }
  ModelShape shape() const override {
    return {.state = {3, kSide, kSide}, .pooled_width = kText, .network = shared()};
  }
  std::unique_ptr<FlowModel> open(const Group&) const override { return std::make_unique<Toy>(1); }
  std::string network_hash() const override { return "toy"; }
  std::unique_ptr<Module> skeleton() const override { return std::make_unique<Toy>(1); }
  double parameters() const override { return count_parameters<Toy>(1); }
  double output_parameters() const override { return kHidden * kNumbers + kNumbers; }
  PassCost cost(const NetworkCall&) const override { return {.forward = 2e4, .graph = 2e3}; }
  PassCost tangent_cost(const NetworkCall&) const override { return {.forward = 4e4}; }
  std::unique_ptr<NetworkSizes> small(int64_t, int64_t, int64_t) const override {
    return std::make_unique<ToyFamily>();
  }
};

TEST(ToyFamily, IsPlannedAlignedAndSampledLikeAnyOther) {
  add_family({.name = "toy",
              .claims = [](const auto& path) { return path == "toy"; },
              .model = [](const auto&, auto) { return Opened(new ToyFamily); },
              .lora_names = {"the toy", "", "", {}, kNames}});
  const testing::TemporaryFolder scratch;
  write_text(scratch / "prompts.txt", "a\nheart\nghost\n");
  AlignConfig c;
  c.flow.model = "toy", c.reward = "colorfulness", c.lora_targets = {"first"};
  c.prompts.train = c.prompts.eval = (scratch / "prompts.txt").string();
  c.updates = c.eval.prompts = c.eval.images = c.batch = c.lora_rank = 2, c.threads = 1;
  c.methods.set("ram", "group=2");
  for (const std::string& method : method_names()) {
    c.method = method, c.run = scratch / method;
    EXPECT_GT(plan(c, read_model_shape(c.flow)).peak, 1e5) << method;
    ASSERT_EQ(align(c), RunEnd::kFinished) << method;
  }
  SampleConfig s{.out = (scratch / "samples").string(), .prompts = {"heart"}};
  s.generator.flow.model = "toy", s.generator.lora = c.run + "/lora.safetensors";
  sample_images(s);
  EXPECT_TRUE(std::filesystem::exists(scratch / "samples/grid.png"));
}

}  // namespace vggflow

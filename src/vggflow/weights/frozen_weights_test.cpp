#include "vggflow/weights/frozen_weights.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "vggflow/core/error.h"
#include "vggflow/families/nano/word_encoder.h"
#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/families/sd3/releases.h"
#include "vggflow/networks/autoencoders/autoencoder_kl.h"
#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/text/t5_encoder.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/networks/vision/judge.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

// Two layers of a network that is made of a count.
struct TwoLayers : Module {
  explicit TwoLayers(int64_t width) : first(width, width), second(width, width) {
    add("first", first);
    add("second", second);
  }
  Linear first, second;
};

ComponentWeights weights_of(const std::filesystem::path& file, const TensorList& tensors) {
  write_safetensors(file, tensors);
  return {open_weights(file), {file}, "the file"};
}

TensorList four_tensors() {
  TensorList all;
  double value = 1;
  const TwoLayers net(4);
  for (const NamedTensor& p : net.parameters())
    all.emplace_back(p.name, at::full(p.tensor->sizes(), value++));
  return all;
}

TEST(FrozenWeights, AreTheFilesOwnBytesWhereTheTypeIsTheFiles) {
  const testing::TemporaryFolder folder;
  const ComponentWeights weights = weights_of(folder / "a.safetensors", four_tensors());
  const auto net = load_frozen<TwoLayers>(4, weights, at::kFloat);
  for (const NamedTensor& p : net->parameters()) {
    EXPECT_EQ(p.tensor->const_data_ptr(), weights.tensors.at(p.name).const_data_ptr()) << p.name;
    EXPECT_FALSE(p.tensor->requires_grad());
  }
  EXPECT_TRUE(at::equal(net->first.forward(at::ones({1, 4})), at::full({1, 4}, 4 * 1.0f + 2)));
}

TEST(FrozenWeights, AreConvertedElsewhere) {
  const testing::TemporaryFolder folder;
  const auto net = load_frozen<TwoLayers>(4, weights_of(folder / "a.safetensors", four_tensors()),
                                          at::kBFloat16);
  EXPECT_TRUE(at::equal(net->second.bias, at::full({4}, 4, at::kBFloat16)));
}

TEST(FrozenWeights, ListEverythingThatDoesNotFitAndThenChangeNothing) {
  const testing::TemporaryFolder folder;
  TensorList tensors = four_tensors();
  tensors[0].second = at::zeros({3, 4});
  tensors[1].first = "other";
  tensors.emplace_back("known", at::zeros({1}));
  const ComponentWeights weights = weights_of(folder / "a.safetensors", tensors);
  TwoLayers net(4);
  EXPECT_THAT(message_of([&] {
                adopt_weights(net.parameters(), weights, at::kFloat, /*unused=*/{"known"});
              }),
              AllOf(HasSubstr("the file does not fit the network, 3 faults: "),
                    HasSubstr("'first.weight' has shape (3, 4), expected (4, 4)"),
                    HasSubstr("missing 'first.bias'"), HasSubstr("unexpected 'other'"),
                    Not(HasSubstr("known'"))));
  for (const NamedTensor& p : net.parameters())
    EXPECT_EQ(p.tensor->abs().max().item<float>(), 0) << p.name;
}

// The networks of SD3 and SD3.5 in the released sizes, without memory, in a moment: they have as
// many parameters as diffusers' and transformers' (tools/reference/parameter_counts.py).
TEST(ShapesOnly, LargeNetworksTakeNoMemoryUntilTheirWeightsCome) {
  const auto expect_shapes = [](const Module& net, int64_t parameters) {
    EXPECT_EQ(net.parameter_count(), parameters);
    for (const NamedTensor& p : net.parameters()) ASSERT_TRUE(p.tensor->is_meta()) << p.name;
  };
  {
    const ShapesOnly guard;
    expect_shapes(T5Encoder(T5Options{}), 4762310656);
    expect_shapes(ClipTextModel(ClipTextOptions{}), 123650304);
    expect_shapes(AutoencoderKl(AutoencoderKlOptions{}), 83819683);
    expect_shapes(Mmdit(sd3_release("stable-diffusion-3-medium")), 2028328000);
    expect_shapes(Mmdit(sd3_release("stable-diffusion-3.5-medium")), 2243171520);
    expect_shapes(Mmdit(sd3_release("stable-diffusion-3.5-large")), 8056627520);
  }
  EXPECT_FALSE(Linear(2, 2).weight.is_meta());
}

// Also parameters that a network holds beside its layers: embeddings, positions, scales.
TEST(ShapesOnly, HoldsForTheNanoNetworks) {
  const Vocabulary vocabulary({"red heart"}, 4);
  const ShapesOnly guard;
  const Judge judge({.classes = {"a", "b"}});
  const EmojiClip clip({}, vocabulary);
  const WordEncoder words(3, 4, 8);
  for (const Module* net : {static_cast<const Module*>(&judge), static_cast<const Module*>(&clip),
                            static_cast<const Module*>(&words)}) {
    for (const NamedTensor& p : net->parameters()) EXPECT_TRUE(p.tensor->is_meta()) << p.name;
  }
}

}  // namespace
}  // namespace vggflow

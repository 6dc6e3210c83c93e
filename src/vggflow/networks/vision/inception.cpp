#include "vggflow/networks/vision/inception.h"

#include <ATen/ATen.h>
#include "vggflow/core/error.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

constexpr int64_t kSide = 299;
constexpr double kEps = 1e-3;
constexpr size_t kBeforeFirstPool = 3;

ConvShape inception_shape(int64_t in, int64_t out, int64_t height, int64_t width, int64_t stride,
                          bool pad) {
  return {in,
          out,
          height,
          width,
          stride,
          /*groups=*/1,
          ConvPadding::kSymmetric,
          pad ? height / 2 : 0,
          pad ? width / 2 : 0};
}

}  // namespace

// ---- the graph
// -----------------------------------------------------------------------------------------------------------

/// Writes down blocks branch by branch; channels follow from what was written before.
class InceptionV3::Builder {
 public:
  explicit Builder(InceptionV3& net) : net_(net) {}

  void stem(const std::string& name, int64_t out, int64_t kernel, int64_t stride, bool pad) {
    net_.stem.push_back(make(name, inception_shape(channels_, out, kernel, kernel, stride, pad)));
    channels_ = out;
  }
  Builder& block(const std::string& name) {
    prefix_ = name + ".";
    block_in_ = channels_;
    channels_ = 0;
    net_.blocks.emplace_back();
    return *this;
  }
  Builder& branch(BranchPool pool = BranchPool::kNone) {
    net_.blocks.back().branches.emplace_back().pool = pool;
    inner_ = block_in_;
    return *this;
  }
  /// Stride 1 and padded to keep the size, or stride 2 without padding.
  Builder& conv(const std::string& name, int64_t out, int64_t height, int64_t width,
                int64_t stride = 1) {
    last().convs.push_back(
        make(prefix_ + name, inception_shape(inner_, out, height, width, stride, stride == 1)));
    inner_ = out;
    return *this;
  }
  Builder& fork(const std::string& name, int64_t out, int64_t height, int64_t width) {
    last().fork.push_back(
        make(prefix_ + name, inception_shape(inner_, out, height, width, 1, /*pad=*/true)));
    channels_ += out;
    return *this;
  }
  /// Adds the branch's channels to the block's.
  Builder& end() {
    if (last().fork.empty()) channels_ += inner_;
    return *this;
  }

 private:
  InceptionBranch& last() { return net_.blocks.back().branches.back(); }
  std::unique_ptr<ConvLayer> make(const std::string& name, const ConvShape& shape) {
    auto layer = std::make_unique<ConvLayer>(shape, Activation::kRelu);
    net_.add(name, *layer);
    net_.layers.emplace_back(name, layer.get());
    return layer;
  }
  InceptionV3& net_;
  std::string prefix_;
  int64_t channels_ = 3, block_in_ = 0, inner_ = 0;
};

InceptionV3::InceptionV3(InceptionResize r) : resize(r) {
  Builder b(*this);
  b.stem("Conv2d_1a_3x3", 32, 3, 2, false);
  b.stem("Conv2d_2a_3x3", 32, 3, 1, false);
  b.stem("Conv2d_2b_3x3", 64, 3, 1, true);
  b.stem("Conv2d_3b_1x1", 80, 1, 1, false);
  b.stem("Conv2d_4a_3x3", 192, 3, 1, false);
  for (const auto& [name, pooled] :
       {std::pair{"Mixed_5b", 32}, {"Mixed_5c", 64}, {"Mixed_5d", 64}}) {
    b.block(name);
    b.branch().conv("branch1x1", 64, 1, 1).end();
    b.branch().conv("branch5x5_1", 48, 1, 1).conv("branch5x5_2", 64, 5, 5).end();
    b.branch()
        .conv("branch3x3dbl_1", 64, 1, 1)
        .conv("branch3x3dbl_2", 96, 3, 3)
        .conv("branch3x3dbl_3", 96, 3, 3)
        .end();
    b.branch(BranchPool::kMean).conv("branch_pool", pooled, 1, 1).end();
  }
  b.block("Mixed_6a");
  b.branch().conv("branch3x3", 384, 3, 3, 2).end();
  b.branch()
      .conv("branch3x3dbl_1", 64, 1, 1)
      .conv("branch3x3dbl_2", 96, 3, 3)
      .conv("branch3x3dbl_3", 96, 3, 3, 2)
      .end();
  b.branch(BranchPool::kHalve).end();
  for (const auto& [name, c] :
       {std::pair{"Mixed_6b", 128}, {"Mixed_6c", 160}, {"Mixed_6d", 160}, {"Mixed_6e", 192}}) {
    b.block(name);
    b.branch().conv("branch1x1", 192, 1, 1).end();
    b.branch()
        .conv("branch7x7_1", c, 1, 1)
        .conv("branch7x7_2", c, 1, 7)
        .conv("branch7x7_3", 192, 7, 1)
        .end();
    b.branch()
        .conv("branch7x7dbl_1", c, 1, 1)
        .conv("branch7x7dbl_2", c, 7, 1)
        .conv("branch7x7dbl_3", c, 1, 7);
    b.conv("branch7x7dbl_4", c, 7, 1).conv("branch7x7dbl_5", 192, 1, 7).end();
    b.branch(BranchPool::kMean).conv("branch_pool", 192, 1, 1).end();
  }
  b.block("Mixed_7a");
  b.branch().conv("branch3x3_1", 192, 1, 1).conv("branch3x3_2", 320, 3, 3, 2).end();
  b.branch()
      .conv("branch7x7x3_1", 192, 1, 1)
      .conv("branch7x7x3_2", 192, 1, 7)
      .conv("branch7x7x3_3", 192, 7, 1)
      .conv("branch7x7x3_4", 192, 3, 3, 2)
      .end();
  b.branch(BranchPool::kHalve).end();
  for (const auto& [name, pool] :
       {std::pair{"Mixed_7b", BranchPool::kMean}, {"Mixed_7c", BranchPool::kMax}}) {
    b.block(name);
    b.branch().conv("branch1x1", 320, 1, 1).end();
    b.branch()
        .conv("branch3x3_1", 384, 1, 1)
        .fork("branch3x3_2a", 384, 1, 3)
        .fork("branch3x3_2b", 384, 3, 1)
        .end();
    b.branch().conv("branch3x3dbl_1", 448, 1, 1).conv("branch3x3dbl_2", 384, 3, 3);
    b.fork("branch3x3dbl_3a", 384, 1, 3).fork("branch3x3dbl_3b", 384, 3, 1).end();
    b.branch(pool).conv("branch_pool", 192, 1, 1).end();
  }
}

std::unique_ptr<InceptionV3> InceptionV3::load(const std::filesystem::path& file,
                                               InceptionResize resize, at::ScalarType dtype) {
  ConvWeights weights(file, dtype);
  auto net = std::make_unique<InceptionV3>(resize);
  for (const auto& [name, layer] : net->layers)
    weights.fill(*layer, name + ".conv", name + ".bn", kEps);
  weights.expect_complete({"fc."});
  net->hash = weights.hash();
  return net;
}

// ---- forward
// -------------------------------------------------------------------------------------------------------------

namespace {

template <TensorLike T>
T pooled(const T& x, BranchPool pool) {
  switch (pool) {
    case BranchPool::kMean:
      return ops::mean_around(x);
    case BranchPool::kMax:
      return ops::max_pool2d(x, 3, 1, 1);
    case BranchPool::kHalve:
      return ops::max_pool2d(x, 3, 2, 0);
    case BranchPool::kNone:
      break;
  }
  return x;
}

template <TensorLike T>
T through(const InceptionBlock& block, const T& x) {
  std::vector<T> parts;
  for (const InceptionBranch& branch : block.branches) {
    T y = pooled(x, branch.pool);
    for (const auto& conv : branch.convs) y = conv->forward(y);
    for (const auto& conv : branch.fork) parts.push_back(conv->forward(y));
    if (branch.fork.empty()) parts.push_back(y);
  }
  return ops::cat(parts, 1);
}

// (x - 128) / 128 of pixels in 0..255 is x 255/128 - 1 of those in [0, 1].
template <TensorLike T>
T network_input(const T& images, InceptionResize resize) {
  if (resize == InceptionResize::kTensorFlow1)
    return ops::resize_tensorflow1(images, kSide, kSide) * (255.0 / 128) - 1.0;
  return ops::resize(images, kSide, kSide, ops::Interpolation::kBilinear, /*antialias=*/false) *
             2.0 -
         1.0;
}

}  // namespace

template <TensorLike T>
T InceptionV3::features(const T& images) const {
  VGGFLOW_CHECK(primal(images).dim() == 4 && primal(images).size(1) == 3,
                "[inception] expected images (B, 3, H, W), got {}", shape_string(primal(images)));
  T x = network_input(images, resize);
  for (size_t i = 0; i < stem.size(); ++i) {
    x = stem[i]->forward(x);
    if (i + 1 == kBeforeFirstPool || i + 1 == stem.size()) x = ops::max_pool2d(x, 3, 2, 0);
  }
  for (const InceptionBlock& block : blocks) x = through(block, x);
  return ops::mean(x, {2, 3}, /*keepdim=*/false);
}
template Tensor InceptionV3::features(const Tensor&) const;
template Dual InceptionV3::features(const Dual&) const;

}  // namespace vggflow

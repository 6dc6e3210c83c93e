#include "vggflow/io/content_hash.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

TensorMap tensors() {
  return {{"a", at::arange(15, at::kFloat).view({3, 5})}, {"b", at::arange(7, at::kByte)}};
}

TEST(ContentHash, IsThatOfTheValuesWhereverTheyLie) {
  TensorMap moved = tensors();
  moved["a"] = moved["a"].t().contiguous().t();  // another order in memory
  EXPECT_EQ(content_hash(moved), content_hash(tensors()));
  EXPECT_EQ(content_hash(tensors()).size(), 16u);
}

TEST(ContentHash, EveryByteNameShapeAndTypeCounts) {
  const std::string whole = content_hash(tensors());
  for (int64_t i = 0; i < 7; ++i) {
    TensorMap other = tensors();
    other["b"][i] += 128;
    EXPECT_NE(content_hash(other), whole) << "byte " << i;
  }
  TensorMap last = tensors(), shaped = tensors(), typed = tensors(), named = tensors();
  last["a"][2][4] = 14.5;
  shaped["a"] = shaped["a"].view({5, 3});
  typed["b"] = typed["b"].view(at::kChar);
  named["c"] = named["b"];
  named.erase("b");
  for (const TensorMap& other : {last, shaped, typed, named}) EXPECT_NE(content_hash(other), whole);
}

}  // namespace
}  // namespace vggflow

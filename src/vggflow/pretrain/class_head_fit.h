#pragma once
// Trains a linear classifier on a frozen network's features of photographs: multinomial logistic
// regression, validated on photographs that it has not seen.

#include <memory>
#include <string>

#include "vggflow/networks/vision/class_head.h"
#include "vggflow/pretrain/fit.h"

namespace vggflow {

struct HeadData {
  std::string photos;
  std::string test_photos;
  std::string network;
  int64_t per_class = 0;
  int64_t test_per_class = 0;
  int64_t photo_size = 64;
  int64_t batch = 32;

  template <class V>
  void fields(V& v) {
    v("photos", photos, "zip file of CLASS/NAME.jpg to train on");
    v("test_photos", test_photos, "zip file with the same classes to test on");
    v("network", network, "file of the network's weights");
    v("per_class", per_class, "training images per class; 0: all", range(0, 1e7));
    v("test_per_class", test_per_class, "test images per class; 0: all", range(0, 1e7));
    v("photo_size", photo_size,
      "side in pixels that photographs are resized to first (bicubic, antialiased): that of the "
      "flow model's images",
      range(8, 4096));
    v("batch", batch, "batch size for the features", range(1, 4096));
  }
};

/// Features (N, F) with labels (N).
struct LabelledFeatures {
  Tensor features, labels;
};

/// Share of rows whose class the head names.
double accuracy(const ClassHead& model, const LabelledFeatures& data);

/// What there is to learn from, and a head for it that knows nothing yet.
struct HeadTask {
  HeadTask(ClassHeadOptions options, const HeadData& data);
  /// Cross entropy of one update's batch, keyed by the update.
  Tensor loss(const FitOptions& fit, int64_t update) const;
  LabelledFeatures train, test;
  std::unique_ptr<ClassHead> model;
};

}  // namespace vggflow

#include "vggflow/pretrain/class_head_fit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/data/photo_set.h"
#include "vggflow/device/device.h"
#include "vggflow/pretrain/prepare.h"

namespace vggflow {
namespace {

LabelledFeatures features_of(const ClassHead& model, const PhotoSet& photos, const HeadData& d) {
  at::NoGradGuard no_grad;
  Progress progress("features", photos.images.size(0));
  std::vector<Tensor> parts;
  int64_t done = 0;
  for (const Tensor& part : photos.images.split(d.batch)) {
    parts.push_back(model.features(resized_photos(part, d.photo_size).to(current_device())));
    progress.advance(done += part.size(0));
  }
  return {at::cat(parts), photos.labels.to(current_device())};
}

}  // namespace

double accuracy(const ClassHead& model, const LabelledFeatures& data) {
  at::NoGradGuard no_grad;
  return (model.head.forward(data.features).argmax(1) == data.labels)
      .to(at::kDouble)
      .mean()
      .item<double>();
}

HeadTask::HeadTask(ClassHeadOptions options, const HeadData& d) {
  VGGFLOW_CHECK(!d.photos.empty() && !d.test_photos.empty() && !d.network.empty(),
                "[class-head] expected head_data.photos, head_data.test_photos (zips of "
                "CLASS/NAME.jpg) and head_data.network (a file of {} weights)",
                word_of(options.network));
  const PhotoSet photos = read_photo_zip(d.photos, d.per_class),
                 test_photos = read_photo_zip(d.test_photos, d.test_per_class);
  VGGFLOW_CHECK(photos.classes == test_photos.classes,
                "[class-head] expected test photographs of the classes {}, got {}",
                examples_of(photos.classes, ", "), examples_of(test_photos.classes, ", "));
  auto network = load_head_network(options.network, d.network);
  options.classes = photos.classes;
  options.network_hash = network->options.hash;
  model = std::make_unique<ClassHead>(options, std::move(network));
  train = features_of(*model, photos, d);
  test = features_of(*model, test_photos, d);
  log_info("{} features of {} photographs, {} of {} to test", train.features.size(1),
           train.features.size(0), word_of(options.network), test.features.size(0));
}

Tensor HeadTask::loss(const FitOptions& fit, int64_t update) const {
  const Tensor places = draw_places(train.labels.numel(), static_cast<uint64_t>(fit.seed),
                                    static_cast<uint64_t>(update), 0, fit.batch)
                            .to(current_device());
  return at::cross_entropy_loss(model->head.forward(train.features.index_select(0, places)),
                                train.labels.index_select(0, places));
}

}  // namespace vggflow

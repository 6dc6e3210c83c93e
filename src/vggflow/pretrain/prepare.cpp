#include "vggflow/pretrain/prepare.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <filesystem>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/core/result.h"
#include "vggflow/data/photo_set.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/io/files.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

Tensor encode_all(const TaesdEncoder& encoder, const Tensor& images, const PrepareConfig& c,
                  bool mirror) {
  Progress progress(mirror ? "encoding, mirrored" : "encoding", images.size(0));
  std::vector<Tensor> latents;
  int64_t done = 0;
  for (const Tensor& part : images.split(c.batch)) {
    const Tensor pixels = resized_photos(part, c.size);
    latents.push_back(
        encoder.encode((mirror ? pixels.flip({3}) : pixels).to(current_device())).cpu());
    progress.advance(done += part.size(0));
  }
  return at::cat(latents);
}

}  // namespace

Tensor resized_photos(const Tensor& images, int64_t size) {
  return ops::resize_pixels(images.to(at::kFloat) / 255, size, size);
}

void prepare(const PrepareConfig& c) {
  VGGFLOW_CHECK(!c.photos.empty(), "[prepare] expected photos=FILE.zip, a zip of CLASS/NAME.jpg");
  set_threads(c.threads);
  at::NoGradGuard no_grad;
  const auto encoder = TaesdEncoder::load(taesd_folder(c.taesd));
  const std::string hash = weights_hash(*encoder);
  const std::filesystem::path out = c.out;
  if (std::filesystem::exists(out)) {
    VGGFLOW_CHECK(
        read_latents(out).encoder == hash,
        "[prepare] {} was made by another encoder: remove it, or choose another out=", c.out);
    print_result(c.out + " is there already");
    return;
  }
  const PhotoSet photos = read_photo_zip(c.photos, c.per_class);
  log_info("{} photographs of {} classes, encoded at {} pixels", photos.images.size(0),
           photos.classes.size(), c.size);
  LatentSet set{photos.classes, encode_all(*encoder, photos.images, c, /*mirror=*/false),
                photos.labels, hash};
  if (c.mirrored) {
    set.latents = at::cat({set.latents, encode_all(*encoder, photos.images, c, /*mirror=*/true)});
    set.labels = at::cat({photos.labels, photos.labels});
  }
  log_info("latents {}: mean {:.3f}, standard deviation {:.3f}", shape_string(set.latents),
           set.latents.mean().item<double>(), set.latents.std().item<double>());
  if (out.has_parent_path()) make_writable_folder(out.parent_path());
  write_latents(out, set);
  print_result("wrote " + c.out);
}

}  // namespace vggflow

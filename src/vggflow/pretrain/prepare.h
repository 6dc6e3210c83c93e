#pragma once
// Photographs become training data of a latent flow model: resized, encoded once by TAESD3, kept in
// one file.

#include <ATen/core/Tensor.h>

#include <string>

#include "vggflow/core/field.h"
#include "vggflow/device/device.h"

namespace vggflow {

struct PrepareConfig {
  std::string photos;
  std::string taesd;
  std::string out = "runs/latents.safetensors";
  int64_t size = 64;
  int64_t per_class = 0;
  bool mirrored = false;
  int64_t batch = 64;
  int64_t threads = 0;
  DeviceOptions device;

  template <class V>
  void fields(V& v) {
    v("photos", photos, "zip file of CLASS/NAME.jpg, stored without compression");
    v("taesd", taesd, "folder of taesd3_encoder.safetensors; empty: $VGGFLOW_ASSETS/taesd3");
    v("out", out, "file to write; an existing one from the same encoder is kept");
    v("size", size,
      "side in pixels that images are resized to (bicubic, antialiased) before they are encoded",
      range(8, 4096));
    v("per_class", per_class, "images per class; 0: all", range(0, 1e7));
    v("mirrored", mirrored, "also encode each image mirrored");
    v("batch", batch, "batch size for encoding", range(1, 4096));
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
  }
};

void prepare(const PrepareConfig& config);

/// Pixels (N, 3, size, size) in [0, 1] of uint8 images: bicubic, antialiased, and clipped, since
/// that filter overshoots.
at::Tensor resized_photos(const at::Tensor& images, int64_t size);

}  // namespace vggflow

#include "vggflow/data/photo_set.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "vggflow/core/error.h"
#include "vggflow/core/random.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/image_file.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/io/zip.h"

namespace vggflow {
namespace {

using EntriesByClass = std::map<std::string, std::vector<std::string>>;

// Entry names by their folder; the zip's directory is in alphabetical order already.
EntriesByClass entries_by_class(const ZipFile& zip, const std::string& file, int64_t per_class) {
  EntriesByClass classes;
  for (const auto& [name, entry] : zip.entries()) {
    if (name.ends_with('/')) continue;
    const size_t slash = name.find('/');
    VGGFLOW_CHECK(slash != std::string::npos && slash > 0,
                  "[photos] {}: expected entries CLASS/NAME.jpg, got '{}'", file, name);
    auto& list = classes[name.substr(0, slash)];
    if (per_class <= 0 || std::ssize(list) < per_class) list.push_back(name);
  }
  VGGFLOW_CHECK(!classes.empty(), "[photos] {} holds no images: expected entries CLASS/NAME.jpg",
                file);
  return classes;
}

Tensor decode(const ZipFile& zip, const std::string& file, const std::string& entry) {
  const std::string_view bytes = zip.content(entry);
  const Image image = decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                   file + ":" + entry)
                          .image;
  Tensor rows = at::empty({image.height, image.width, 3}, at::kByte);
  std::copy(image.rgb.begin(), image.rgb.end(), rows.mutable_data_ptr<uint8_t>());
  return rows.permute({2, 0, 1});
}

}  // namespace

std::string photo_caption(const std::string& class_name) { return "a photo of a " + class_name; }

Vocabulary photo_vocabulary(const std::vector<std::string>& classes) {
  std::vector<std::string> captions;
  size_t most = 0;
  for (const std::string& name : classes) {
    captions.push_back(photo_caption(name));
    most = std::max(most, split_words(captions.back()).size());
  }
  return Vocabulary(captions, static_cast<int64_t>(most));
}

std::vector<std::string> photo_display(const std::vector<std::string>& classes) {
  constexpr size_t kImages = 4;
  std::vector<std::string> all;
  for (const std::string& name : classes) all.insert(all.end(), kImages, photo_caption(name));
  return all;
}

PhotoSet read_photo_zip(const std::filesystem::path& file, int64_t per_class) {
  const ZipFile zip(MappedFile::open(file, "photos"));
  PhotoSet set;
  std::vector<Tensor> images;
  std::vector<int64_t> labels;
  for (const auto& [name, entries] : entries_by_class(zip, file.string(), per_class)) {
    for (const std::string& entry : entries) {
      images.push_back(decode(zip, file.string(), entry));
      VGGFLOW_CHECK(
          images.back().sizes() == images.front().sizes(),
          "[photos] {}: expected images of one size, got {}x{} in '{}' and {}x{} in the first",
          file.string(), images.back().size(2), images.back().size(1), entry,
          images.front().size(2), images.front().size(1));
      labels.push_back(std::ssize(set.classes));
    }
    set.classes.push_back(name);
  }
  set.images = at::stack(images);
  set.labels = at::tensor(labels);
  return set;
}

void write_latents(const std::filesystem::path& file, const LatentSet& set) {
  write_safetensors(file, {{"latents", set.latents.to(at::kHalf)}, {"labels", set.labels}},
                    {{"vggflow.classes", fmt::format("{}", fmt::join(set.classes, "\n"))},
                     {"vggflow.encoder", set.encoder}});
}

LatentSet read_latents(const std::filesystem::path& file) {
  const SafetensorsFile in(file);
  const auto classes = in.metadata().find("vggflow.classes"),
             encoder = in.metadata().find("vggflow.encoder");
  VGGFLOW_CHECK(in.contains("latents") && in.contains("labels") && classes != in.metadata().end() &&
                    encoder != in.metadata().end(),
                "[latents] {} holds no latents: expected a file that `vggflow prepare` wrote",
                file.string());
  LatentSet set{{}, in.load("latents").to(at::kFloat), in.load("labels"), encoder->second};
  for (size_t at = 0; at <= classes->second.size();) {
    const size_t end = std::min(classes->second.find('\n', at), classes->second.size());
    set.classes.push_back(classes->second.substr(at, end - at));
    at = end + 1;
  }
  const bool fits = set.latents.dim() == 4 && set.labels.dim() == 1 &&
                    set.labels.scalar_type() == at::kLong &&
                    set.labels.size(0) == set.latents.size(0) && set.labels.numel() > 0 &&
                    all_finite(set.latents) && set.labels.min().item<int64_t>() >= 0 &&
                    set.labels.max().item<int64_t>() < std::ssize(set.classes);
  VGGFLOW_CHECK(
      fits,
      "[latents] {}: expected latents (N, C, h, w) with N labels below {}, all finite; write it "
      "again with `vggflow prepare`",
      file.string(), set.classes.size());
  return set;
}

Tensor draw_places(int64_t size, uint64_t seed, uint64_t update, uint64_t first, int64_t count) {
  return at::tensor(keyed_places(size, seed, Purpose::kData, update, first, count));
}

}  // namespace vggflow

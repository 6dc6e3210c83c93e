#include "vggflow/metrics/image_sets.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/data/table.h"
#include "vggflow/io/files.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/io/image_file.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

struct Entry {
  fs::path file;
  std::string prompt,
      folder;  // the folder relative to the source: the group where there is no prompt
};

std::string trim(const std::string& text) {
  const size_t a = text.find_first_not_of(" \t\r\n"), b = text.find_last_not_of(" \t\r\n");
  return a == std::string::npos ? "" : text.substr(a, b - a + 1);
}

// ComfyUI keeps its whole graph, a JSON object, under the same key.
bool is_graph(const std::string& text) { return text.starts_with('{'); }

// The program's own grids lie beside the images that they are made of. Those of earlier programs do
// not say that they are grids.
bool is_own_grid(const fs::path& image, const TextChunks& text) {
  return is_grid(text) || (image.filename() == "grid.png" && text.empty() &&
                           fs::exists(image.parent_path() / "00000.png"));
}

std::string prompt_beside(const fs::path& image, const TextChunks& text) {
  if (const auto found = text.find("prompt"); found != text.end() && !is_graph(found->second))
    return trim(found->second);
  if (const auto found = text.find("parameters"); found != text.end()) {
    const std::string& all = found->second;
    return trim(all.substr(0, std::min(all.find("\nNegative prompt:"), all.find("\nSteps:"))));
  }
  const fs::path sidecar = fs::path(image).replace_extension(".txt");
  return fs::is_regular_file(sidecar) ? trim(read_utf8(sidecar)) : "";
}

// Images to other programs.
bool is_foreign_image(const fs::path& file) {
  static const std::set<std::string> endings{".apng", ".avif", ".bmp", ".gif",  ".heic",
                                             ".heif", ".jfif", ".jp2", ".jpe",  ".jxl",
                                             ".ppm",  ".tga",  ".tif", ".tiff", ".webp"};
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return endings.contains(ending);
}

// macOS keeps attributes of x.png as ._x.png where a disk cannot hold them.
bool is_mac_companion(const fs::path& file) { return file.filename().string().starts_with("._"); }

bool leads_nowhere(const fs::path& file) {
  std::error_code ignored;
  return fs::is_symlink(file, ignored) && !fs::exists(file, ignored);
}

// Calls f(path) on all that is no folder below `folder`, in linked folders too; a folder that two
// ways lead to is entered once, by the way without links if there is one.
void walk(const fs::path& folder, std::set<fs::path>& seen,
          const std::function<void(const fs::path&)>& f) {
  if (!seen.insert(fs::canonical(folder)).second) return;
  std::vector<fs::path> folders, links;
  std::error_code ignored;  // of a link that leads to itself
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory(ignored))
      (entry.is_symlink() ? links : folders).push_back(entry.path());
    else
      f(entry.path());
  }
  for (auto* all : {&folders, &links}) {
    std::sort(all->begin(), all->end());
    for (const fs::path& inner : *all) walk(inner, seen, f);
  }
}

void add_folder(const fs::path& folder, std::vector<Entry>& entries,
                std::vector<std::string>& unread) {
  std::vector<fs::path> files;
  std::vector<std::string> foreign;
  std::set<fs::path> seen;
  walk(folder, seen, [&](const fs::path& file) {
    const bool image = is_image_name(file);
    std::error_code ignored;
    if (image && !is_mac_companion(file) && fs::is_regular_file(file, ignored))
      files.push_back(file);
    else if (is_foreign_image(file) || (image && (is_mac_companion(file) || leads_nowhere(file))))
      foreign.push_back(file.string());
  });
  std::sort(foreign.begin(), foreign.end());
  VGGFLOW_CHECK(!files.empty(),
                "[image_set] {} holds no image: expected .png, .jpg or .jpeg files{}",
                folder.string(), foreign.empty() ? "" : "; " + unread_note(foreign));
  unread.insert(unread.end(), foreign.begin(), foreign.end());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const TextChunks text = read_image_text(file);
    if (is_own_grid(file, text)) continue;
    const fs::path below = file.parent_path().lexically_relative(folder);
    entries.push_back({file, prompt_beside(file, text), below == "." ? "" : below.string()});
  }
}

size_t column_of(const Table& table, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const auto found = table.column(name)) return *found;
  }
  fail("[image_set] {}: expected a column {}, got the columns {}", table.file.string(),
       fmt::join(names, " or "), examples_of(table.columns, ", "));
}

void add_list(const fs::path& file, std::vector<Entry>& entries) {
  const Table table = read_table(file);
  VGGFLOW_CHECK(!table.rows.empty(), "[image_set] {} lists no image", file.string());
  const size_t image = column_of(table, {"image", "file", "file_name", "path"}),
               prompt = column_of(table, {"prompt", "text"});
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const fs::path path = file.parent_path() / table.rows[i][image];
    VGGFLOW_CHECK(fs::is_regular_file(path), "[image_set] {}:{}: there is no file {}",
                  file.string(), table.lines[i], path.string());
    entries.push_back({path, trim(table.rows[i][prompt]), ""});
  }
}

std::vector<Entry> find_entries(const std::vector<fs::path>& sources,
                                std::vector<std::string>& unread) {
  std::vector<Entry> entries;
  for (const fs::path& source : sources) {
    if (fs::is_directory(source)) {
      add_folder(source, entries, unread);
    } else {
      VGGFLOW_CHECK(fs::exists(source),
                    "[image_set] there is no {}: expected a folder, an image or a list of images",
                    source.string());
      if (is_table(source)) {
        add_list(source, entries);
      } else {
        VGGFLOW_CHECK(is_image_name(source),
                      "[image_set] {}: expected a folder, a .png, .jpg or .jpeg file, or a list "
                      "(.csv, .tsv, .jsonl, .json)",
                      source.string());
        entries.push_back({source, prompt_beside(source, read_image_text(source)), ""});
      }
    }
  }
  return entries;
}

}  // namespace

std::string unread_note(const std::vector<std::string>& unread) {
  struct Reason {
    const char *one, *many;
    std::vector<std::string> names;
  };
  std::vector<Reason> reasons{
      {"1 file is an image of a kind that is not read (expected PNG or JPEG)",
       "{} files are images of a kind that is not read (expected PNG or JPEG)",
       {}},
      {"1 link leads nowhere", "{} links lead nowhere", {}},
      {"1 file is macOS' attributes of an image", "{} files are macOS' attributes of images", {}}};
  for (const std::string& file : unread) {
    const size_t reason = is_mac_companion(file) ? 2 : leads_nowhere(file) ? 1 : 0;
    reasons[reason].names.push_back(fs::path(file).filename().string());
  }
  std::vector<std::string> notes;
  for (const Reason& r : reasons) {
    if (r.names.empty()) continue;
    notes.push_back(fmt::format("{}: {}",
                                r.names.size() == 1
                                    ? std::string(r.one)
                                    : fmt::format(fmt::runtime(r.many), r.names.size()),
                                examples_of(r.names, ", ")));
  }
  return fmt::format("{}", fmt::join(notes, "; "));
}

int64_t ImageSet::without_prompt() const { return std::count(prompts.begin(), prompts.end(), ""); }

ImageSet read_image_set(const std::vector<fs::path>& sources, Unprompted unprompted) {
  VGGFLOW_CHECK(!sources.empty(), "[image_set] expected at least one folder, image or list");
  ImageSet set;
  const std::vector<Entry> entries = find_entries(sources, set.unread);
  const bool leave_out =
      unprompted == Unprompted::kLeaveOut &&
      std::any_of(entries.begin(), entries.end(), [](const Entry& e) { return !e.prompt.empty(); });
  set.name = sources.size() == 1
                 ? sources[0].string()
                 : fmt::format("{} and {} more", sources[0].string(), sources.size() - 1);
  std::vector<fs::path> files;
  for (const Entry& e : entries) {
    if (leave_out && e.prompt.empty()) {
      ++set.left_out;
      continue;
    }
    files.push_back(e.file);
    set.labels.push_back(e.file.string());
    set.prompts.push_back(e.prompt);
    set.groups.push_back(e.prompt.empty() ? e.folder : e.prompt);
  }
  set.pixels = [files](int64_t i) {
    return to_pixels(read_image(files.at(static_cast<size_t>(i))).image);
  };
  return set;
}

ImageSet image_set_of(std::string name, const Tensor& images, std::vector<std::string> prompts) {
  VGGFLOW_CHECK(images.dim() == 4 && images.size(1) == 3 &&
                    images.size(0) == static_cast<int64_t>(prompts.size()),
                "[image_set] expected images (N, 3, H, W) and N prompts, got {} and {} prompts",
                shape_string(images), prompts.size());
  ImageSet set;
  set.name = std::move(name);
  for (size_t i = 0; i < prompts.size(); ++i) set.labels.push_back(fmt::to_string(i));
  set.groups = prompts;
  set.prompts = std::move(prompts);
  set.pixels = [images](int64_t i) { return images[i]; };
  return set;
}

ImageSet subset(const ImageSet& set, const std::vector<int64_t>& places) {
  ImageSet out;
  out.name = set.name;
  out.left_out = set.left_out;
  out.unread = set.unread;
  for (const int64_t place : places) {
    const auto i = static_cast<size_t>(place);
    out.labels.push_back(set.labels.at(i));
    out.prompts.push_back(set.prompts.at(i));
    out.groups.push_back(set.groups.at(i));
  }
  out.pixels = [places, pixels = set.pixels](int64_t i) {
    return pixels(places.at(static_cast<size_t>(i)));
  };
  return out;
}

void agree_on_images(const Group& group, const ImageSet& set) {
  group.agree("the images of " + set.name,
              fmt::format("{}\n{}", fmt::join(set.labels, "\n"), fmt::join(set.prompts, "\n")));
}

GroupedImages group_images(const ImageSet& set) {
  GroupedImages out;
  std::map<std::string, size_t> known;
  for (int64_t i = 0; i < set.size(); ++i) {
    const std::string& group = set.groups[static_cast<size_t>(i)];
    const auto [found, fresh] = known.emplace(group, out.groups.size());
    if (fresh) {
      out.groups.push_back(group);
      out.places.emplace_back();
    }
    out.places[found->second].push_back(i);
  }
  return out;
}

ImageSet first_of_each(const ImageSet& set, int64_t count) {
  std::vector<int64_t> places;
  const GroupedImages grouped = group_images(set);
  for (size_t g = 0; g < grouped.groups.size(); ++g) {
    const auto& all = grouped.places[g];
    VGGFLOW_CHECK(static_cast<int64_t>(all.size()) >= count,
                  "[image_set] {}: expected at least {} images per prompt, got {} of '{}'",
                  set.name, count, all.size(), grouped.groups[g]);
    places.insert(places.end(), all.begin(), all.begin() + count);
  }
  return subset(set, places);
}

ImageSet resized(ImageSet set, int64_t size) {
  if (size == 0) return set;
  set.pixels = [size, pixels = set.pixels, name = set.name,
                told = std::make_shared<bool>(false)](int64_t i) {
    const Tensor x = pixels(i);
    if (x.size(1) != x.size(2) && !*told) {
      log_info(
          "{}: images that are not square, such as one of {} x {} pixels, are stretched to {} x {}",
          name, x.size(2), x.size(1), size, size);
      *told = true;
    }
    return ops::resize_pixels(x.unsqueeze(0), size, size).squeeze(0);
  };
  return set;
}

namespace {

using Shape = std::vector<int64_t>;

// As many as fit into what 64 images of 1024 x 1024 take, 768 MB, and at least one.
int64_t fitting(int64_t batch, const Shape& image) {
  constexpr int64_t kMostNumbers = int64_t{64} * 3 * 1024 * 1024;
  return std::clamp<int64_t>(kMostNumbers / std::max<int64_t>(c10::multiply_integers(image), 1), 1,
                             batch);
}

// Whether a run of `length` images, the last of them (3, H, W) in `last`, ends before `next`.
bool ends_before(const Shape& next, int64_t length, const Shape& last, int64_t batch) {
  return length == fitting(batch, last) || last != next;
}

// Of a lone image without a copy.
Tensor stacked(const std::vector<Tensor>& images) {
  return images.size() == 1 ? images[0].unsqueeze(0) : at::stack(images);
}

// By one process, which reads every image once.
std::vector<int64_t> for_all_batches(const ImageSet& set, int64_t batch,
                                     const std::function<void(int64_t, const Tensor&)>& f) {
  std::vector<int64_t> lengths;
  std::vector<Tensor> run;
  const auto end_before = [&](int64_t next) {
    lengths.push_back(std::ssize(run));
    f(next - lengths.back(), stacked(run));
    run.clear();
  };
  for (int64_t i = 0; i < set.size(); ++i) {
    Tensor x = set.pixels(i);
    if (!run.empty() &&
        ends_before(x.sizes().vec(), std::ssize(run), run.back().sizes().vec(), batch))
      end_before(i);
    run.push_back(std::move(x));
  }
  if (!run.empty()) end_before(set.size());
  return lengths;
}

// Of all images, each read by one process.
std::vector<Shape> shapes_of(const ImageSet& set, const Group& group) {
  std::vector<Tensor> own;
  for (int64_t i = group.rank(); i < set.size(); i += group.size())
    own.push_back(at::tensor(set.pixels(i).sizes(), at::kLong).unsqueeze(0));
  const Tensor all =
      gather_dealt(group, own, std::vector<int64_t>(static_cast<size_t>(set.size()), 1));
  std::vector<Shape> shapes;
  for (int64_t i = 0; i < set.size(); ++i) {
    const int64_t* row = all.const_data_ptr<int64_t>() + 3 * i;
    shapes.emplace_back(row, row + 3);
  }
  return shapes;
}

std::vector<int64_t> lengths_of_runs(const std::vector<Shape>& shapes, int64_t batch) {
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (i == 0 || ends_before(shapes[i], lengths.back(), shapes[i - 1], batch))
      lengths.push_back(0);
    ++lengths.back();
  }
  return lengths;
}

}  // namespace

std::vector<int64_t> for_batches(const ImageSet& set, int64_t batch,
                                 const std::function<void(int64_t, const Tensor&)>& f,
                                 const Group& group) {
  if (group.size() == 1) return for_all_batches(set, batch, f);
  std::vector<int64_t> lengths = lengths_of_runs(shapes_of(set, group), batch);
  int64_t first = 0;
  for (int64_t run = 0; run < std::ssize(lengths); ++run) {
    const int64_t length = lengths[static_cast<size_t>(run)];
    if (run % group.size() == group.rank()) {
      std::vector<Tensor> images;
      for (int64_t i = first; i < first + length; ++i) images.push_back(set.pixels(i));
      f(first, stacked(images));
    }
    first += length;
  }
  return lengths;
}

}  // namespace vggflow

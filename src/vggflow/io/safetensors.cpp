#include "vggflow/io/safetensors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/listing.h"
#include "vggflow/io/files.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/foreign_file.h"

namespace vggflow {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit

const std::vector<std::pair<std::string, at::ScalarType>>& dtype_names() {
  static const std::vector<std::pair<std::string, at::ScalarType>> names{
      {"F64", at::kDouble},
      {"F32", at::kFloat},
      {"F16", at::kHalf},
      {"BF16", at::kBFloat16},
      {"I64", at::kLong},
      {"I32", at::kInt},
      {"I16", at::kShort},
      {"I8", at::kChar},
      {"U64", at::kUInt64},
      {"U32", at::kUInt32},
      {"U16", at::kUInt16},
      {"U8", at::kByte},
      {"BOOL", at::kBool},
      {"C64", at::kComplexFloat},
      {"F8_E4M3", at::kFloat8_e4m3fn},
      {"F8_E5M2", at::kFloat8_e5m2},
      {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
      {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
      {"F8_E8M0", at::kFloat8_e8m0fnu}};
  return names;
}

// The JSON parser stops at a NUL and skips a byte order mark, both of which could hide what another
// reader sees.
void check_frame(std::string_view header, const std::string& file) {
  VGGFLOW_CHECK(header.starts_with('{'), "[safetensors] {}: expected a JSON object as header",
                file);
  const size_t last = header.find_last_not_of(' ');
  VGGFLOW_CHECK(header[last] == '}' && header.find('\0') == std::string_view::npos,
                "[safetensors] {}: expected a header that ends with '}}' and spaces; the file is "
                "damaged, get it again",
                file);
}

// Parses, refusing a name that comes twice in one object and nesting beyond what the format has.
Json parse_strict(std::string_view header, const std::string& file) {
  constexpr int kDeepest = 3;  // header, entry, shape
  std::vector<std::set<std::string>> seen;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    VGGFLOW_CHECK(depth <= kDeepest, "[safetensors] {}: the header is nested too deeply", file);
    if (event == Json::parse_event_t::object_start) seen.emplace_back();
    if (event == Json::parse_event_t::object_end) seen.pop_back();
    if (event == Json::parse_event_t::key) {
      VGGFLOW_CHECK(seen.back().insert(value.get<std::string>()).second,
                    "[safetensors] {}: '{}' comes twice in the header", file,
                    value.get<std::string>());
    }
    return true;
  };
  try {
    return Json::parse(header.begin(), header.end(), watch);
  } catch (const nlohmann::json::exception& e) {
    fail("[safetensors] {}: the header is not JSON ({}); the file is damaged, get it again", file,
         e.what());
  }
}

TensorEntry parse_entry(const std::string& name, const Json& value, const std::string& file) {
  const auto bad = [&](const char* what) {
    fail("[safetensors] {}: tensor '{}': {}", file, name, what);
  };
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    bad("expected dtype, shape and data_offsets");
  }
  if (!value["dtype"].is_string()) bad("expected a dtype name");
  TensorEntry entry{};
  const auto& names = dtype_names();
  const auto found = std::find_if(names.begin(), names.end(), [&](const auto& n) {
    return n.first == value["dtype"].get<std::string>();
  });
  VGGFLOW_CHECK(found != names.end(), "[safetensors] {}: tensor '{}' has the unsupported dtype {}",
                file, name, value["dtype"].get<std::string>());
  entry.dtype = found->second;
  uint64_t bytes = c10::elementSize(entry.dtype);
  uint64_t span =
      bytes;  // the same with empty dimensions counted as 1, so that strides cannot overflow either
  if (!value["shape"].is_array() || value["shape"].size() > 16)
    bad("expected a shape of at most 16 numbers");
  for (const Json& d : value["shape"]) {
    if (!d.is_number_unsigned() || d.get<uint64_t>() > (uint64_t{1} << 48))
      bad("expected a shape of whole numbers below 2^48");
    entry.shape.push_back(d.get<int64_t>());
    bytes *= d.get<uint64_t>();
    if (__builtin_mul_overflow(span, std::max<uint64_t>(1, d.get<uint64_t>()), &span) ||
        span > (uint64_t{1} << 62)) {
      bad("its size overflows");
    }
  }
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    bad("expected two data_offsets");
  }
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  VGGFLOW_CHECK(
      entry.end >= entry.begin && entry.end - entry.begin == bytes,
      "[safetensors] {}: tensor '{}' needs {} bytes by its shape, but its offsets are {} to {}",
      file, name, bytes, entry.begin, entry.end);
  return entry;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file)
    : SafetensorsFile(MappedFile::open(file, "safetensors")) {}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> bytes)
    : bytes_(std::move(bytes)), path_(bytes_->name()) {
  parse_header();
  check_layout();
}

void SafetensorsFile::parse_header() {
  VGGFLOW_CHECK(
      bytes_->size() >= 8,
      "[safetensors] {} has {} bytes, too few for a header; the file is damaged, get it again",
      path_.string(), bytes_->size());
  VGGFLOW_CHECK(!looks_like_torch({bytes_->data(), bytes_->size()}),
                "[safetensors] {} is a file of torch.save and no safetensors file: name it .bin or "
                ".pt",
                path_.string());
  uint64_t length = 0;
  std::memcpy(&length, bytes_->data(), 8);
  VGGFLOW_CHECK(length <= kMaxHeader && length <= bytes_->size() - 8,
                "[safetensors] {}: the header claims {} bytes, but the file has {}; it is "
                "truncated or no safetensors file",
                path_.string(), length, bytes_->size());
  data_begin_ = 8 + length;
  const std::string_view json(bytes_->data() + 8, length);
  check_frame(json, path_.string());
  const Json header = parse_strict(json, path_.string());
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      tensors_[name] = parse_entry(name, value, path_.string());
      continue;
    }
    VGGFLOW_CHECK(value.is_object(), "[safetensors] {}: expected an object as __metadata__",
                  path_.string());
    for (const auto& [key, text] : value.items()) {
      VGGFLOW_CHECK(text.is_string(), "[safetensors] {}: expected text for the metadata '{}'",
                    path_.string(), key);
      metadata_[key] = text.get<std::string>();
    }
  }
}

// The tensors must cover the bytes after the header without gap or overlap.
void SafetensorsFile::check_layout() const {
  std::vector<std::pair<uint64_t, uint64_t>> spans;
  for (const auto& [name, e] : tensors_) spans.emplace_back(e.begin, e.end);
  std::sort(spans.begin(), spans.end());
  uint64_t at = 0;
  for (const auto& [begin, end] : spans) {
    VGGFLOW_CHECK(begin == at, "[safetensors] {}: the tensors {} at byte {}", path_.string(),
                  begin < at ? "overlap" : "leave a hole", at);
    at = end;
  }
  const uint64_t held = bytes_->size() - data_begin_;
  VGGFLOW_CHECK(
      at == held,
      "[safetensors] {}: the header describes {} bytes of tensors, but the file holds {}; it is {}",
      path_.string(), at, held, at > held ? "truncated" : "too long");
}

const TensorEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = tensors_.find(name);
  VGGFLOW_CHECK(found != tensors_.end(), "[safetensors] {} holds no tensor '{}'", path_.string(),
                name);
  const TensorEntry& e = found->second;
  VGGFLOW_CHECK(
      e.dtype != at::kBool || are_bools(bytes_->data() + data_begin_ + e.begin, e.end - e.begin),
      "[safetensors] {}: tensor '{}' is BOOL, but holds bytes other than 0 and 1", path_.string(),
      name);
  return e;
}

std::string_view SafetensorsFile::bytes(const std::string& name) const {
  const TensorEntry& e = entry(name);
  return {bytes_->data() + data_begin_ + e.begin, e.end - e.begin};
}

Tensor SafetensorsFile::load(const std::string& name) const {
  const TensorEntry& e = entry(name);
  const std::string_view data = bytes(name);
  Tensor out = at::empty(e.shape, e.dtype);
  if (!data.empty()) std::memcpy(out.mutable_data_ptr(), data.data(), data.size());
  return out;
}

Tensor SafetensorsFile::view(const std::string& name) const {
  const TensorEntry& e = entry(name);
  return view_of(bytes_, data_begin_ + e.begin, e.shape, e.dtype);
}

TensorMap SafetensorsFile::views() const {
  TensorMap all;
  for (const auto& [name, e] : tensors_) all.emplace(name, view(name));
  return all;
}

void write_safetensors(const std::filesystem::path& file, const std::vector<LazyTensor>& tensors,
                       const Metadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const LazyTensor& t : tensors) {
    const auto& names = dtype_names();
    const auto found = std::find_if(names.begin(), names.end(),
                                    [&](const auto& n) { return n.second == t.dtype; });
    VGGFLOW_CHECK(found != names.end() && !header.contains(t.name) && t.name != "__metadata__",
                  "[safetensors] cannot write tensor '{}': its dtype is not supported or its name "
                  "comes twice",
                  t.name);
    VGGFLOW_CHECK(is_utf8(t.name), "[safetensors] expected tensor names in UTF-8, got '{}'",
                  t.name);
    const uint64_t end =
        offset + static_cast<uint64_t>(c10::multiply_integers(t.shape)) * c10::elementSize(t.dtype);
    header[t.name] = {{"dtype", found->first}, {"shape", t.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  AtomicFile out(file);
  out.write(&length, 8);
  out.write(text);
  for (const LazyTensor& t : tensors) {
    const Tensor made = t.make().detach().to(at::kCPU).contiguous();
    VGGFLOW_CHECK(made.scalar_type() == t.dtype && made.sizes().vec() == t.shape,
                  "[safetensors] tensor '{}' was announced otherwise than it was made", t.name);
    out.write(made.const_data_ptr(), made.nbytes());
  }
  out.commit();
}

void write_safetensors(const std::filesystem::path& file, const TensorList& tensors,
                       const Metadata& metadata) {
  std::vector<LazyTensor> all;
  for (const auto& [name, tensor] : tensors)
    all.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), [t = tensor] { return t; }});
  write_safetensors(file, all, metadata);
}

void expect_fit(const TensorMap& tensors, const std::string& origin, const TensorList& targets) {
  std::vector<std::string> problems;
  std::set<std::string> wanted;
  for (const auto& [name, target] : targets) {
    wanted.insert(name);
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      problems.push_back(fmt::format("missing '{}'", name));
    } else if (found->second.sizes() != target.sizes()) {
      problems.push_back(fmt::format("'{}' has shape ({}), expected ({})", name,
                                     fmt::join(found->second.sizes().vec(), ", "),
                                     fmt::join(target.sizes().vec(), ", ")));
    } else if (target.is_floating_point()) {
      if (const std::string fault = weight_fault(found->second); !fault.empty())
        problems.push_back(fmt::format("'{}' {}", name, fault));
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (!wanted.contains(name)) problems.push_back(fmt::format("unexpected '{}'", name));
  }
  VGGFLOW_CHECK(problems.empty(), "{} does not fit the network, {}: {}", origin,
                count_of(problems.size(), "fault"), examples_of(problems));
}

void load_into(const TensorMap& tensors, const std::string& origin, const TensorList& targets) {
  expect_fit(tensors, origin, targets);
  at::NoGradGuard no_grad;
  for (const auto& [name, target] : targets) {
    Tensor destination = target;
    destination.copy_(tensors.at(name));
  }
}

void load_into(const SafetensorsFile& file, const TensorList& targets) {
  load_into(file.views(), "[safetensors] " + file.path().string(), targets);
}

}  // namespace vggflow

#include "vggflow/io/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace {

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

// ---- protobuf wire format
// --------------------------------------------------------------------------------------------

std::string varint(uint64_t x) {
  std::string out;
  for (; x >= 128; x >>= 7) out += static_cast<char>(x | 128);
  return out + static_cast<char>(x);
}
std::string key(int field, int wire) {
  return varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}
std::string integer(int field, int64_t x) {
  return key(field, 0) + varint(static_cast<uint64_t>(x));
}
std::string fixed64(int field, double x) { return key(field, 1) + raw(x); }
std::string fixed32(int field, float x) { return key(field, 5) + raw(x); }
std::string bytes(int field, const std::string& x) { return key(field, 2) + varint(x.size()) + x; }

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Event { wall_time = 1, step = 2, summary = 5 }, Summary { value = 1 }.
std::string event(int64_t step, const std::string& value) {
  return fixed64(1, wall_time()) + integer(2, step) + bytes(5, bytes(1, value));
}

uint32_t masked_crc(const std::string& data) {
  const uint32_t crc = crc32c(data);
  return std::rotr(crc, 15) + 0xa282ead8u;
}

}  // namespace

uint32_t crc32c(const std::string& data) {
  static const auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (const char c : data) crc = table[(crc ^ static_cast<unsigned char>(c)) & 255] ^ (crc >> 8);
  return ~crc;
}

EventWriter::EventWriter(const std::filesystem::path& folder) {
  make_writable_folder(folder);
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const auto file =
      folder / fmt::format("events.out.tfevents.{}.{}.{}", static_cast<int64_t>(wall_time()),
                           host.data(), ::getpid());
  out_.open(file, std::ios::binary | std::ios::app);
  VGGFLOW_CHECK(out_, "[tensorboard] cannot write {}", file.string());
  record(fixed64(1, wall_time()) + bytes(3, "brain.Event:2"));
}

void EventWriter::record(const std::string& payload) {
  const std::string length = raw<uint64_t>(payload.size());
  out_ << length << raw(masked_crc(length)) << payload << raw(masked_crc(payload)) << std::flush;
  VGGFLOW_CHECK(out_, "[tensorboard] cannot append to the event file: is the disk full?");
}

// Summary.Value { tag = 1, simple_value = 2, image = 4 }, Image { height = 1, width = 2, colorspace
// = 3, encoded = 4 }.
void EventWriter::scalar(const std::string& tag, double value, int64_t step) {
  record(event(step, bytes(1, tag) + fixed32(2, static_cast<float>(value))));
}

void EventWriter::image(const std::string& tag, const Image& image, int64_t step) {
  const auto png = encode_png(image);
  const std::string encoded(png.begin(), png.end());
  record(event(step, bytes(1, tag) + bytes(4, integer(1, image.height) + integer(2, image.width) +
                                                  integer(3, 3) + bytes(4, encoded))));
}

// Summary.Value { tag = 1, tensor = 8, metadata = 9 }, SummaryMetadata { plugin_data = 1 },
// PluginData { plugin_name = 1 }, TensorProto { dtype = 1 (7: strings), tensor_shape = 2,
// string_val = 8 }; the shape without dimensions is a scalar's.
void EventWriter::text(const std::string& tag, const std::string& text, int64_t step) {
  constexpr int64_t kStrings = 7;
  record(event(step, bytes(1, tag) +
                         bytes(8, integer(1, kStrings) + bytes(2, "") + bytes(8, text)) +
                         bytes(9, bytes(1, bytes(1, "text")))));
}

}  // namespace vggflow

#include "vggflow/data/emoji.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <ft2build.h>
#include FT_FREETYPE_H
#include <hb-ft.h>
#include <hb.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <system_error>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

std::string after(const std::string& line, const std::string& mark) {
  const size_t at = line.find(mark);
  return at == std::string::npos ? "" : line.substr(at + mark.size());
}

uint32_t parse_codepoint(const std::string& code, const std::string& line) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(code.data(), code.data() + code.size(), value, 16);
  VGGFLOW_CHECK(error == std::errc() && end == code.data() + code.size() && value <= 0x10FFFF,
                "[emoji] expected a hexadecimal code point, got '{}' in the line '{}': data.list "
                "must be Unicode's emoji-test.txt",
                code, line);
  return value;
}

// "1F44B 1F3FC ; fully-qualified # 👋🏼 E1.0 waving hand: ..." -> code points and name.
EmojiItem parse_line(const std::string& line) {
  EmojiItem item;
  std::istringstream codes(line.substr(0, line.find(';')));
  for (std::string code; codes >> code;) item.codepoints.push_back(parse_codepoint(code, line));
  std::istringstream comment(after(line, "# "));
  std::string glyph, version;
  comment >> glyph >> version;
  std::getline(comment >> std::ws, item.name);
  item.base_name = without_skin_tone(item.name);
  return item;
}

struct FreeTypeCloser {
  void operator()(FT_Library library) const { FT_Done_FreeType(library); }
};
struct FaceCloser {
  void operator()(FT_Face face) const { FT_Done_Face(face); }
};
struct FontCloser {
  void operator()(hb_font_t* font) const { hb_font_destroy(font); }
};
struct BufferCloser {
  void operator()(hb_buffer_t* buffer) const { hb_buffer_destroy(buffer); }
};

// Draws code point sequences as single colour bitmaps.
class EmojiFont {
 public:
  explicit EmojiFont(const std::string& path) {
    FT_Library library = nullptr;
    VGGFLOW_CHECK(FT_Init_FreeType(&library) == 0, "[emoji] FreeType did not start");
    library_.reset(library);
    FT_Face face = nullptr;
    const FT_Error error = FT_New_Face(library, path.c_str(), 0, &face);
    VGGFLOW_CHECK(error == 0,
                  "[emoji] cannot open the font {} (FreeType error {}): install the Debian package "
                  "fonts-noto-color-emoji, "
                  "or set data.font",
                  path, error);
    face_.reset(face);
    VGGFLOW_CHECK(face->num_fixed_sizes > 0 && FT_Select_Size(face, 0) == 0,
                  "[emoji] expected a font with colour bitmaps, got {} without any: install "
                  "fonts-noto-color-emoji",
                  path);
    font_.reset(hb_ft_font_create_referenced(face));
  }

  /// Draws on white, (3, size, size) into `out`; false when the font shapes it to anything but one
  /// bitmap.
  bool draw(const std::vector<uint32_t>& codepoints, int64_t size, uint8_t* out) const {
    if (!load(codepoints, FT_LOAD_COLOR | FT_LOAD_RENDER)) return false;
    const FT_Bitmap& bitmap = face_->glyph->bitmap;
    if (bitmap.pixel_mode != FT_PIXEL_MODE_BGRA || bitmap.width == 0 || bitmap.rows == 0)
      return false;
    shrink(bitmap, size, out);
    return true;
  }

  /// Whether draw would; the bitmap is not decoded, which takes most of drawing's time.
  bool has(const std::vector<uint32_t>& codepoints) const {
    if (!load(codepoints, FT_LOAD_COLOR | FT_LOAD_BITMAP_METRICS_ONLY)) return false;
    const FT_Glyph_Metrics& metrics = face_->glyph->metrics;
    return face_->glyph->format == FT_GLYPH_FORMAT_BITMAP && metrics.width > 0 &&
           metrics.height > 0;
  }

 private:
  // Loads the one glyph that the code points are shaped to; false where they are not.
  bool load(const std::vector<uint32_t>& codepoints, FT_Int32 flags) const {
    const std::unique_ptr<hb_buffer_t, BufferCloser> buffer(hb_buffer_create());
    hb_buffer_add_utf32(buffer.get(), codepoints.data(), static_cast<int>(codepoints.size()), 0,
                        -1);
    hb_buffer_guess_segment_properties(buffer.get());
    hb_shape(font_.get(), buffer.get(), nullptr, 0);
    unsigned count = 0;
    const hb_glyph_info_t* glyphs = hb_buffer_get_glyph_infos(buffer.get(), &count);
    if (count != 1 || glyphs[0].codepoint == 0) return false;
    return FT_Load_Glyph(face_.get(), glyphs[0].codepoint, flags) == 0;
  }

  // Area average of the bitmap, centred on a white square: each target pixel is the mean over the
  // box it covers.
  static void shrink(const FT_Bitmap& bitmap, int64_t size, uint8_t* out) {
    const auto width = static_cast<double>(bitmap.width), height = static_cast<double>(bitmap.rows);
    const double side = std::max(width, height), scale = side / static_cast<double>(size);
    const double left = (side - width) / 2, top = (side - height) / 2;
    for (int64_t y = 0; y < size; ++y) {
      for (int64_t x = 0; x < size; ++x) {
        const double x0 = static_cast<double>(x) * scale - left,
                     y0 = static_cast<double>(y) * scale - top;
        const auto box = box_mean(bitmap, x0, y0, scale);
        for (int64_t c = 0; c < 3; ++c)
          out[(c * size + y) * size + x] = box[static_cast<size_t>(c)];
      }
    }
  }

  static std::array<uint8_t, 3> box_mean(const FT_Bitmap& bitmap, double x0, double y0,
                                         double scale) {
    std::array<double, 3> sum{};
    double area = 0;
    const int64_t w = bitmap.width, h = bitmap.rows;
    for (auto y = static_cast<int64_t>(std::floor(y0)); static_cast<double>(y) < y0 + scale; ++y) {
      const double dy =
          std::min(y0 + scale, static_cast<double>(y + 1)) - std::max(y0, static_cast<double>(y));
      for (auto x = static_cast<int64_t>(std::floor(x0)); static_cast<double>(x) < x0 + scale;
           ++x) {
        const double a = dy * (std::min(x0 + scale, static_cast<double>(x + 1)) -
                               std::max(x0, static_cast<double>(x)));
        area += a;
        const bool inside = x >= 0 && y >= 0 && x < w && y < h;
        const uint8_t* p =
            inside ? bitmap.buffer + y * bitmap.pitch + x * 4 : nullptr;  // B G R A, premultiplied
        for (size_t c = 0; c < 3; ++c) sum[c] += a * (p ? p[2 - c] + (255 - p[3]) : 255);
      }
    }
    std::array<uint8_t, 3> out{};
    for (size_t c = 0; c < 3; ++c)
      out[c] = static_cast<uint8_t>(std::lround(std::clamp(sum[c] / area, 0.0, 255.0)));
    return out;
  }

  std::unique_ptr<FT_LibraryRec_, FreeTypeCloser> library_;
  std::unique_ptr<FT_FaceRec_, FaceCloser> face_;
  std::unique_ptr<hb_font_t, FontCloser> font_;
};

}  // namespace

std::string without_skin_tone(const std::string& name) {
  const size_t colon = name.find(": ");
  if (colon == std::string::npos) return name;
  std::vector<std::string> kept;
  std::string rest = name.substr(colon + 2);
  for (size_t at = 0; at != std::string::npos;) {
    const size_t comma = rest.find(", ", at);
    const std::string part = rest.substr(at, comma == std::string::npos ? comma : comma - at);
    if (!part.ends_with("skin tone")) kept.push_back(part);
    at = comma == std::string::npos ? comma : comma + 2;
  }
  return kept.empty() ? name.substr(0, colon)
                      : fmt::format("{}: {}", name.substr(0, colon), fmt::join(kept, ", "));
}

std::vector<EmojiItem> parse_emoji_test(const std::filesystem::path& file) {
  std::ifstream in(file);
  VGGFLOW_CHECK(in,
                "[emoji] cannot read {}: install the Debian package unicode-data, or set data.list",
                file.string());
  std::vector<EmojiItem> items;
  std::string group, subgroup;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("# group: ")) group = after(line, "# group: ");
    if (line.starts_with("# subgroup: ")) subgroup = after(line, "# subgroup: ");
    if (line.empty() || line[0] == '#' || line.find("; fully-qualified") == std::string::npos)
      continue;
    items.push_back(parse_line(line));
    items.back().group = group;
    items.back().subgroup = subgroup;
  }
  VGGFLOW_CHECK(!items.empty(),
                "[emoji] expected Unicode's emoji-test.txt, got no fully-qualified entry in {}",
                file.string());
  return items;
}

namespace {

// Of the list's entries those that `take` takes, which is handed the place that an entry would have
// in the set.
template <class Take>
EmojiSet entries_of(const EmojiOptions& options, const std::vector<EmojiItem>& parsed, Take take) {
  EmojiSet set;
  std::map<std::string, int64_t> indices;
  for (const EmojiItem& item : parsed) {
    if (!take(item.codepoints, std::ssize(set.items))) {
      ++set.undrawn;
      continue;
    }
    const auto [at, added] =
        indices.try_emplace(item.subgroup, static_cast<int64_t>(set.subgroups.size()));
    if (added) set.subgroups.push_back(item.subgroup);
    set.items.push_back(item);
    set.items.back().subgroup_index = at->second;
  }
  VGGFLOW_CHECK(!set.items.empty(), "[emoji] the font {} draws none of the {} entries of {}",
                options.font, parsed.size(), options.list);
  return set;
}

}  // namespace

EmojiSet load_emoji(const EmojiOptions& options) {
  const EmojiFont font(options.font);
  const auto parsed = parse_emoji_test(options.list);
  const int64_t bytes = 3 * options.size * options.size;
  const Tensor images =
      at::empty({static_cast<int64_t>(parsed.size()), 3, options.size, options.size}, at::kByte);
  uint8_t* pixels = images.mutable_data_ptr<uint8_t>();
  EmojiSet set = entries_of(options, parsed, [&](const auto& codepoints, int64_t place) {
    return font.draw(codepoints, options.size, pixels + place * bytes);
  });
  set.images = images.narrow(0, 0, std::ssize(set.items)).clone();
  return set;
}

EmojiSet list_emoji(const EmojiOptions& options) {
  const EmojiFont font(options.font);
  return entries_of(options, parse_emoji_test(options.list),
                    [&](const auto& codepoints, int64_t) { return font.has(codepoints); });
}

}  // namespace vggflow

#pragma once
// The emoji data set: Noto Color Emoji's bitmaps named by Unicode's emoji-test.txt, both from
// Debian packages.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/core/field.h"

namespace vggflow {

using at::Tensor;

struct EmojiOptions {
  std::string font = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
  std::string list = "/usr/share/unicode/emoji/emoji-test.txt";
  int64_t size = 32;

  template <class V>
  void fields(V& v) {
    v("font", font, "colour bitmap font (Debian package fonts-noto-color-emoji)");
    v("list", list, "Unicode's emoji-test.txt (Debian package unicode-data)");
    v("size", size, "side of an image in pixels", range(8, 128));
  }
};

/// One fully-qualified entry of emoji-test.txt.
struct EmojiItem {
  std::string name;       ///< "waving hand: medium-light skin tone"
  std::string base_name;  ///< the name without skin tones: "waving hand"
  std::string group, subgroup;
  int64_t subgroup_index = 0;
  std::vector<uint32_t> codepoints;
};

struct EmojiSet {
  std::vector<EmojiItem> items;
  std::vector<std::string> subgroups;
  Tensor images;        ///< (N, 3, size, size) uint8, on white; undefined of list_emoji
  int64_t undrawn = 0;  ///< entries that the font has no single bitmap for
};

/// Reads the list and draws each entry. Throws when a file is missing, naming the Debian package
/// that holds it.
EmojiSet load_emoji(const EmojiOptions& options);

/// The same without the images: for prompts, which need the entries that the font draws. Decodes
/// no bitmap, so that a command's start does not wait for thousands.
EmojiSet list_emoji(const EmojiOptions& options);

/// The fully-qualified entries of emoji-test.txt, in order.
std::vector<EmojiItem> parse_emoji_test(const std::filesystem::path& file);

/// "waving hand: medium-light skin tone" -> "waving hand".
std::string without_skin_tone(const std::string& name);

}  // namespace vggflow

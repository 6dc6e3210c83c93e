#include "vggflow/core/foreign_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

using namespace std::string_view_literals;

struct Kind {
  std::string_view begin;  // lower case; white space before it does not count for text
  bool text;
  const char* what;
};

constexpr const char* kPlain =
    "get the model's plain weights, safetensors files of fp16, bf16 or fp32";

const std::string& page() {
  static const std::string what =
      "is a web page and not the file: the download went wrong. Download it again; for a gated "
      "model accept its terms and log in first (hf auth login)";
  return what;
}

const auto& kinds() {
  static const std::string gguf =
      fmt::format("is a GGUF file, whose weights are quantised and not read: {}", kPlain);
  static const std::array all{
      Kind{"gguf"sv, false, gguf.c_str()},
      Kind{"version https://git-lfs"sv, true,
           "is a Git LFS pointer and not the file itself: run `git lfs pull` in its folder, or get "
           "the file with `hf download`"},
      Kind{"<!doctype"sv, true, page().c_str()},
      Kind{"<html"sv, true, page().c_str()},
      Kind{"<?xml"sv, true, page().c_str()},
      Kind{"\x89hdf\r\n"sv, false, "is an HDF5 file, which is not read: get safetensors files"},
      Kind{"\x1f\x8b"sv, false, "is compressed by gzip: unpack it"},
      Kind{"\xfd"
           "7zxz"sv,
           false, "is compressed by xz: unpack it"},
      Kind{"7z\xbc\xaf\x27\x1c"sv, false, "is a 7-Zip archive: unpack it"},
      Kind{"rar!"sv, false, "is a RAR archive: unpack it"}};
  return all;
}

// A mark of letters alone may begin a text too; behind the mark of a binary file is no letter.
bool begins(std::string_view bytes, const Kind& kind) {
  const size_t behind = kind.begin.size();
  if (!kind.text && bytes.size() > behind &&
      std::isprint(static_cast<unsigned char>(bytes[behind])))
    return false;
  if (kind.text) {
    if (bytes.starts_with("\xEF\xBB\xBF"sv)) bytes.remove_prefix(3);
    while (!bytes.empty() && std::isspace(static_cast<unsigned char>(bytes.front())))
      bytes.remove_prefix(1);
  }
  return bytes.size() >= kind.begin.size() &&
         std::equal(kind.begin.begin(), kind.begin.end(), bytes.begin(), [](char want, char got) {
           return want == (got >= 'A' && got <= 'Z' ? static_cast<char>(got + 32) : got);
         });
}

// The length of a safetensors header can begin as any mark here does; the header itself tells.
bool looks_like_safetensors(std::string_view bytes) { return bytes.size() > 8 && bytes[8] == '{'; }

struct Mark {
  std::string_view end;  // of a tensor's name
  const char* kind;
};
constexpr std::array kMarks{Mark{".scale_weight"sv, "scaled fp8"},
                            Mark{".scale_input"sv, "scaled fp8"},
                            Mark{"scaled_fp8"sv, "scaled fp8"},
                            Mark{".weight_scale"sv, "scaled weights"},
                            Mark{".weight_scale_inv"sv, "scaled weights"},
                            Mark{".comfy_quant"sv, "scaled weights"},
                            Mark{".weight.absmax"sv, "bitsandbytes"},
                            Mark{".weight.quant_map"sv, "bitsandbytes"},
                            Mark{".SCB"sv, "bitsandbytes"},
                            Mark{".qweight"sv, "packed integers"},
                            Mark{".qzeros"sv, "packed integers"},
                            Mark{".weight._data"sv, "packed integers"}};

}  // namespace

std::string foreign_kind(std::string_view bytes) {
  if (looks_like_safetensors(bytes)) return "";
  for (const Kind& kind : kinds()) {
    if (begins(bytes, kind)) return kind.what;
  }
  return "";
}

void refuse_foreign(std::string_view bytes, const std::string& where) {
  const std::string kind = foreign_kind(bytes);
  VGGFLOW_CHECK(kind.empty(), "{} {}", where, kind);
}

bool looks_like_torch(std::string_view bytes) {
  constexpr auto kLegacy = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv;
  return !looks_like_safetensors(bytes) &&
         (bytes.starts_with("PK\x03\x04"sv) || bytes.starts_with(kLegacy));
}

std::string quantised_kind(const std::vector<std::string>& names) {
  for (const Mark& mark : kMarks) {
    const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
      return name.ends_with(mark.end);
    });
    if (found != names.end())
      return fmt::format("{} ('{}' is there); they are not read: {}", mark.kind, *found, kPlain);
  }
  return "";
}

}  // namespace vggflow

// Any bytes given as a YAML file of settings, or as key=value, end in settings that are saved and
// read back the same, or in an Error.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "fuzz.h"
#include "vggflow/core/config.h"
#include "vggflow/core/error.h"

bool fuzz_accepted = false;

namespace {

struct Inner {
  bool yes = false;
  std::vector<double> numbers;
  template <class V>
  void fields(V& v) {
    v("yes", yes, "a switch");
    v("numbers", numbers, "a list", vggflow::range(-1e9, 1e9));
  }
};

enum class Shade { kLight, kDark };
vggflow::OptionWords<Shade> option_words(Shade) {
  return {{"light", Shade::kLight}, {"dark", Shade::kDark}};
}

// A field of every type.
struct Settings {
  int64_t whole = 1;
  double real = 0.5;
  std::string text;
  std::string word = "a";
  std::vector<int64_t> list;
  std::vector<std::string> texts;
  Shade shade = Shade::kLight;
  std::vector<Shade> shades;
  Inner inner;
  template <class V>
  void fields(V& v) {
    v("whole", whole, "a number", vggflow::range(-1000, 1000));
    v("real", real, "a number");
    v("text", text, "a text");
    v("word", word, "a word", vggflow::choices({"a", "b"}));
    v("list", list, "numbers");
    v("texts", texts, "texts");
    v("shade", shade, "a choice");
    v("shades", shades, "choices");
    v.section("inner", inner);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  const std::string text(reinterpret_cast<const char*>(data), size);
  Settings settings, again, overridden;
  try {
    vggflow::apply_override(vggflow::fields_of(overridden), text);
  } catch (const vggflow::Error&) {
  }
  try {
    vggflow::load_yaml_text(vggflow::fields_of(settings), text, "fuzz");
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  if (!fuzz_accepted) return 0;
  const std::string saved = vggflow::to_yaml(vggflow::fields_of(settings));
  vggflow::load_yaml_text(vggflow::fields_of(again), saved, "saved");
  if (vggflow::to_yaml(vggflow::fields_of(again)) != saved) std::abort();
  return 0;
}

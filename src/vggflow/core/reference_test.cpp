#include "vggflow/core/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Settings {
  std::string lora, kind = "a";
  std::vector<std::string> layers{"transformer_blocks.*.attn.to_q", "transformer_blocks.*.ff.net"};
  double lr = 1e-3;
  template <class V>
  void fields(V& v) {
    v("lora", lora, "LoRA in any layout");
    v("kind", kind, "of value network", choices({"a", "b"}));
    v("layers", layers,
      "adapted layers, by path with *, of which every one that exists in the model gets an adapter "
      "+ nothing else does");
    v("optimizer.lr", lr, "learning rate", range(0, 1));
  }
};

CommandPage page() {
  Settings s;
  return command_page({"job", "Does it.", {}},
                      {.positionals = {{"lora"}},
                       .flags = {{"--kind", "kind"}},
                       .required = {"lora"},
                       .notes = "More."},
                      fields_of(s));
}

TEST(Reference, HasEveryWordFlagAndSetting) {
  EXPECT_EQ(reference_page(page()), R"(# vggflow job

Does it.

```
vggflow job LORA [--config FILE] [key=value ...]
```

- `LORA`: LoRA in any layout.
- `--config FILE`: file of settings (YAML); what the command line says wins.
- `--trust WORDS`: plugins, torchscript, http: rewards of these kinds may be opened though a file
  of settings names them; trust=WORDS is the same.
- `--kind`: sets `kind`.

## Settings

- `lora=` (text): LoRA in any layout.
- `kind=a` (one of `a`, `b`): of value network.
- `layers=...` (a list of texts): adapted layers, by path with \*, of which every one that exists
  in the model gets an adapter + nothing else does. Default: `["transformer_blocks.*.attn.to_q",
  "transformer_blocks.*.ff.net"]`.

## Settings of `optimizer`

- `optimizer.lr=0.001` (a number, 0 to 1): learning rate.

## Notes

More.
)");
}

TEST(Reference, IndexLinksThePages) {
  EXPECT_THAT(reference_index({page()}), HasSubstr("- [job](job.md): Does it.\n"));
}

TEST(Reference, ManPageEscapesWhatRoffReads) {
  CommandPage p = page();
  p.settings.front().comment = ".begins with a dot, has a \\ and a-dash";
  const std::string man = man_page({p}, "0.1");
  EXPECT_THAT(man, HasSubstr("\\&.begins with a dot, has a \\e and a\\-dash"));
  EXPECT_THAT(man, Not(HasSubstr("\n.begins")));
}

}  // namespace
}  // namespace vggflow

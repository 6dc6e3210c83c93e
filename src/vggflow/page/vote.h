#pragma once
// Blind votes between two LoRAs, or a LoRA and the base, as a command.

#include <cstdint>
#include <string>
#include <vector>

#include "vggflow/eval/run.h"

namespace vggflow {

struct VoteConfig {
  std::vector<std::string> loras;
  int64_t port = 8675;
  SampleConfig sample = [] {
    SampleConfig s;
    s.out = "votes";
    s.images = 4;
    return s;
  }();

  template <class V>
  void fields(V& v) {
    v("loras", loras, "one LoRA to compare with the base, or two to compare with each other");
    v("out", sample.out,
      "folder of the images and votes.jsonl; voting continues in an existing one");
    v("prompts", sample.prompts, "prompts: [red heart, ghost]");
    v("prompts_file", sample.prompts_file,
      "file of prompts: one per line, or the column 'prompt' of a CSV, TSV or JSON file");
    v("images", sample.images, "pairs per prompt", range(1, 1000));
    v("seed", sample.seed,
      "random seed of each prompt's first pair; further pairs use the next seeds", range(0, 1e15));
    v("port", port, "port of the page; 0: any free port", range(0, 65535));
    v("batch", sample.batch, "batch size for sampling; 0: as in vggflow sample", range(0, 100000));
    v("threads", sample.threads, "CPU threads; 0: all", range(0, 1024));
    sample.device.fields(v);
    v.section("generator", sample.generator);
  }
};

/// Draws the pairs (a/ and b/ of the folder) unless they are there, prints the page's address,
/// serves it until Ctrl-C or SIGTERM, and prints the win rate.
void vote(VoteConfig& config);

}  // namespace vggflow

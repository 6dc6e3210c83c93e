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
    v("loras", loras, "one LoRA, voted on against the base, or two");
    v("out", sample.out,
      "folder of the images and of votes.jsonl; votes go on in one that is there");
    v("prompts", sample.prompts, "captions, [red heart, ghost]");
    v("prompts_file", sample.prompts_file,
      "file of prompts: one per line, or a column 'prompt' of CSV, TSV or JSON");
    v("images", sample.images, "pairs per prompt", range(1, 1000));
    v("seed", sample.seed, "seed of a prompt's first pair; the others count on from it",
      range(0, 1e15));
    v("port", port, "port of the page; 0: any that is free", range(0, 65535));
    v("batch", sample.batch, "images sampled at once; 0: as sample does", range(0, 100000));
    v("threads", sample.threads, "CPU threads; 0 takes all", range(0, 1024));
    sample.device.fields(v);
    v.section("generator", sample.generator);
  }
};

/// Draws the pairs (a/ and b/ of the folder) unless they are there, prints the page's address,
/// serves it until Ctrl-C or SIGTERM, and prints the win rate.
void vote(VoteConfig& config);

}  // namespace vggflow

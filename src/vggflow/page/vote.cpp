#include "vggflow/page/vote.h"

#include <fmt/format.h>

#include <filesystem>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/io/files.h"
#include "vggflow/page/vote_page.h"
#include "vggflow/page/web_server.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

bool draws_images(const std::string& key) {
  return key != "port" && key != "out" && key != "threads" && key != "device";
}

// Whether the folder has all its pairs, drawn by these settings; others are refused.
bool has_pairs(VoteConfig& config) {
  const fs::path file = fs::path(config.sample.out) / "config.yaml";
  if (!fs::exists(file)) return false;
  VoteConfig before;
  load_yaml(fields_of(before), file);
  for (const std::string& key : differences(fields_of(config), fields_of(before)))
    VGGFLOW_CHECK(!draws_images(key),
                  "[vote] {} holds pairs of other settings: {} differs. Choose another folder with "
                  "out=...",
                  config.sample.out, key);
  return true;
}

void draw(const VoteConfig& config, const char* side, const std::string& lora) {
  SampleConfig sample = config.sample;
  sample.out = (fs::path(config.sample.out) / side).string();
  sample.generator.lora = lora;
  sample_images(sample);
}

}  // namespace

void vote(VoteConfig& config) {
  const std::vector<std::string>& loras = config.loras;
  VGGFLOW_CHECK(loras.size() == 1 || loras.size() == 2,
                "[vote] expected one LoRA, voted on against the base, or two, got {}",
                loras.size());
  VGGFLOW_CHECK(config.sample.generator.lora.empty(),
                "[vote] expected no generator.lora: name the LoRAs themselves");
  const std::string a = loras.size() == 2 ? loras.front() : "", b = loras.back();
  const fs::path out = config.sample.out;
  if (!has_pairs(config)) {
    draw(config, "a", a);
    draw(config, "b", b);
    write_text(out / "config.yaml", to_yaml(fields_of(config)));  // last: then all are there
  }
  VotePage page(out, {a.empty() ? "the base" : a, b});
  const WebServer server(
      {.port = config.port, .token = true},
      [&](const WebRequest& request) { return page.get(request); },
      [&](const WebRequest& request) { return page.post(request); });
  print_result(server.url());
  log_line("arrow keys vote; Ctrl-C ends, and the same command goes on");
  serve_until_interrupted();
  const WinRate r = page.result();
  print_result(fmt::format(
      "{} won {:.1f} % of {} votes (95 %: {:.1f} to {:.1f}), {} ties, against {}", b, 100 * r.rate,
      r.votes, 100 * r.low, 100 * r.high, r.ties, a.empty() ? "the base" : a));
}

}  // namespace vggflow

#include "vggflow/report/report.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "vggflow/io/files.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

Json metrics(double reward, double judge, double diversity) {
  return {{"reward", {{"mean", reward}, {"se", 0.2}}},
          {"reward_change", {{"mean", reward - 10}, {"se", 0.1}}},
          {"reward_sd_within_prompt", 2.0},
          {"judge_change", {{"mean", judge - 0.9}, {"se", 0.015}}},
          {"judge_accuracy", {{"mean", judge}, {"se", 0.02}}},
          {"judge_score", {{"mean", judge}, {"se", 0.02}}},
          {"diversity", {{"mean", diversity}, {"se", 0.01}}},
          {"diversity_change", {{"mean", diversity - 0.4}, {"se", 0.004}}},
          {"fd", 12.5},
          {"fd_floor", 3.25},
          {"kid", 0.04},
          {"kid_se", 0.01},
          {"kid_floor", -0.01},
          {"saturated", 0.25}};
}

Json eval_line(int64_t update, double reward) {
  return {{"kind", "eval"},          {"update", update},
          {"prompts", 20},           {"prompt_kind", "held-out"},
          {"images_per_prompt", 16}, {"metrics", metrics(reward, 0.9, 0.4)}};
}

Json update_line(int64_t update) {
  return {{"kind", "update"},
          {"update", update},
          {"loss", {{"matching", 0.1}, {"consistency", 0.2}, {"boundary", 0.0}}},
          {"reward", {{"mean", 0.3}, {"sd", 0.1}}},
          {"grad_norm", {{"policy", 0.8}, {"value", 0.1}}},
          {"dropped", 0}};
}

// Whether the page holds the text; a matcher would print the page.
bool holds(const std::string& html, const std::string& piece) {
  return html.find(piece) != std::string::npos;
}

class Report : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(run_); }

  void write_lines(const std::vector<Json>& lines) const {
    JsonLines out(run_ / "metrics.jsonl");
    for (const Json& line : lines) out.write(line);
  }
  void write_grid(const std::string& name, uint8_t shade) const {
    fs::create_directories(run_ / "grids");
    write_png(run_ / "grids" / name, {2, 2, std::vector<uint8_t>(12, shade)});
  }
  // A finished run of two updates with an evaluation after each.
  void write_whole_run() const {
    write_lines(
        {eval_line(0, 10), update_line(1), eval_line(1, 12), update_line(2), eval_line(2, 13)});
    for (int i = 0; i < 3; ++i)
      write_grid(fmt::format("eval_{:06}.png", i), static_cast<uint8_t>(60 * i));
    write_text(run_ / "config.yaml", "reward: colorfulness\nprompts: <all>\n");
    write_summary(run_, 0, 13);
  }
  static void write_summary(const fs::path& run, int64_t seed, double reward) {
    fs::create_directories(run);
    const Json summary{{"method", "vgg-flow"},
                       {"reward", "colorfulness"},
                       {"seed", seed},
                       {"base", metrics(10, 0.9, 0.4)},
                       {"final", metrics(reward, 0.9, 0.4)},
                       {"reward_gain_sd", (reward - 10) / 2},
                       {"diversity_kept", 1.0},
                       {"seconds", {{"rollout", 1.5}, {"value", 6.0}}},
                       {"peak_gib", 0.8},
                       {"date", "2026-11-26 23:59 UTC"},
                       {"environment", {{"processor", "a CPU"}, {"threads", 2}}},
                       {"next", {{{"what", "Draw"}, {"command", "vggflow sample 'a <b>'"}}}},
                       {"cost_formula", "B N 2F + 5 B (3F + 1B)"},
                       {"passes", {{"forward", 880}, {"tangent", 0}, {"backward", 80}}},
                       {"best", {{"update", 1}, {"metrics", metrics(12, 0.9, 0.4)}}}};
    write_text(run / "summary.json", summary.dump());
  }
  std::string page() const {
    write_report(run_);
    return read_text(run_ / "report.html");
  }
  static std::string embedded(const fs::path& png) {
    const std::string bytes = read_text(png);
    return "data:image/png;base64," + base64({bytes.begin(), bytes.end()});
  }
  const testing::TemporaryFolder scratch_;
  const fs::path run_ = scratch_.path();
};

TEST_F(Report, OfAWholeRunHoldsEveryPart) {
  write_whole_run();
  const std::string html = page();
  for (const char* piece : {"vgg-flow on colorfulness",
                            "<b>+3.00 ± 0.10</b><i>10.00 → 13.00, paired by prompt; +1.50 ± 0.05 "
                            "sd of the base within a prompt</i>",
                            "<b>+0.0 ± 1.5</b><i>90.0 → 90.0 %, points, paired by prompt</i>",
                            "<b>100 ± 1 %</b><i>0.400 → 0.400, paired by prompt</i>",
                            "base against base: 3.25",
                            "Before and after",
                            "In between",
                            "Reward, held-out prompts",
                            "paired change of reward",
                            "Judge accuracy",
                            "paired change of accuracy, %",
                            "paired change of feature variance",
                            "Use it",
                            "vggflow sample &#39;a &lt;b&gt;&#39;",
                            "<td>finished</td><td>2026-11-26 23:59 UTC</td>",
                            "<td>threads</td><td>2</td>",
                            "Reward against diversity",
                            "Losses",
                            "Gradient norms",
                            "Time by phase",
                            "0.0400 ± 0.0100 (-0.0100)",
                            "20 held-out prompts, 16 images each",
                            "prompts: &lt;all&gt;",
                            "a CPU",
                            "<div class='box ok'>",
                            "B N 2F + 5 B (3F + 1B) = 880 forward, 0 tangent, 80 backward",
                            "Update 1, reward 12.000: the highest"}) {
    EXPECT_TRUE(holds(html, piece)) << piece;
  }
  EXPECT_FALSE(holds(html, "class='box warn'"));
}

TEST_F(Report, EmbedsItsImagesAndNamesNothingOutsideItself) {
  write_whole_run();
  const std::string html = page();
  const auto first = html.find(embedded(run_ / "grids/eval_000000.png")),
             between = html.find(embedded(run_ / "grids/eval_000001.png")),
             last = html.find(embedded(run_ / "grids/eval_000002.png")),
             details = html.find("<details>");
  ASSERT_NE(between, std::string::npos);
  EXPECT_LT(first, last);
  EXPECT_LT(last, details)
      << "the first and the last grid stand side by side, the others are folded away";
  EXPECT_LT(details, between);
  EXPECT_FALSE(std::regex_search(html, std::regex("https?:|@import|<script|<link")));
  EXPECT_FALSE(std::regex_search(html, std::regex("(src|href)=['\"](?!data:)")));
}

TEST_F(Report, SaysWhereEveryEvaluationWasSpokenAgainst) {
  write_lines({eval_line(0, 10), eval_line(1, 12)});
  write_text(run_ / "summary.json", "{}");
  EXPECT_TRUE(
      holds(page(), "the judge, the panel or the diversity floor spoke against every evaluation"));
}

TEST_F(Report, PassesOnWarningsAndCountsDroppedTransitions) {
  Json dropped = update_line(1);
  dropped["dropped"] = 3;
  write_lines({eval_line(0, 10),
               dropped,
               eval_line(1, 12),
               {{"kind", "warning"},
                {"update", 1},
                {"name", "reward_hacking"},
                {"text", "the judge <fell>"}}});
  const std::string html = page();
  EXPECT_TRUE(holds(html, "Update 1: the judge &lt;fell&gt;"));
  EXPECT_TRUE(holds(html, "3 transitions were left out"));
  EXPECT_FALSE(holds(html, "class='box ok'"));
}

TEST_F(Report, OfAHalfWrittenRunSaysWhatIsMissing) {
  write_lines({eval_line(0, 10), update_line(1)});
  write_text(run_ / "metrics.jsonl", read_text(run_ / "metrics.jsonl") + R"({"kind":"eval","upd)");
  const std::string html = page();
  for (const char* missing :
       {"summary.json (the run is not finished)", "config.yaml", "grids/eval_*.png",
        "an evaluation after the base model&#39;s: there is nothing to compare yet"}) {
    EXPECT_TRUE(holds(html, std::string("Missing: ") + missing)) << missing;
  }
  EXPECT_TRUE(holds(html, "<b>10.00</b><i>± 0.20</i>")) << "a base alone is no change";
  EXPECT_FALSE(holds(html, "nan"));
}

TEST_F(Report, NamesUpdatesThatNoEvaluationFollowed) {
  write_lines({eval_line(0, 10), eval_line(1, 12), update_line(2)});
  EXPECT_TRUE(holds(page(), "Missing: an evaluation after update 2: the last one is of update 1"));
}

TEST_F(Report, StandsDamagedPartsAndForeignFiles) {
  write_lines({eval_line(0, 10),
               {{"kind", "eval"}, {"update", nullptr}, {"metrics", nullptr}},
               {{"kind", "eval"}},
               {{"kind", 3}},
               {{"kind", "warning"}},
               {{"kind", "update"}, {"update", "one"}, {"dropped", nullptr}, {"loss", 3}}});
  write_text(run_ / "summary.json", "{\"method\": \"vgg-fl");
  write_grid("eval_last.png", 1);
  const std::string html = page();
  EXPECT_TRUE(holds(html, "summary.json (it is damaged)"));
  EXPECT_TRUE(holds(html, "grids/eval_*.png"));
}

TEST_F(Report, OfOnePromptShowsNoErrorsAndCallsNothingAFall) {
  std::vector<Json> lines{eval_line(0, 10), eval_line(1, 12)};
  for (Json& line : lines) {
    line["prompts"] = 1;
    line["prompt_kind"] = "training";
    for (Json& value : line["metrics"]) {
      if (value.is_object() && value.contains("se")) value["se"] = nullptr;
    }
    line["metrics"]["kid_se"] = nullptr;
  }
  write_lines(lines);
  write_summary(run_, 0, 12);
  write_grid("eval_000000.png", 1);
  write_text(run_ / "config.yaml", "");
  const std::string html = page();
  for (const char* piece :
       {"1 training prompts, 16 images each; means over one prompt have no error",
        "Reward, training prompts", "<b>+2.00</b><i>10.00 → 12.00, paired by prompt; +1.00 sd of",
        "<b>+0.0</b>", "<td>12.000</td><td>+2.000</td>",
        "with fewer than 5 prompts no fall of the judge or the panel is told from chance"}) {
    EXPECT_TRUE(holds(html, piece)) << piece;
  }
  for (const char* piece : {"± –", "± 0", ">nan", "± nan", "held-out"})
    EXPECT_FALSE(holds(html, piece)) << piece;
  EXPECT_THAT(comparison_markdown({run_}), HasSubstr("| aligned reward | 12 | 12 |"));
}

TEST_F(Report, OfAnEarlierProgramShowsLevelsWhereThereAreNoPairedChanges) {
  std::vector<Json> lines{eval_line(0, 10), eval_line(1, 12)};
  for (Json& line : lines) {
    line["metrics"].erase("reward_change");
    line["metrics"].erase("diversity_change");
  }
  write_lines(lines);
  const std::string html = page();
  for (const char* piece :
       {"<b>10.00 → 12.00</b><i>± 0.20; +1.00 sd of the base within a prompt</i>", ">reward<",
        "0.400 → 0.400 ± 0.010"})
    EXPECT_TRUE(holds(html, piece)) << piece;
}

// Captions are cut out of the grid's own text, and a click enlarges without a script.
TEST_F(Report, ShowsImagesOfGridsWithTheirPrompts) {
  write_lines({eval_line(0, 10), eval_line(1, 12)});
  fs::create_directories(run_ / "grids");
  for (int i = 0; i < 2; ++i)
    vggflow::write_grid(run_ / fmt::format("grids/eval_{:06}.png", i),
                        grid_of(at::full({2, 3, 4, 4}, 0.25 + 0.5 * i)), {"a <cat>", "a dog"});
  const std::string html = page();
  for (const char* piece :
       {"<figcaption>a &lt;cat&gt;</figcaption>", "<figcaption>a dog</figcaption>",
        "<span>base</span>", "<span>after 1 updates</span>",
        "<input type='checkbox' aria-label='enlarge'>"})
    EXPECT_TRUE(holds(html, piece)) << piece;
  EXPECT_FALSE(holds(html, "<script"));
}

TEST_F(Report, RefusesAFolderThatIsNoRun) {
  EXPECT_THAT(message_of([&] { write_report(run_ / "absent"); }),
              HasSubstr("absent holds no metrics.jsonl: expected a run folder of vggflow align"));
  EXPECT_FALSE(fs::exists(run_ / "absent"));
}

TEST_F(Report, ComparesSeedsWithMeanAndStandardError) {
  write_summary(run_ / "a", 0, 12);
  write_summary(run_ / "b", 1, 14);
  const std::string table = comparison_markdown({run_ / "a", run_ / "b"});
  EXPECT_THAT(table, HasSubstr("| | seed 0 | seed 1 | mean ± s.e. |"));
  EXPECT_THAT(table, HasSubstr("| aligned reward | 12 | 14 | 13 ± 1 |"));
  EXPECT_THAT(table,
              HasSubstr("| reward gain (sd of the base within a prompt) | 1 | 2 | 1.5 ± 0.5 |"));
}

TEST_F(Report, ComparesOnlyFinishedRunsOfOneReward) {
  write_summary(run_ / "a", 0, 12);
  fs::create_directories(run_ / "open");
  EXPECT_THAT(message_of([&] { comparison_markdown({run_ / "a", run_ / "open"}); }),
              HasSubstr("open holds no summary.json: the run is not finished"));
  write_text(run_ / "open/summary.json", "{");
  EXPECT_THAT(message_of([&] { comparison_markdown({run_ / "open"}); }),
              HasSubstr("summary.json is damaged"));
  write_text(run_ / "open/summary.json", R"({"reward":"emoji-clip"})");
  EXPECT_THAT(message_of([&] { comparison_markdown({run_ / "a", run_ / "open"}); }),
              HasSubstr("expected runs of one reward, got colorfulness"));
}

// Every text and key that nothing here looks for becomes one that a browser would run.
Json hostile(const Json& value) {
  const std::string script = "\"'><script>alert(1)</script>";
  if (value.is_string()) return value.get<std::string>() + script;
  if (!value.is_structured()) return value;
  Json out = value;
  for (auto& [key, member] : out.items()) {
    if (key != "kind") member = hostile(member);
  }
  if (out.is_object()) out[script] = script;
  return out;
}

TEST_F(Report, TextsOfARunFolderRunNoScript) {
  Json base = eval_line(0, 10), later = eval_line(1, 12), update = update_line(1);
  for (Json* line : {&base, &later})
    (*line)["metrics"].update({{"features", "dino"}, {"panel", {{"clip", {{"mean", 1.0}}}}}});
  update["loss"]["<script>"] = 0.5;
  const Json warning{{"kind", "warning"}, {"update", 1}, {"name", "a"}, {"text", "b"}};
  write_lines({hostile(base), hostile(update), hostile(later), hostile(warning)});
  write_summary(run_, 0, 13);
  const Json summary = hostile(Json::parse(read_text(run_ / "summary.json")));
  write_text(run_ / "summary.json", summary.dump());
  write_text(run_ / "config.yaml", "reward: <script>\n");
  const std::string html = page();
  EXPECT_FALSE(holds(html, "<script")) << html.substr(html.find("<script") - 200, 300);
  EXPECT_TRUE(holds(html, "held-out&quot;&#39;&gt;&lt;script&gt;alert(1)"));
}

}  // namespace
}  // namespace vggflow

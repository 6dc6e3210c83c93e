#include "vggflow/train/run_log.h"

#include <ATen/ATen.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "vggflow/core/config.h"
#include "vggflow/core/duration.h"
#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/io/files.h"
#include "vggflow/io/grid_file.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// Changes of the reward in deviations of the base's rewards within a prompt.
double in_sd(double change, const Evaluation& base) {
  return change / std::max(1e-12, base.reward_sd_within_prompt);
}

fs::path with_folders(const fs::path& run) {
  for (const char* folder : {"grids", "tensorboard"}) make_writable_folder(run / folder);
  return run;
}

RunRecord kept_lines(const fs::path& file, int64_t updates_done, int64_t evaluated) {
  truncate_after(file, updates_done, evaluated);
  RunRecord record;
  int64_t updates = 0;
  for (const Json& line : fs::exists(file) ? read_json_lines(file) : std::vector<Json>{}) {
    record.add(line);
    updates += line.value("kind", "") == "update";
  }
  if (updates < updates_done)
    log_info(
        "warning: {} holds {} of the {} updates that the checkpoint has: it was changed since, and "
        "curves and sums of the report lack the others",
        file.string(), updates, updates_done);
  return record;
}

// Null on the CPU.
Json device_peak_gib() {
  const auto memory = device_memory();
  return memory ? Json(memory->peak_gib) : Json();
}

// The rollouts' reward is compared with nothing: their prompts change from update to update, and
// the base is not drawn on them. Evaluations compare, on prompts and noise that stay.
void log_update(int64_t done, int64_t updates, const UpdateReport& r, double mean, double rate) {
  std::string losses;
  for (const auto& [name, value] : r.method.loss)
    losses += fmt::format(" | {} {:.2e}", name, value);
  const int64_t dropped = r.method.dropped;
  if (!r.method.trains_policy) losses += " | the policy waits for the value network";
  log_info(
      "step {}/{} | reward {:.3f}{} | grad {:.3f} | lr {:.1e} | {} | {:.1f} img/s | {:.1f} GiB{}",
      done, updates, mean, losses, r.policy_norm, r.lr, duration_text(r.seconds), rate,
      memory_now_gib(),
      dropped > 0 || !r.stepped
          ? fmt::format(" | dropped {}{}", dropped,
                        r.stepped ? "" : ", step skipped: gradient not finite")
          : "");
}

}  // namespace

Json json_of(const PassCounter& policy, const PassCounter& value) {
  return {{"forward", policy.forward},      {"tangent", policy.tangent},
          {"backward", policy.backward},    {"value_forward", value.forward},
          {"value_tangent", value.tangent}, {"value_backward", value.backward}};
}

void RunRecord::add(const Json& line) {
  const std::string kind = line.value("kind", "");
  if (kind == "eval") {
    evaluation = line;
    evaluation_seconds += line.value("seconds", 0.0);
  }
  if (kind != "update") return;
  update = line;
  const Json phases = line.value("seconds", Json::object());
  for (const auto& [phase, duration] : phases.items())
    seconds[phase] += duration.is_number() ? duration.get<double>() : 0.0;
}

RunLog::RunLog(const AlignConfig& config, int64_t updates_done, int64_t evaluated)
    : config_(config),
      run_(with_folders(config.run)),
      record_(kept_lines(run_ / "metrics.jsonl", updates_done, evaluated)),
      metrics_(run_ / "metrics.jsonl"),
      events_(run_ / "tensorboard") {
  AlignConfig settings = config;
  events_.text("settings", "```\n" + to_yaml(fields_of(settings)) + "```",
               std::max<int64_t>(0, updates_done));
}

void RunLog::write(const Json& line) {
  metrics_.write(line);
  record_.add(line);
}

void RunLog::update(int64_t done, const UpdateReport& r) {
  const MethodReport& m = r.method;
  const double mean = m.rewards.mean().item<double>(),
               sd = config_.batch > 1 ? m.rewards.std().item<double>() : 0.0,
               rate = static_cast<double>(config_.batch) / r.seconds;
  write({{"kind", "update"},
         {"update", done},
         {"loss", m.loss},
         {"reward", {{"mean", mean}, {"sd", sd}}},
         {"values", m.values},
         {"unique",
          {{"pairs", r.audit.unique_pairs},
           {"prompts", r.audit.unique_prompts},
           {"noise", r.audit.unique_noise}}},
         {"series", m.series},
         {"grad_norm", {{"policy", r.policy_norm}, {"value", r.value_norm}}},
         {"lr", r.lr},
         {"beta_scale", r.beta_scale},
         {"dropped", m.dropped},
         {"stepped", r.stepped},
         {"passes", json_of(r.policy, r.value)},
         {"seconds", m.seconds},
         {"images_per_second", rate},
         {"rss_gib", memory_now_gib()},
         {"device_peak_gib", device_peak_gib()}});
  for (const auto& [name, value] : m.loss) events_.scalar("loss/" + name, value, done);
  for (const auto& [name, value] : m.values) events_.scalar("values/" + name, value, done);
  for (const auto& [phase, seconds] : m.seconds) events_.scalar("time/" + phase, seconds, done);
  for (const auto& [name, value] : {std::pair{"reward/rollout", mean},
                                    {"grad/policy", r.policy_norm},
                                    {"grad/value", r.value_norm},
                                    {"optimizer/lr", r.lr},
                                    {"time/update", r.seconds},
                                    {"memory/process_gib", memory_now_gib()}}) {
    events_.scalar(name, value, done);
  }
  if (const auto memory = device_memory())
    events_.scalar("memory/device_peak_gib", memory->peak_gib, done);
  log_update(done, config_.updates, r, mean, rate);
}

void RunLog::evaluation(int64_t done, const Evaluation& now, const Evaluation& base,
                        const std::string& prompt_kind, double seconds) {
  write({{"kind", "eval"},
         {"update", done},
         {"prompts", config_.eval.prompts},
         {"prompt_kind", prompt_kind},
         {"images_per_prompt", config_.eval.images},
         {"metrics", now.to_json()},
         {"seconds", seconds}});
  show_evaluation(done, now, seconds);
  const std::string judge =
      now.judged ? fmt::format("judge {:.1f} % ({:+.1f}{}) | ", 100 * now.judge_accuracy.mean,
                               100 * now.judge_change.mean, error_text(now.judge_change.se, 1, 100))
                 : "";
  log_info(
      "eval {} | reward {:.3f} ({:+.3f}{} paired, {:+.2f} sd) | {}diversity {:.3f} ({:.0f} %) | FD "
      "{:.2f} (floor {:.2f}) | KID {:.4f} | {}",
      done, now.reward.mean, now.reward_change.mean, error_text(now.reward_change.se, 3),
      in_sd(now.reward_change.mean, base), judge, now.diversity.mean, 100 * now.diversity_kept(),
      now.fd, now.fd_floor, now.kid.mean, duration_text(seconds));
}

void RunLog::show_evaluation(int64_t done, const Evaluation& now, double seconds) {
  std::map<std::string, double> shown{{"eval/reward", now.reward.mean},
                                      {"eval/reward_change", now.reward_change.mean},
                                      {"eval/diversity", now.diversity.mean},
                                      {"eval/diversity_change", now.diversity_change.mean},
                                      {"eval/diversity_kept", now.diversity_kept()},
                                      {"eval/fd", now.fd},
                                      {"eval/kid", now.kid.mean},
                                      {"time/evaluation", seconds}};
  if (now.judged) {
    shown["eval/judge_accuracy"] = now.judge_accuracy.mean;
    shown["eval/judge_change"] = now.judge_change.mean;
  }
  for (const auto& [name, opinion] : now.panel) {
    shown["panel/" + name] = opinion.score.mean;
    shown["panel/" + name + "_change"] = opinion.change.mean;
  }
  for (const auto& [tag, value] : shown) events_.scalar(tag, value, done);
}

void RunLog::warning(int64_t done, const std::string& name, const std::string& text) {
  write({{"kind", "warning"}, {"update", done}, {"name", name}, {"text", text}});
  events_.text("warnings", text, done);
  log_info("warning: {}", text);
}

void RunLog::grid(int64_t done, const ImageGrid& image, const std::vector<std::string>& prompts) {
  write_grid(run_ / "grids" / fmt::format("eval_{:06}.png", done), image, prompts,
             {{"guidance", fmt::to_string(config_.problem.guidance)}});
  events_.image("grid", image.image, done);
}

}  // namespace vggflow

// Plans for people and for programs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "vggflow/core/duration.h"
#include "vggflow/plan/plan.h"

namespace vggflow {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::string quantity(double x) {
  return x >= 1e9   ? fmt::format("{:.2f} B", x / 1e9)
         : x >= 1e6 ? fmt::format("{:.2f} M", x / 1e6)
                    : fmt::format("{:.0f}", x);
}
std::string bytes(double x) {
  return x >= 0.1 * kGiB ? fmt::format("{:.2f} GiB", x / kGiB)
                         : fmt::format("{:.1f} MiB", x * 1024 / kGiB);
}
std::string flops(double x) {
  return x >= 1e15   ? fmt::format("{:.2f} PFLOP", x / 1e15)
         : x >= 1e12 ? fmt::format("{:.2f} TFLOP", x / 1e12)
                     : fmt::format("{:.2f} GFLOP", x / 1e9);
}

std::string list(const std::vector<Amount>& amounts, std::string (*show)(double)) {
  std::string out;
  for (const Amount& a : amounts) out += fmt::format("  {:<40} {:>12}\n", a.name, show(a.value));
  return out;
}

double value_of(const std::vector<Amount>& amounts, const std::string& name) {
  for (const Amount& a : amounts) {
    if (a.name == name) return a.value;
  }
  return 0;
}

// Two columns, CPU and GPU: what is in either.
std::string both(const std::vector<Amount>& cpu, const std::vector<Amount>& gpu) {
  std::vector<Amount> names = cpu;
  for (const Amount& a : gpu) {
    if (value_of(cpu, a.name) == 0) names.push_back(a);
  }
  std::string out;
  for (const auto& [name, value] : names)
    out += fmt::format("  {:<40} {:>12} {:>12}\n", name, bytes(value_of(cpu, name)),
                       bytes(value_of(gpu, name)));
  return out;
}

template <class Holds>
std::string names_where(const std::vector<Device>& devices, const Holds& holds) {
  std::string out;
  for (const Device& d : devices) {
    if (holds(d)) out += (out.empty() ? "" : ", ") + d.name;
  }
  return out.empty() ? "none of these" : out;
}

// Names of the devices that the program can run it on.
std::string holders(const Plan& plan, const std::vector<Device>& devices) {
  return names_where(devices, [&](const Device& d) { return plan.fits(d); });
}

// Names of those whose memory is enough, whether this program can compute there or not.
std::string large_enough(const Plan& plan, const std::vector<Device>& devices) {
  return names_where(devices, [&](const Device& d) { return plan.memory_fits(d); });
}

std::string verdict(const Plan& plan, const Device& device) {
  if (plan.fits(device)) return "yes";
  return plan.memory_fits(device) ? "no: " + device.lacks : "no: too little memory";
}

// Bytes, parameters and operations are whole numbers.
int64_t whole(double value) { return std::llround(value); }

Json json_of(const std::vector<Amount>& amounts) {
  Json out = Json::object();
  for (const Amount& a : amounts) out[a.name] = whole(a.value);
  return out;
}

Json times_of(const Plan& plan, const std::vector<Device>& devices) {
  Json out = Json::object();
  for (const Device& d : devices)
    out[d.name] = {{"seconds_per_update", plan.seconds(d)},
                   {"fits", plan.fits(d)},
                   {"memory_fits", plan.memory_fits(d)},
                   {"lacks", d.lacks}};
  return out;
}

}  // namespace

std::string plan_text(const AlignConfig& config, const ModelShape& shape, const Plan& plan,
                      const std::vector<Switch>& all, const std::vector<Device>& devices) {
  std::string out = fmt::format(
      "{} on {} | {}x{} pixels | batch {}, {} transitions a pass | reward {}\n\nparameters\n{}\n",
      config.method, shape.description, shape.state[1] * shape.upscale,
      shape.state[2] * shape.upscale, config.batch, config.micro_batch, config.reward,
      list(plan.parameters, quantity));
  if (plan.ranks > 1)
    out += fmt::format("{} processes: memory is of each, the work is shared\n", plan.ranks);
  const MemoryPlan& gpu = plan.gpu;
  out += fmt::format("memory at the fullest moment: {} on a CPU ({}), {} on a GPU ({})\n",
                     bytes(plan.peak), plan.fullest, bytes(gpu.peak), gpu.fullest);
  out += fmt::format("  {:<40} {:>12} {:>12}\n{}\nthe peak of each phase\n{}\n", "", "CPU", "GPU",
                     both(plan.memory, gpu.memory), both(plan.moments, gpu.moments));
  out += fmt::format("work of an update: {} | {}\n{}\n", flops(plan.half_flops + plan.full_flops),
                     plan.cost_formula, list(plan.work, flops));
  out += "device              holds     an update    " +
         fmt::format("{} updates    fits\n", config.updates);
  for (const Device& d : devices) {
    out += fmt::format("{:<14} {:>10} {:>13} {:>14}    {}\n", d.name, bytes(d.memory),
                       duration_text(plan.seconds(d)),
                       duration_text(plan.seconds(d) * static_cast<double>(config.updates)),
                       verdict(plan, d));
  }
  const Device& clock = devices.front();
  out += fmt::format("\n{:<34} {:>10} {:>10} {:>12}  fits on\n{:<34} {:>10} {:>10} {:>12}  {}\n",
                     "switch", "peak, CPU", "GPU", clock.name, "as configured", bytes(plan.peak),
                     bytes(gpu.peak), duration_text(plan.seconds(clock)), holders(plan, devices));
  for (const Switch& s : all) {
    out += fmt::format(
        "{:<34} {:>10} {:>10} {:>12}  {}{}\n",
        s.setting.size() > 34 ? "all of the harmless ones" : s.setting, bytes(s.plan.peak),
        bytes(s.plan.gpu.peak), duration_text(s.plan.seconds(clock)), holders(s.plan, devices),
        s.setting.size() > 34 ? fmt::format("\n    {}", s.setting) : fmt::format(" ({})", s.what));
  }
  for (const std::string& note : plan.notes) out += fmt::format("note: {}\n", note);
  return out;
}

std::string arms_text(const std::vector<ArmPlan>& arms, const std::vector<Device>& devices) {
  const Device& clock = devices.front();
  size_t name = 3, held = 16;
  int64_t runs = 0;
  for (const ArmPlan& arm : arms) {
    runs += arm.runs;
    name = std::max(name, arm.name.size());
    held = std::max(held, large_enough(arm.plan, devices).size());
  }
  std::string out = fmt::format("{:<{}} {:>5} {:>10} {:>10} {:>11} {:>12}  {:<{}}  {}\n", "arm",
                                name, "runs", "peak, CPU", "GPU", "an update", "a run",
                                "memory enough on", held, "passes of an update");
  for (const ArmPlan& arm : arms)
    out += fmt::format("{:<{}} {:>5} {:>10} {:>10} {:>11} {:>12}  {:<{}}  {}\n", arm.name, name,
                       arm.runs, bytes(arm.plan.peak), bytes(arm.plan.gpu.peak),
                       duration_text(arm.plan.seconds(clock)), duration_text(arm.seconds(clock)),
                       large_enough(arm.plan, devices), held, arm.plan.cost_formula);
  out += fmt::format(
      "An update and a run (with its evaluations, but for the base's) on one {}.\n\n"
      "{} runs, one after the other, and the base's evaluation once per arm\n",
      clock.name, runs);
  for (const Device& d : devices) {
    double seconds = 0;
    int64_t too_large = 0;
    for (const ArmPlan& arm : arms) {
      seconds += arm.all_seconds(d);
      too_large += arm.plan.memory_fits(d) ? 0 : 1;
    }
    out += fmt::format("  {:<14} {:>12}{}{}\n", d.name, duration_text(seconds),
                       too_large > 0 ? fmt::format("   too little memory for {} of {} arms",
                                                   too_large, arms.size())
                                     : "",
                       d.lacks.empty() ? "" : "   " + d.lacks);
  }
  std::set<std::string> notes;
  for (const ArmPlan& arm : arms) {
    for (const std::string& note : arm.plan.notes) {
      if (notes.insert(note).second) out += fmt::format("note: {}\n", note);
    }
  }
  return out;
}

Json plan_json(const Plan& plan, const std::vector<Switch>& all,
               const std::vector<Device>& devices) {
  const Passes& p = plan.passes;
  Json out{{"ranks", whole(plan.ranks)},
           {"parameters", json_of(plan.parameters)},
           {"peak_bytes", whole(plan.peak)},
           {"fullest_moment", plan.fullest},
           {"memory_bytes", json_of(plan.memory)},
           {"moments_bytes", json_of(plan.moments)},
           {"gpu",
            {{"peak_bytes", whole(plan.gpu.peak)},
             {"fullest_moment", plan.gpu.fullest},
             {"memory_bytes", json_of(plan.gpu.memory)},
             {"moments_bytes", json_of(plan.gpu.moments)}}},
           {"flops", json_of(plan.work)},
           {"cost_formula", plan.cost_formula},
           {"passes",
            {{"forward", p.f},
             {"tangent", p.j},
             {"backward", p.b},
             {"value_forward", p.value_f},
             {"value_tangent", p.value_j},
             {"value_backward", p.value_b}}},
           {"devices", times_of(plan, devices)},
           {"notes", plan.notes}};
  out["switches"] = Json::array();
  for (const Switch& s : all) {
    out["switches"].push_back({{"setting", s.setting},
                               {"what", s.what},
                               {"peak_bytes", whole(s.plan.peak)},
                               {"gpu_peak_bytes", whole(s.plan.gpu.peak)},
                               {"devices", times_of(s.plan, devices)}});
  }
  return out;
}

}  // namespace vggflow

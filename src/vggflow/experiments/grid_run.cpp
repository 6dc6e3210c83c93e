#include "vggflow/experiments/grid_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "vggflow/core/descriptors.h"
#include "vggflow/core/duration.h"
#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/shell_word.h"
#include "vggflow/io/files.h"
#include "vggflow/io/folder_lock.h"
#include "vggflow/report/page.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// Runs a command as the leader of its own process group, so that a terminal's Ctrl-C reaches it
// through us alone (a second SIGINT would end it before it has saved); it is told when we die.
// Output is appended to `console`. It holds `claim` as we do: a run that outlives us stays taken.
pid_t start_process(const std::vector<std::string>& command, const fs::path& console,
                    const FolderLock& claim) {
  const int out = open_to_append(console);
  VGGFLOW_CHECK(out >= 0, "[compare] cannot write {}: {}", console.string(), std::strerror(errno));
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // An interrupt that comes before exec waits, and then ends the child: our handler would swallow
  // it.
  sigset_t interrupts, before;
  sigemptyset(&interrupts);
  sigaddset(&interrupts, SIGINT);
  ::sigprocmask(SIG_BLOCK, &interrupts, &before);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) {
    std::signal(SIGINT, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGINT);
    if (::getppid() != parent) ::_exit(130);
    ::fcntl(claim.descriptor(), F_SETFD, 0);
    const int in = ::open("/dev/null", O_RDONLY);
    for (const auto& [from, to] : {std::pair{in, 0}, {out, 1}, {out, 2}}) ::dup2(from, to);
    ::execv(argv[0], argv.data());
    constexpr char kMessage[] = "vggflow: the program could not be started\n";
    (void)!::write(2, kMessage, sizeof(kMessage) - 1);
    ::_exit(127);
  }
  const int error = errno;
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::close(out);
  VGGFLOW_CHECK(child > 0, "[compare] cannot start a process: {}", std::strerror(error));
  return child;
}

std::string last_line(const fs::path& file) {
  std::istringstream in(fs::exists(file) ? read_text(file) : "");
  std::string last;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  return last.starts_with("vggflow: ") ? last.substr(9) : last;
}

int64_t last_update(const fs::path& folder) {
  double last = 0;
  for (const Json& line : read_json_lines(folder / "metrics.jsonl")) {
    if (text(line, "kind") == "update") last = std::fmax(last, number(line, "/update"));
  }
  return static_cast<int64_t>(last);
}

// Starts runs, waits for them, writes what became of them.
class GridRunner {
 public:
  GridRunner(const ComparisonConfig& config, const RunCommand& command, GridProgress& progress,
             bool waits)
      : config_(config),
        command_(command),
        progress_(progress),
        waits_(waits),
        records_(config.out / "grid.jsonl"),
        bar_("compare", static_cast<int64_t>(progress.total), static_cast<int64_t>(progress.done)) {
  }
  bool run(const std::vector<PlannedRun>& runs);

 private:
  struct Child {
    const PlannedRun* run;
    pid_t process;
    std::unique_ptr<FolderLock> claim;
    Stopwatch watch;
  };
  void look_for_runs();
  bool take(const PlannedRun& run);
  bool tried_elsewhere(const PlannedRun& run) const;
  void start(const PlannedRun& run, std::unique_ptr<FolderLock> claim);
  void say_that_it_waits();
  void reap();
  void finish(const Child& child, int status, const rusage& usage);
  void pass_on_interrupt();
  void show();
  void record(const PlannedRun& run, const std::string& status, double seconds, double peak_gib,
              double processor_seconds, const std::string& error);

  const ComparisonConfig& config_;
  const RunCommand& command_;
  GridProgress& progress_;
  bool waits_;
  JsonLines records_;
  Progress bar_;
  std::vector<const PlannedRun*> open_;  // that nobody has done, and this process has not begun
  std::vector<Child> children_;
  Stopwatch shown_, looked_;
  bool looks_ = true;  // at once: there is room for a run
  bool told_ = false, waiting_ = false;
};

void GridRunner::record(const PlannedRun& run, const std::string& status, double seconds,
                        double peak_gib, double processor_seconds, const std::string& error) {
  const ComparisonArm& arm = config_.arms[run.arm];
  Json line{{"arm", arm.name},      {"setting", arm.settings[run.setting].name},
            {"seed", run.seed},     {"label", run.label},
            {"status", status},     {"seconds", seconds},
            {"peak_gib", peak_gib}, {"processor_seconds", processor_seconds}};
  if (!error.empty()) line["error"] = error;
  records_.write(line);
}

// Whether another process ended it without its results.
bool GridRunner::tried_elsewhere(const PlannedRun& run) const {
  const std::vector<Json> lines = read_json_lines(config_.out / "grid.jsonl");
  for (size_t i = progress_.records; i < lines.size(); ++i) {
    const std::string status = text(lines[i], "status");
    if (text(lines[i], "label") == run.label && (status == "failed" || status == "refused"))
      return true;
  }
  return false;
}

// False where another process has it.
bool GridRunner::take(const PlannedRun& run) {
  make_writable_folder(run.folder);
  auto claim = FolderLock::unless_taken(run.folder, ".claim");
  if (!claim) return false;
  start(run, std::move(claim));
  return true;
}

void GridRunner::start(const PlannedRun& run, std::unique_ptr<FolderLock> claim) {
  const RunStatus status = status_of(run, command_);
  if (status.state == RunState::kFinished || tried_elsewhere(run)) {
    ++progress_.done;
    return;
  }
  if (status.state == RunState::kRefused) {
    ++progress_.done;
    log_info("[{}/{}] refused {}: {}", progress_.done, progress_.total, run.label, status.note);
    record(run, "refused", 0, 0, 0, status.note);
    return;
  }
  std::vector<std::string> command = run.arguments(config_.base);
  command.insert(command.begin(), command_.program.string());
  if (!command_.trust.empty())
    command.push_back(fmt::format("trust={}", fmt::join(command_.trust, ",")));
  if (status.state == RunState::kHalfDone) {
    command.push_back("resume=true");
  } else {
    fs::remove(run.folder / "config.yaml");  // of a start that came to nothing
  }
  command.push_back("base_cache=" + (config_.out / "base").string());
  if (config_.parallel > 1) {
    command.push_back(fmt::format(
        "threads={}",
        std::max<int64_t>(
            1, static_cast<int64_t>(std::thread::hardware_concurrency()) / config_.parallel)));
  }
  log_info("start {}{}", run.label,
           status.state == RunState::kHalfDone ? ", going on after " + status.note : "");
  const pid_t process = start_process(command, run.folder / "console.txt", *claim);
  children_.push_back({&run, process, std::move(claim), {}});
}

void GridRunner::finish(const Child& child, int status, const rusage& usage) {
  const PlannedRun& run = *child.run;
  const double seconds = child.watch.seconds(),
               peak = static_cast<double>(usage.ru_maxrss) / (1024.0 * 1024.0);
  const auto time_of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  const double processor = time_of(usage.ru_utime) + time_of(usage.ru_stime);
  const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (clean && fs::exists(run.folder / "summary.json")) {
    ++progress_.done;
    ++progress_.timed;
    progress_.seconds += seconds;
    const double left = static_cast<double>(progress_.total - progress_.done) * progress_.seconds /
                        static_cast<double>(progress_.timed);
    log_info("[{}/{}] finished {} in {} | peak {:.2f} GiB | ETA {}", progress_.done,
             progress_.total, run.label, duration_text(seconds), peak,
             duration_text(left / static_cast<double>(config_.parallel)));
    record(run, "finished", seconds, peak, processor, "");
    return;
  }
  if (told_) {
    log_info("stopped {} after {}", run.label, duration_text(seconds));
    record(run, "interrupted", seconds, peak, processor, "");
    return;
  }
  ++progress_.done;
  const std::string said = last_line(run.folder / "console.txt");
  const std::string error =
      WIFSIGNALED(status) ? fmt::format("killed by signal {} ({}); its last line: {}",
                                        WTERMSIG(status), strsignal(WTERMSIG(status)), said)
      : clean             ? "it ended before its last update; its last line: " + said
      : said.empty()
          ? fmt::format("it ended with exit status {} and said nothing", WEXITSTATUS(status))
          : said;
  log_info("[{}/{}] FAILED {} after {}: {}", progress_.done, progress_.total, run.label,
           duration_text(seconds), error);
  record(run, "failed", seconds, peak, processor, error);
}

void GridRunner::reap() {
  for (size_t i = 0; i < children_.size();) {
    int status = 0;
    rusage usage{};
    const pid_t ended = ::wait4(children_[i].process, &status, WNOHANG, &usage);
    VGGFLOW_CHECK(ended >= 0 || errno == EINTR, "[compare] cannot wait for {}: {}",
                  children_[i].run->label, std::strerror(errno));
    if (ended <= 0) {
      ++i;
      continue;
    }
    const Child child = std::move(children_[i]);
    children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
    finish(child, status, usage);
    looks_ = true;
  }
}

void GridRunner::pass_on_interrupt() {
  told_ = true;
  if (children_.empty()) return;
  log_info(
      "interrupted: waiting until {} running alignment{} saved; a second Ctrl-C ends them at once",
      children_.size(), children_.size() == 1 ? " has" : "s have");
  for (const Child& child : children_) ::kill(child.process, SIGINT);
}

// The bar, with what each running alignment said last; at most once a second.
void GridRunner::show() {
  if (children_.empty() || shown_.seconds() < 1) return;
  shown_.lap();
  std::vector<std::string> notes;
  for (const Child& child : children_) {
    const std::string said = last_line(child.run->folder / "console.txt");
    notes.push_back(fmt::format("{}: {}", child.run->label,
                                said.substr(0, std::min<size_t>(32, said.find(" |")))));
  }
  bar_.advance(static_cast<int64_t>(progress_.done), fmt::format("{}", fmt::join(notes, "; ")));
}

// Takes runs that are free, in their order, while there is room; those of others stay open.
void GridRunner::look_for_runs() {
  constexpr double kSeconds = 0.5;  // between looks at what others hold
  if (!looks_ && looked_.seconds() < kSeconds) return;
  looks_ = false;
  looked_.lap();
  const auto has_room = [&] { return std::ssize(children_) < config_.parallel; };
  std::erase_if(open_, [&](const PlannedRun* run) { return has_room() && take(*run); });
}

void GridRunner::say_that_it_waits() {
  if (!waiting_) log_info("waiting for {} runs of other processes", open_.size());
  waiting_ = true;
}

bool GridRunner::run(const std::vector<PlannedRun>& runs) {
  for (const PlannedRun& run : runs) {
    if (status_of(run, command_).state != RunState::kFinished) open_.push_back(&run);
  }
  while (true) {
    if (interrupted() && !told_) pass_on_interrupt();
    if (!interrupted()) look_for_runs();
    if (children_.empty()) {
      if (interrupted() || open_.empty()) return !interrupted();
      if (!waits_) {
        log_info("{} runs are left to other processes", open_.size());
        return true;
      }
      say_that_it_waits();
    }
    reap();
    show();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// The last error of a run that failed.
std::string last_error(const Json& records, const std::string& label) {
  std::string error;
  for (const Json& line : records) {
    if (text(line, "label") == label)
      error = text(line, "status") == "failed" ? text(line, "error", "no message") : "";
  }
  return error;
}

void add_run(const PlannedRun& run, const RunCommand& command, ComparisonData& data) {
  const RunStatus status = status_of(run, command);
  if (status.state == RunState::kFinished) {
    try {
      data.results.push_back(read_result(run));
    } catch (const Error& e) {
      data.failures.push_back({run.label, e.what()});
    }
    return;
  }
  const std::string error =
      status.state == RunState::kRefused ? status.note : last_error(data.records, run.label);
  if (!error.empty()) {
    data.failures.push_back({run.label, error});
  } else {
    data.open.push_back(run.label + (status.note.empty() ? "" : " (" + status.note + ")"));
  }
}

// How many runs the whole comparison has, and how many of them are finished; the tables' runs are
// counted before the choice, too.
GridProgress count_runs(const ComparisonConfig& config, const RunCommand& command,
                        const ComparisonData& data) {
  GridProgress progress{.records = data.records.size()};
  const auto& tuning = config.tuning_seeds();
  progress.total = tuning_runs(config).size();
  for (const ComparisonArm& arm : config.arms) {
    for (const int64_t seed : config.seeds) {
      progress.total +=
          arm.settings.size() == 1 || std::find(tuning.begin(), tuning.end(), seed) == tuning.end();
    }
  }
  for (const PlannedRun& run : known_runs(config, chosen_settings(data.selections))) {
    progress.done += status_of(run, command).state == RunState::kFinished;
  }
  return progress;
}

}  // namespace

RunStatus status_of(const PlannedRun& run, const RunCommand& command) {
  if (!fs::exists(run.folder / "metrics.jsonl") || !fs::exists(run.folder / "config.yaml"))
    return {};
  try {
    const auto changed = command.changed_settings(run);
    if (!changed.empty()) {
      return {RunState::kRefused, fmt::format("{} was started with other settings: {} differ. Take "
                                              "another out=, leave the settings as they were, or "
                                              "remove that folder to run it anew",
                                              run.folder.string(), examples_of(changed, ", "))};
    }
    if (fs::exists(run.folder / "summary.json")) return {RunState::kFinished, ""};
    return {RunState::kHalfDone, fmt::format("{} updates", last_update(run.folder))};
  } catch (const Error& e) {
    return {RunState::kRefused, e.what()};
  }
}

ComparisonData collect(const ComparisonConfig& config, const RunCommand& command) {
  ComparisonData data;
  data.config = config;
  if (fs::exists(config.out / "grid.jsonl"))
    data.records = read_json_lines(config.out / "grid.jsonl");
  const std::vector<PlannedRun> tuning = tuning_runs(config);
  for (const PlannedRun& run : tuning) add_run(run, command, data);
  data.selections = select_settings(config, data.results);
  const std::vector<PlannedRun> all = known_runs(config, chosen_settings(data.selections));
  for (size_t i = tuning.size(); i < all.size(); ++i) add_run(all[i], command, data);
  return data;
}

bool run_grid(const ComparisonConfig& config, const RunCommand& command,
              const std::vector<PlannedRun>& runs, GridProgress& progress, bool waits) {
  return GridRunner(config, command, progress, waits).run(runs);
}

bool run_comparison(const ComparisonConfig& config, const RunCommand& command,
                    const Worker& worker) {
  make_writable_folder(config.out);
  const bool first = worker.rank == 0;
  open_log(config.out / (first ? "log.txt" : fmt::format("log.rank{}.txt", worker.rank)));
  write_text(config.out / "compare.yaml", config.text);
  GridProgress progress = count_runs(config, command, collect(config, command));
  log_info("compare: {} arms, {} runs, {} of them finished before", config.arms.size(),
           progress.total, progress.done);
  // The choice needs all tuning runs, whoever does them.
  if (!run_grid(config, command, tuning_runs(config), progress, /*waits=*/true)) return false;
  const auto chosen = chosen_settings(collect(config, command).selections);
  for (size_t i = 0; i < config.arms.size(); ++i) {
    const ComparisonArm& arm = config.arms[i];
    if (arm.settings.size() == 1) continue;
    log_info("{}: {}", arm.name,
             chosen[i]
                 ? "chose " + arm.settings[*chosen[i]].name + " by " + word_of(config.select.by)
                 : "no setting has finished on all tuning seeds, none is chosen");
  }
  return run_grid(config, command, table_runs(config, chosen), progress,
                  /*waits=*/first && worker.size > 1);
}

std::string describe_plan(const ComparisonConfig& config, const RunCommand& command) {
  const ComparisonData data = collect(config, command);
  const auto chosen = chosen_settings(data.selections);
  std::string out;
  for (const PlannedRun& run : known_runs(config, chosen)) {
    const RunStatus status = status_of(run, command);
    const char* state = status.state == RunState::kFinished   ? "finished"
                        : status.state == RunState::kHalfDone ? "half done"
                        : status.state == RunState::kRefused  ? "refused"
                                                              : "to do";
    out += fmt::format("{:<9} {}{}\n          vggflow {}\n", state, run.label,
                       status.note.empty() ? "" : " (" + status.note + ")",
                       without_password(shell_words(run.arguments(config.base))));
  }
  for (size_t i = 0; i < config.arms.size(); ++i) {
    if (!chosen[i])
      out += fmt::format("later     {} on seeds {}: its setting is chosen after its tuning runs\n",
                         config.arms[i].name, fmt::join(config.seeds, ", "));
  }
  return out;
}

}  // namespace vggflow

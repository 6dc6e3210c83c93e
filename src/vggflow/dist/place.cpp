#include "vggflow/dist/place.h"

#include <stdlib.h>

#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <system_error>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/hash.h"

namespace vggflow {
namespace {

// The variables of one launcher.
struct Names {
  const char *launcher, *rank, *size, *local_rank;
};
constexpr Names kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"};
constexpr Names kSlurm{"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"};
constexpr Names kOpenMpi{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                         "OMPI_COMM_WORLD_LOCAL_RANK"};
constexpr int kMostRanks = 100000, kFirstPort = 20000, kPorts = 20000;

int number(const Variables& variables, const char* name, int least, int most) {
  const char* text = variables(name);
  VGGFLOW_CHECK(
      text,
      "[ranks] expected {} in the environment, which is not set: start the ranks by "
      "torchrun, srun or mpirun (docs/distributed.md), or unset the others for one process",
      name);
  int value = 0;
  const std::string given = text;
  const auto [end, problem] = std::from_chars(given.data(), given.data() + given.size(), value);
  VGGFLOW_CHECK(problem == std::errc() && end == given.data() + given.size() && value >= least &&
                    value <= most,
                "[ranks] expected a whole number from {} to {} in {}, got '{}'", least, most, name,
                given);
  return value;
}

Place ranks_by(const Names& names, const Variables& variables) {
  Place place{.launcher = names.launcher};
  place.size = number(variables, names.size, 1, kMostRanks);
  place.rank = number(variables, names.rank, 0, place.size - 1);
  // One process is the only one of its host, whether the launcher says so or not.
  if (place.size > 1) place.local_rank = number(variables, names.local_rank, 0, place.rank);
  return place;
}

std::string text(const Variables& variables, const char* name) {
  const char* value = variables(name);
  return value ? value : "";
}

// MASTER_ADDR, or what the launcher tells.
void find_meeting_point(const Variables& variables, const std::string& otherwise,
                        const std::string& job, Place& place) {
  place.address = text(variables, "MASTER_ADDR");
  if (place.address.empty()) place.address = otherwise;
  place.port = variables("MASTER_PORT")
                   ? number(variables, "MASTER_PORT", 1, 65535)
                   : kFirstPort + static_cast<int>(fnv1a(job) % static_cast<uint64_t>(kPorts));
}

bool any(const Variables& variables, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (variables(name)) return true;
  }
  return false;
}

Place by_torchrun(const Variables& variables) {
  Place place = ranks_by(kTorchrun, variables);
  if (variables("TORCHELASTIC_RESTART_COUNT"))
    place.attempt = text(variables, "TORCHELASTIC_RESTART_COUNT");
  place.again = place.attempt != "0";
  if (place.size == 1) return place;
  for (const char* name : {"MASTER_ADDR", "MASTER_PORT"}) {
    VGGFLOW_CHECK(variables(name),
                  "[ranks] expected {} in the environment beside RANK and WORLD_SIZE, which is not "
                  "set: start the ranks by torchrun (docs/distributed.md)",
                  name);
  }
  find_meeting_point(variables, "", "", place);
  place.agent_hosts = text(variables, "TORCHELASTIC_USE_AGENT_STORE") == "True";
  return place;
}

Place by_slurm(const Variables& variables) {
  Place place = ranks_by(kSlurm, variables);
  place.again = text(variables, "SLURM_RESTART_COUNT").find_first_not_of('0') != std::string::npos;
  if (place.size == 1) return place;
  const std::string step = text(variables, "SLURM_JOB_ID") + "." + text(variables, "SLURM_STEP_ID");
  find_meeting_point(variables, first_host(text(variables, "SLURM_STEP_NODELIST")), step, place);
  VGGFLOW_CHECK(!place.address.empty(),
                "[ranks] expected the hosts of the step in SLURM_STEP_NODELIST, or rank 0's in "
                "MASTER_ADDR; neither is set");
  place.attempt = step + "." + text(variables, "SLURM_RESTART_COUNT");
  return place;
}

// Open MPI names no host: those of one alone meet on it.
Place by_open_mpi(const Variables& variables) {
  Place place = ranks_by(kOpenMpi, variables);
  if (place.size == 1) return place;
  const std::string job = text(variables, "PMIX_NAMESPACE");
  const bool one_host = text(variables, "OMPI_COMM_WORLD_LOCAL_SIZE") == std::to_string(place.size);
  find_meeting_point(variables, one_host ? "127.0.0.1" : "", job, place);
  VGGFLOW_CHECK(
      !place.address.empty(),
      "[ranks] expected rank 0's host in MASTER_ADDR, since mpirun started ranks on several "
      "hosts: pass -x MASTER_ADDR=HOST");
  place.attempt = job;
  return place;
}

}  // namespace

std::string own_gpu(const std::string& visible, int local_rank) {
  if (visible.empty()) return std::to_string(local_rank);
  std::vector<std::string> all{""};
  for (const char c : visible) {
    if (c == ',') {
      all.emplace_back();
    } else {
      all.back() += c;
    }
  }
  return all[static_cast<size_t>(local_rank) % all.size()];
}

std::string first_host(const std::string& list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const size_t end = list.find_first_of(",-]", bracket);
  const size_t close = list.find(']', bracket);
  if (end == std::string::npos || close == std::string::npos) return list;
  const size_t next = list.find(',', close);
  const std::string rest =
      list.substr(close + 1, next == std::string::npos ? next : next - close - 1);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1) + rest;
}

Place place_of(const Variables& variables) {
  if (any(variables, {"RANK", "WORLD_SIZE"})) return by_torchrun(variables);
  // Only srun's steps have it: a batch script or a shell of an allocation is one process.
  if (any(variables, {kSlurm.size})) return by_slurm(variables);
  if (any(variables, {kOpenMpi.rank, kOpenMpi.size})) return by_open_mpi(variables);
  return {};
}

Place place_of_process() {
  return place_of([](const char* name) { return std::getenv(name); });
}

Place leave_place() {
  Place place = place_of_process();
  for (const char* name :
       {kTorchrun.rank, kTorchrun.size, kSlurm.size, kOpenMpi.rank, kOpenMpi.size})
    ::unsetenv(name);
  return place;
}

}  // namespace vggflow

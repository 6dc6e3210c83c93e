#pragma once
// Where a process stands among those that a launcher started: torchrun, Slurm's srun, or Open MPI's
// mpirun tell it in variables, each in its own.

#include <functional>
#include <string>

namespace vggflow {

struct Place {
  std::string launcher = {};  ///< "torchrun", "Slurm", "Open MPI"; empty: none, one process
  int rank = 0, size = 1;
  int local_rank = 0;         ///< among those of its host
  std::string address = {};   ///< of rank 0's host, where all meet
  int port = 0;               ///< there
  bool agent_hosts = false;   ///< whether torchrun's agent keeps the meeting point, not rank 0
  std::string attempt = "0";  ///< which start of the same job this is
  bool again = false;         ///< whether the launcher has started it before, and it did not end
};

/// The value of a variable, null where it is not set.
using Variables = std::function<const char*(const char* name)>;

/// By RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT (torchrun), by a Slurm step's
/// SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID and SLURM_STEP_NODELIST, or by
/// OMPI_COMM_WORLD_RANK, _SIZE and _LOCAL_RANK, in this order. MASTER_ADDR and MASTER_PORT are
/// heard under all three; without them the first host of the list, or this one, and a port made of
/// the job's name. Throws where some of a launcher's variables are missing or say what cannot be.
Place place_of(const Variables& variables);
/// Of this process.
Place place_of_process();

/// Of this process, which then forgets it, and so do the processes that it starts: they are no
/// ranks.
Place leave_place();

/// What CUDA_VISIBLE_DEVICES becomes for a process that shall see one GPU of those that it names:
/// of a list the one of its local rank, counted round; of no list the local rank itself.
std::string own_gpu(const std::string& visible, int local_rank);

/// The first host of Slurm's short form: "gpu[03-05,9],other" is gpu03.
std::string first_host(const std::string& list);

}  // namespace vggflow

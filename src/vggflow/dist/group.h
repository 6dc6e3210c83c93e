#pragma once
// The processes of one run. A process without others is a group of one, in which every call below
// is the identity; nothing above this layer asks how many there are to compute its numbers.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/config.h"
#include "vggflow/dist/place.h"
#include "vggflow/dist/transport.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// The sum of rows (k, ...), added one by one in their order; throws where there are none.
Tensor sum_in_order(const Tensor& rows);

class Group {
 public:
  /// One process.
  Group() = default;
  /// The ranks of a place, met over Gloo; throws where some do not come within `timeout`. What lies
  /// on GPUs goes through NCCL where `gpu` allows it (open_gloo).
  static Group open(const Place& place, std::chrono::milliseconds timeout, const GpuRank& gpu = {});
  /// Over a given transport: what tests do.
  Group(Place place, std::shared_ptr<Transport> transport)
      : place_(std::move(place)), transport_(std::move(transport)) {}

  int rank() const { return place_.rank; }
  int size() const { return place_.size; }
  int local_rank() const { return place_.local_rank; }
  /// Whether this is rank 0, which alone writes a run's files.
  bool leads() const { return place_.rank == 0; }

  /// Whether the launcher started these processes before, and they did not come to their end.
  bool started_again() const { return place_.again; }

  // Every call below is made by all ranks, in the same order.

  /// The tensors of all ranks, by rank, of any shape (5 dimensions at most) and dtype each. On x's
  /// device.
  std::vector<Tensor> gather(const Tensor& x) const;
  /// The rows of all ranks one after another.
  Tensor gather_rows(const Tensor& rows) const;
  /// The sum of all ranks' rows (k, ...), as many on each and of one shape, added one by one in the
  /// order of ranks and rows: the same bits however the rows are spread. Of long rows each rank
  /// adds up a part, and the parts are gathered, between GPUs where the transport takes them.
  Tensor ordered_sum(const Tensor& rows) const;
  /// Begins to gather the (n) uint8 tensors of all ranks, on the CPU, into one (size * n), by rank;
  /// `into` may be of any device. The call that it returns waits for the end; until then both stay
  /// as they are, and the ranks may do other things. Between GPUs a rank that is gone is noticed
  /// when the time is up: gather something small on the CPU beside it.
  std::function<void()> begin_gather(const Tensor& bytes, const Tensor& into) const;
  /// Rank 0's text, and rank 0's tensor, whatever the others give.
  std::string broadcast(const std::string& text) const;
  Tensor broadcast(const Tensor& x) const;
  /// Whether any rank says so.
  bool any(bool said) const;
  /// Returns once all ranks have called.
  void barrier() const { any(false); }
  /// Throws on every rank, naming the ranks whose text is not rank 0's.
  void agree(const std::string& what, const std::string& text) const;
  /// Calls f on rank 0 alone; what it throws, all ranks throw.
  void lead(const std::function<void()>& f) const;

  /// From now on all ranks pass through their networks equally often, since a pass is a call that
  /// all make (weights/sharded_blocks.h).
  void keep_step() const { *in_step_ = true; }
  /// Calls f(piece, counts) for the pieces of `count` that are this rank's, dealt in turn. Ranks in
  /// step that lack a piece in the last round make that round's first one too, which does not
  /// count.
  void deal(int64_t count, const std::function<void(int64_t piece, bool counts)>& f) const;

  /// Leaves word of why this rank ends, for the others' errors; they are not waited for.
  void leave_word(const std::string& text) const;
  /// Seconds that gathers have taken so far, waiting for other ranks counted.
  double seconds() const { return *seconds_; }

 private:
  Place place_;
  std::shared_ptr<Transport> transport_;  // none: one process
  std::shared_ptr<double> seconds_ = std::make_shared<double>(0);
  std::shared_ptr<bool> in_step_ = std::make_shared<bool>(false);
};

/// Throws on every rank, naming the ranks whose program or whose settings are not rank 0's: those
/// would compute other numbers, or wait for ever.
void agree_on_settings(const Group& group, const Fields& fields);

/// The rows of pieces that are dealt to ranks in turn, piece p to rank p mod size, in the order of
/// pieces. `own`: this rank's, in order; `rows`: the number of rows of every piece.
Tensor gather_dealt(const Group& group, const std::vector<Tensor>& own,
                    const std::vector<int64_t>& rows);

}  // namespace vggflow

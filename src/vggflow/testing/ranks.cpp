#include "vggflow/testing/ranks.h"

#include <ATen/ATen.h>

#include <condition_variable>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow::testing {
namespace {

// What ranks have given so far, the n-th of each for the n-th gather.
struct Board {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::vector<Tensor>> given;  // by rank
  bool broken = false;
};

class BoardTransport : public Transport {
 public:
  BoardTransport(std::shared_ptr<Board> board, size_t rank)
      : board_(std::move(board)), rank_(rank) {}
  std::vector<Tensor> gather(const Tensor& bytes) override { return wait_for(give(bytes)); }
  std::function<void()> begin_gather(const Tensor& bytes, const Tensor& into) override {
    return [this, into, number = give(bytes)] { into.copy_(at::cat(wait_for(number))); };
  }
  Tensor exchange(const Tensor& bytes) override {
    std::vector<Tensor> own;
    for (const Tensor& of_rank : gather(bytes))
      own.push_back(of_rank.chunk(std::ssize(board_->given))[rank_]);
    return at::cat(own);
  }
  void leave_word(const std::string&) override { break_off(); }
  void break_off() {
    const std::lock_guard lock(board_->mutex);
    board_->broken = true;
    board_->changed.notify_all();
  }

 private:
  size_t give(const Tensor& bytes) {
    const std::lock_guard lock(board_->mutex);
    board_->given[rank_].push_back(bytes.clone());
    board_->changed.notify_all();
    return board_->given[rank_].size() - 1;
  }
  std::vector<Tensor> wait_for(size_t number) {
    std::unique_lock lock(board_->mutex);
    const auto all_there = [&] {
      for (const auto& of_rank : board_->given) {
        if (of_rank.size() <= number) return false;
      }
      return true;
    };
    board_->changed.wait(lock, [&] { return board_->broken || all_there(); });
    VGGFLOW_CHECK(all_there(), "[ranks] another rank is gone");
    std::vector<Tensor> all;
    for (const auto& of_rank : board_->given) all.push_back(of_rank[number].clone());
    return all;
  }

  std::shared_ptr<Board> board_;
  size_t rank_;
};

}  // namespace

void on_threads(int size, const std::function<void(const Group& group)>& body) {
  const auto board = std::make_shared<Board>();
  const auto count = static_cast<size_t>(size);
  board->given.resize(count);
  std::vector<std::exception_ptr> failures(count);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto own = static_cast<size_t>(rank);
      const auto transport = std::make_shared<BoardTransport>(board, own);
      try {
        body(Group(Place{.launcher = "test", .rank = rank, .size = size, .local_rank = rank},
                   transport));
      } catch (...) {
        failures[own] = std::current_exception();
        transport->break_off();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::exception_ptr first;
  for (const std::exception_ptr& failure : failures) {
    if (!failure) continue;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      const bool own = std::string(e.what()) != "[ranks] another rank is gone";
      if (!first || own) first = failure;
      if (own) break;
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace vggflow::testing

#include "vggflow/dist/take_turns.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// Unwinds the stack of a piece that shall not go on.
struct Broken {};

// As large as the main thread's, taken page by page as it is used; the lowest page faults.
class Stack {
 public:
  Stack()
      : place_(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    VGGFLOW_CHECK(place_ != MAP_FAILED && ::mprotect(place_, kPage, PROT_NONE) == 0,
                  "[shares] cannot map a stack of {} MiB: {}", kBytes >> 20, std::strerror(errno));
  }
  ~Stack() { ::munmap(place_, kBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  void give_to(ucontext_t& context) const {
    context.uc_stack.ss_sp = place_;
    context.uc_stack.ss_size = kBytes;
  }

 private:
  static constexpr size_t kBytes = size_t{8} << 20, kPage = 4096;
  void* place_;
};

struct Piece {
  Stack stack;
  ucontext_t context{};
  Tensor given;
  bool grad = true;  // the thread's gradient mode as it left it
  bool begun = false, ended = false;
};

class Round {
 public:
  Round(size_t count, const std::function<void(size_t, const Meet&)>& work)
      : work_(work), pieces_(count) {}
  void run(const std::function<Tensor(const std::vector<Tensor>&)>& join,
           const std::function<void(size_t)>& enter);

 private:
  static void begin(unsigned high, unsigned low);
  void resume(size_t i);
  void give_turns(const std::function<void(size_t)>& enter);
  void join_all(const std::function<Tensor(const std::vector<Tensor>&)>& join);
  Tensor meet(size_t i, const Tensor& given);
  bool all_ended() const {
    return std::all_of(pieces_.begin(), pieces_.end(), [](const Piece& p) { return p.ended; });
  }

  const std::function<void(size_t, const Meet&)>& work_;
  std::vector<Piece> pieces_;
  ucontext_t caller_{};
  size_t now_ = 0;
  Tensor joined_;
  std::exception_ptr failure_;
};

// makecontext passes whole numbers alone: a pointer comes in two.
void Round::begin(unsigned high, unsigned low) {
  auto* round = reinterpret_cast<Round*>((static_cast<uintptr_t>(high) << 32) | low);
  const size_t i = round->now_;
  try {
    round->work_(i, [round, i](const Tensor& given) { return round->meet(i, given); });
  } catch (const Broken&) {
  } catch (...) {
    if (!round->failure_) round->failure_ = std::current_exception();
  }
  round->pieces_[i].ended = true;
}

void Round::resume(size_t i) {
  Piece& piece = pieces_[i];
  now_ = i;
  const bool grad = c10::GradMode::is_enabled();
  if (!piece.begun) {
    piece.begun = true;
    piece.grad = grad;
    ::getcontext(&piece.context);
    piece.stack.give_to(piece.context);
    piece.context.uc_link = &caller_;
    const auto self = reinterpret_cast<uintptr_t>(this);
    ::makecontext(&piece.context, reinterpret_cast<void (*)()>(&Round::begin), 2,
                  static_cast<unsigned>(self >> 32), static_cast<unsigned>(self & 0xFFFFFFFF));
  }
  c10::GradMode::set_enabled(piece.grad);
  ::swapcontext(&caller_, &piece.context);
  piece.grad = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(grad);
}

Tensor Round::meet(size_t i, const Tensor& given) {
  pieces_[i].given = given;
  ::swapcontext(&pieces_[i].context, &caller_);
  if (failure_) throw Broken();
  return joined_;
}

// After a failure those that have begun are ended, and the others do not begin.
void Round::give_turns(const std::function<void(size_t)>& enter) {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].ended) continue;
    if (failure_ && !pieces_[i].begun) {
      pieces_[i].ended = true;
      continue;
    }
    if (!failure_) enter(i);
    resume(i);
  }
}

void Round::join_all(const std::function<Tensor(const std::vector<Tensor>&)>& join) {
  try {
    std::vector<Tensor> given;
    for (Piece& piece : pieces_) {
      VGGFLOW_CHECK(!piece.ended, "[shares] expected every share to meet the others equally often");
      given.push_back(std::move(piece.given));
    }
    joined_ = join(given);
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void Round::run(const std::function<Tensor(const std::vector<Tensor>&)>& join,
                const std::function<void(size_t)>& enter) {
  for (;;) {
    give_turns(enter);
    if (all_ended()) break;
    if (!failure_) join_all(join);
  }
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace

void take_turns(size_t count, const std::function<Tensor(const std::vector<Tensor>&)>& join,
                const std::function<void(size_t)>& enter,
                const std::function<void(size_t, const Meet&)>& work) {
  if (count == 1) {
    enter(0);
    work(0, [&](const Tensor& own) { return join({own}); });
    return;
  }
  Round(count, work).run(join, enter);
}

}  // namespace vggflow

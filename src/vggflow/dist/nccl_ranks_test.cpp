// The way of GPUs' bytes, with the CPU as the GPU and a table of functions that passes bytes
// through the store in NCCL's place.
#include "vggflow/dist/nccl_ranks.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/log.h"
#include "vggflow/dist/ranks_fixture_test.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct FakeGroup {
  c10::intrusive_ptr<c10d::Store> store;
  int rank, size, begun = 0;
  std::string key(int work, int of_rank) const {
    return "fake/" + std::to_string(work) + "/" + std::to_string(of_rank);
  }
};

struct FakeWork {
  FakeGroup* group;
  int number;
  Tensor into;
  bool exchange;
};

// What the fakes of this process do; a test sets it before its ranks begin.
std::string own_identity, open_problem;
int operations = 0;

const char* identity(int32_t, char* text, int64_t size) {
  std::snprintf(text, static_cast<size_t>(size), "%s", own_identity.c_str());
  return nullptr;
}

const char* open(const void* store, int32_t rank, int32_t size, int32_t, void** group) {
  if (!open_problem.empty()) return open_problem.c_str();
  *group = new FakeGroup{*static_cast<const c10::intrusive_ptr<c10d::Store>*>(store), rank, size};
  return nullptr;
}

const char* begin(void* group, const void* bytes, const void* into, void** work, bool exchange) {
  auto& ranks = *static_cast<FakeGroup*>(group);
  const Tensor& own = *static_cast<const Tensor*>(bytes);
  const auto* first = own.const_data_ptr<uint8_t>();
  ranks.store->set(ranks.key(ranks.begun, ranks.rank),
                   std::vector<uint8_t>(first, first + own.numel()));
  *work = new FakeWork{&ranks, ranks.begun++, *static_cast<const Tensor*>(into), exchange};
  ++operations;
  return nullptr;
}
const char* gather(void* group, const void* bytes, const void* into, void** work) {
  return begin(group, bytes, into, work, /*exchange=*/false);
}
const char* exchange(void* group, const void* bytes, const void* into, void** work) {
  return begin(group, bytes, into, work, /*exchange=*/true);
}

const char* poll(void* work, bool* done) {
  const auto& begun = *static_cast<FakeWork*>(work);
  const FakeGroup& ranks = *begun.group;
  *done = true;
  for (int r = 0; r < ranks.size; ++r)
    *done = *done && ranks.store->check({ranks.key(begun.number, r)});
  const int64_t part = begun.into.numel() / ranks.size;
  for (int r = 0; *done && r < ranks.size; ++r) {
    const auto all = ranks.store->get(ranks.key(begun.number, r));
    std::memcpy(begun.into.mutable_data_ptr<uint8_t>() + r * part,
                all.data() + (begun.exchange ? ranks.rank * part : 0), static_cast<size_t>(part));
  }
  return nullptr;
}

void free_work(void* work) { delete static_cast<FakeWork*>(work); }
void close(void* group, bool) { delete static_cast<FakeGroup*>(group); }

constexpr device::NcclApi kFake{&identity, &open, &gather, &exchange, &poll, &free_work, &close};

Group open_with(const Place& place, const std::string& gpu, Backend backend = Backend::kAuto,
                std::chrono::milliseconds timeout = kLong) {
  own_identity = gpu;
  return Group::open(place, timeout, {backend, gpu.empty() ? nullptr : &kFake, at::kCPU});
}

const Tensor kRows = at::sin(at::arange(4 * 5001, at::kFloat)).view({4, 5001}) *
                     at::tensor({1.0F, 1e-3F, 1e3F, 7.0F}).unsqueeze(1);

Tensor sum_on(const Group& group) {
  const int64_t each = 4 / group.size();
  return group.ordered_sum(kRows.narrow(0, each * group.rank(), each));
}

TEST(NcclRanks, AddRowsToTheBitsOfOneProcess) {
  for (const int size : {2, 4}) {
    on_places(size, [](const Place& place) {
      const Group group = open_with(place, "gpu " + std::to_string(place.rank), Backend::kNccl);
      EXPECT_TRUE(at::equal(sum_on(group), Group().ordered_sum(kRows)));
      EXPECT_EQ(operations, 2) << "an exchange and a gather";
    });
  }
}

TEST(NcclRanks, GatherWhileTheyDoOtherThings) {
  on_places(2, [](const Place& place) {
    const Group group = open_with(place, "gpu " + std::to_string(place.rank));
    const Tensor own = at::full({100}, group.rank() + 1, at::kByte),
                 into = at::empty({200}, at::kByte);
    const auto end = group.begin_gather(own, into);
    EXPECT_TRUE(group.any(group.rank() == 1));
    end();
    EXPECT_TRUE(at::equal(into, at::tensor({1, 2}, at::kByte).repeat_interleave(100)));
    EXPECT_EQ(operations, 1);
  });
}

TEST(NcclRanks, AreNotTakenWhereARankHasNoGpuOrTwoShareOne) {
  on_places(2, [](const Place& place) {
    const Group group = open_with(place, place.rank == 0 ? "gpu 0" : "");
    EXPECT_TRUE(at::equal(sum_on(group), Group().ordered_sum(kRows)));
    EXPECT_EQ(operations, 0);
  });
  on_places(2, [](const Place& place) {
    EXPECT_THAT(testing::message_of([&] { open_with(place, "the same", Backend::kNccl); }),
                AllOf(HasSubstr("dist.backend=nccl takes a GPU for each rank"),
                      HasSubstr("ranks 0 and 1 share a GPU")));
  });
  on_places(2, [](const Place& place) {
    EXPECT_THAT(testing::message_of([&] { open_with(place, "", Backend::kNccl); }),
                HasSubstr("rank 0 has no GPU"));
  });
}

TEST(NcclRanks, AreNotTakenWhereOneCannotOpenThem) {
  on_places(2, [](const Place& place) {
    if (place.rank == 1) open_problem = "unhandled system error";
    const Group group = open_with(place, "gpu " + std::to_string(place.rank));
    EXPECT_TRUE(at::equal(sum_on(group), Group().ordered_sum(kRows)));
    EXPECT_EQ(operations, 0);
  });
}

TEST(NcclRanks, AreNotTakenWithGloo) {
  on_places(2, [](const Place& place) {
    const Group group = open_with(place, "gpu " + std::to_string(place.rank), Backend::kGloo);
    EXPECT_TRUE(at::equal(sum_on(group), Group().ordered_sum(kRows)));
    EXPECT_EQ(operations, 0);
  });
}

TEST(NcclRanks, NameARankThatDiedBeforeItsSum) {
  on_places(2, [](const Place& place) {
    const Group group = open_with(place, "gpu " + std::to_string(place.rank));
    if (place.rank == 1) ::_exit(0);
    const Stopwatch watch;
    EXPECT_THAT(testing::message_of([&] { sum_on(group); }), HasSubstr("rank 1 on "));
    EXPECT_LT(watch.seconds(), 10);
  });
}

TEST(NcclRanks, NameARankThatDoesNotTakePart) {
  on_places(2, [](const Place& place) {
    const Group group = open_with(place, "gpu " + std::to_string(place.rank), Backend::kNccl,
                                  std::chrono::milliseconds(2000));
    if (place.rank == 1) ::_exit(0);
    const Tensor into = at::empty({20}, at::kByte);
    EXPECT_THAT(
        testing::message_of([&] { group.begin_gather(at::zeros({10}, at::kByte), into)(); }),
        AllOf(HasSubstr("rank 1 on "), HasSubstr("no end within 2 s")));
  });
}

}  // namespace
}  // namespace vggflow

#include "vggflow/dist/place.h"

#include <gmock/gmock.h>

#include <map>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

Place place_in(const std::map<std::string, std::string>& variables) {
  return place_of([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(Place, OfNoLauncherIsOneProcess) {
  const Place place = place_in({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}});  // a batch script
  EXPECT_EQ(place.size, 1);
  EXPECT_EQ(place.launcher, "");
}

TEST(Place, IsTorchruns) {
  const Place place = place_in({{"RANK", "5"},
                                {"WORLD_SIZE", "8"},
                                {"LOCAL_RANK", "1"},
                                {"MASTER_ADDR", "node0"},
                                {"MASTER_PORT", "29500"},
                                {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                {"TORCHELASTIC_RESTART_COUNT", "2"}});
  EXPECT_EQ(place.launcher, "torchrun");
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 8);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.address, "node0");
  EXPECT_EQ(place.port, 29500);
  EXPECT_TRUE(place.agent_hosts);
  EXPECT_EQ(place.attempt, "2");
  EXPECT_TRUE(place.again);
}

TEST(Place, OfOneProcessKnowsThatItWasStartedBefore) {
  const Place first = place_in({{"RANK", "0"}, {"WORLD_SIZE", "1"}});  // not of torchrun's own
  EXPECT_EQ(first.size, 1);
  EXPECT_FALSE(first.again);
  EXPECT_TRUE(place_in({{"RANK", "0"},
                        {"WORLD_SIZE", "1"},
                        {"LOCAL_RANK", "0"},
                        {"TORCHELASTIC_RESTART_COUNT", "1"}})
                  .again);
  EXPECT_TRUE(place_in({{"SLURM_PROCID", "0"},
                        {"SLURM_STEP_NUM_TASKS", "1"},
                        {"SLURM_LOCALID", "0"},
                        {"SLURM_STEP_NODELIST", "gpu03"},
                        {"SLURM_RESTART_COUNT", "1"}})
                  .again);
}

TEST(Place, IsASlurmStepsWithoutAWordOfTheUser) {
  std::map<std::string, std::string> step{
      {"SLURM_PROCID", "9"},    {"SLURM_STEP_NUM_TASKS", "16"},
      {"SLURM_LOCALID", "1"},   {"SLURM_STEP_NODELIST", "gpu[03-04]"},
      {"SLURM_JOB_ID", "4711"}, {"SLURM_STEP_ID", "0"}};
  const Place place = place_in(step);
  EXPECT_EQ(place.launcher, "Slurm");
  EXPECT_EQ(place.rank, 9);
  EXPECT_EQ(place.size, 16);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.address, "gpu03");
  EXPECT_GE(place.port, 20000);
  EXPECT_LT(place.port, 40000);
  EXPECT_FALSE(place.agent_hosts);
  EXPECT_FALSE(place.again);
  step["SLURM_RESTART_COUNT"] = "1";
  EXPECT_TRUE(place_in(step).again);
  step["SLURM_JOB_ID"] = "4712";
  EXPECT_NE(place_in(step).port, place.port);
  step["MASTER_ADDR"] = "10.0.0.7";
  step["MASTER_PORT"] = "1234";
  EXPECT_EQ(place_in(step).address, "10.0.0.7");
  EXPECT_EQ(place_in(step).port, 1234);
}

TEST(Place, IsOpenMpisOnOneHost) {
  std::map<std::string, std::string> variables{{"OMPI_COMM_WORLD_RANK", "1"},
                                               {"OMPI_COMM_WORLD_SIZE", "2"},
                                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                               {"PMIX_NAMESPACE", "prterun-1@1"}};
  const Place place = place_in(variables);
  EXPECT_EQ(place.launcher, "Open MPI");
  EXPECT_EQ(place.rank, 1);
  EXPECT_EQ(place.address, "127.0.0.1");
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  EXPECT_THAT(testing::message_of([&] { place_in(variables); }), HasSubstr("-x MASTER_ADDR=HOST"));
}

TEST(Place, OfHalfOrWrongVariablesIsRefusedByName) {
  const auto refusal = [](const std::map<std::string, std::string>& variables) {
    return testing::message_of([&] { place_in(variables); });
  };
  EXPECT_THAT(refusal({{"RANK", "0"}}), HasSubstr("expected WORLD_SIZE in the environment"));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "2"}}), HasSubstr("expected RANK in the environment"));
  EXPECT_THAT(refusal({{"RANK", "2"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}}),
              HasSubstr("a whole number from 0 to 1 in RANK, got '2'"));
  EXPECT_THAT(refusal({{"RANK", "1"}, {"WORLD_SIZE", "two"}, {"LOCAL_RANK", "0"}}),
              HasSubstr("in WORLD_SIZE, got 'two'"));
  EXPECT_THAT(refusal({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}}),
              HasSubstr("expected MASTER_ADDR in the environment"));
  EXPECT_THAT(refusal({{"SLURM_STEP_NUM_TASKS", "2"}}), HasSubstr("SLURM_PROCID"));
  EXPECT_THAT(refusal({{"OMPI_COMM_WORLD_RANK", "0"}}), HasSubstr("OMPI_COMM_WORLD_SIZE"));
}

TEST(Place, FirstHostOfAShortFormIsTheFirst) {
  EXPECT_EQ(first_host("node7"), "node7");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("gpu[03-05,9],other"), "gpu03");
  EXPECT_EQ(first_host("a,gpu[1-2]"), "a");
  EXPECT_EQ(first_host("rack[1-2]-n,other"), "rack1-n");
  EXPECT_EQ(first_host(""), "");
}

TEST(Place, GivesAProcessOneGpu) {
  EXPECT_EQ(own_gpu("", 3), "3");
  EXPECT_EQ(own_gpu("4,5,6,7", 2), "6");
  EXPECT_EQ(own_gpu("GPU-7a", 2), "GPU-7a");
}

TEST(Place, IsLeftOnce) {
  ::setenv("RANK", "1", 1);
  ::setenv("WORLD_SIZE", "2", 1);
  ::setenv("LOCAL_RANK", "1", 1);
  ::setenv("MASTER_ADDR", "127.0.0.1", 1);
  ::setenv("MASTER_PORT", "29500", 1);
  EXPECT_EQ(leave_place().rank, 1);
  EXPECT_EQ(place_of_process().size, 1) << "nor are the processes that it starts ranks";
}

}  // namespace
}  // namespace vggflow

#include "vggflow/models/open_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/models/reference_test.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

TEST(OpenModel, TellsNanoFromStableDiffusion3) {
  ModelOptions options;
  options.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  EXPECT_EQ(open_flow_model(options)->state_shape(), (std::vector<int64_t>{3, 32, 32}));
  options.model = testing::models_testdata("sd3_tiny");
  EXPECT_EQ(open_flow_model(options)->state_shape().front(), 4);
  const testing::TemporaryFolder folder;
  options.model = folder.path();
  EXPECT_THAT(message_of([&] { open_flow_model(options); }), HasSubstr("is no model: expected vocabulary.txt (nano) or model_index.json"));
}

TEST(OpenModel, RefusesSettingsThatANanoModelWouldIgnore) {
  ModelOptions options;
  options.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  options.sd3.negative_prompt = "ugly";
  options.sd3.width = 512;
  EXPECT_THAT(message_of([&] { open_flow_model(options); }), HasSubstr("is a nano model, which has no sd3.width, sd3.negative_prompt"));
}

}  // namespace
}  // namespace vggflow

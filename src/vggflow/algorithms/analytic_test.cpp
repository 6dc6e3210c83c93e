// Every claim of the analytic suite (docs/analytic.md), one test a claim, named by its sentence.
#include <gtest/gtest.h>

#include "vggflow/algorithms/analytic_optima.h"
#include "vggflow/algorithms/analytic_suite.h"
#include "vggflow/testing/gradient_check.h"

namespace vggflow::analytic {
namespace {

class Analytic : public ::testing::TestWithParam<AnalyticClaim> {};
INSTANTIATE_TEST_SUITE_P(Suite, Analytic, ::testing::ValuesIn(analytic_claims()),
                         [](const ::testing::TestParamInfo<AnalyticClaim>& claim) { return claim.param.sentence; });

TEST_P(Analytic, Holds) {
  AnalyticReport report;
  GetParam().run(report);
  ASSERT_FALSE(report.results.empty());
  for (const AnalyticResult& r : report.results) {
    RecordProperty(r.name, std::to_string(r.value));
    EXPECT_TRUE(r.ok) << r.name << ": " << r.value << ", expected " << r.relation << " " << r.bound << ". " << r.note;
  }
}

}  // namespace
}  // namespace vggflow::analytic

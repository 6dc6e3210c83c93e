#include "vggflow/report/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <utility>

namespace vggflow {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

constexpr double kInf = std::numeric_limits<double>::infinity();

// The values of an attribute, in order: attribute_of(svg, "cx") for the places of the dots.
std::vector<double> attribute_of(const std::string& svg, const std::string& name) {
  const std::regex pattern(" " + name + "='([-0-9.]+)'");
  std::vector<double> values;
  for (std::sregex_iterator i(svg.begin(), svg.end(), pattern), end; i != end; ++i)
    values.push_back(std::stod((*i)[1]));
  return values;
}

Chart chart_of(std::vector<Point> points) {
  return {"title", "x", "y", {{"series", std::move(points)}}};
}

TEST(Plot, TicksAreRoundNumbersWithinTheRange) {
  EXPECT_THAT(nice_ticks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(nice_ticks(-0.31, 0.42, 5),
              Pointwise(DoubleNear(1e-12), std::vector<double>{-0.2, 0, 0.2, 0.4}));
  EXPECT_THAT(nice_ticks(3, 3, 5), ElementsAre(3));
}

TEST(Plot, LogarithmicTicksAreDecadesOrOneTwoFive) {
  EXPECT_THAT(log_ticks(-5.5, 0.5), ElementsAre(-5, -4, -3, -2, -1, 0));
  EXPECT_THAT(log_ticks(-10.5, 1.5), ElementsAre(-10, -8, -6, -4, -2, 0));
  EXPECT_THAT(
      log_ticks(-0.1, 1.1),
      Pointwise(DoubleNear(1e-12), std::vector<double>{0, std::log10(2), std::log10(5), 1}));
  EXPECT_GE(log_ticks(0.31, 0.36).size(), 2u);
}

TEST(Plot, PointsLieInProportionToTheirValues) {
  const std::string svg = chart_svg(chart_of({{0, 1}, {10, 2}, {30, 5}}));
  const auto x = attribute_of(svg, "cx"), y = attribute_of(svg, "cy");
  ASSERT_EQ(x.size(), 3u);
  EXPECT_NEAR((x[2] - x[1]) / (x[1] - x[0]), 2, 0.01);
  EXPECT_NEAR((y[2] - y[1]) / (y[1] - y[0]), 3, 0.01);
  EXPECT_LT(y[2], y[0]) << "larger values are higher up";
}

TEST(Plot, LogarithmicPointsLieInProportionToTheirExponents) {
  Chart chart = chart_of({{0, 1e-4}, {1, 1e-3}, {2, 1e-1}});
  chart.log_y = true;
  const auto y = attribute_of(chart_svg(chart), "cy");
  ASSERT_EQ(y.size(), 3u);
  EXPECT_NEAR((y[2] - y[1]) / (y[1] - y[0]), 2, 0.01);
}

TEST(Plot, LeavesOutWhatCannotBeShown) {
  const std::string svg =
      chart_svg(chart_of({{0, 1}, {1, std::nan("")}, {2, kInf}, {3, 2, std::nan("")}}));
  EXPECT_EQ(attribute_of(svg, "cx").size(), 2u);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  Chart log = chart_of({{0, 0}, {1, 1e-9}, {2, 1e-8}});
  log.log_y = true;
  EXPECT_EQ(attribute_of(chart_svg(log), "cx").size(), 2u)
      << "zero has no place on a logarithmic axis";
  for (const auto& points : {std::vector<Point>{}, std::vector<Point>{{0, 0}}})
    EXPECT_THAT(chart_svg(chart_of(points)), Not(HasSubstr("nan")));
}

TEST(Plot, DrawsErrorsAsABandOrAsBarsWhereXHasOneToo) {
  EXPECT_THAT(chart_svg(chart_of({{0, 1}, {1, 2}})), Not(HasSubstr("band")));
  EXPECT_THAT(chart_svg(chart_of({{0, 1, 0.1}, {1, 2, 0.1}})), HasSubstr("band"));
  const std::string both = chart_svg(chart_of({{0, 1, 0.1, "0", 0.2}, {1, 2, 0.1, "50", 0.2}}));
  EXPECT_THAT(both, Not(HasSubstr("band")));
  EXPECT_THAT(both, HasSubstr("class='bars'"));
  EXPECT_THAT(both, HasSubstr(">50</text>")) << "a trajectory names its updates";
}

TEST(Plot, EscapesWhatTheReaderOfTheFileWouldTakeForMarkup) {
  EXPECT_EQ(escape_html("<a b='c'>&\""), "&lt;a b=&#39;c&#39;&gt;&amp;&quot;");
  EXPECT_EQ(escape_html("\x1b[31mred\n\x07"), "?[31mred\n?");
  Chart chart = chart_of({{0, 1, 0, "<b>"}});
  chart.title = "<script>";
  EXPECT_THAT(chart_svg(chart), Not(HasSubstr("<script>")));
  EXPECT_THAT(chart_svg(chart), Not(HasSubstr("<b>")));
}

TEST(Plot, BarsAreInProportionToTheirValues) {
  const std::string svg = bars_svg("time", {{"rollout", 10}, {"value", 40}}, "s");
  const auto width = attribute_of(svg, "width");
  ASSERT_EQ(width.size(), 2u);
  EXPECT_NEAR(width[1] / width[0], 4, 0.01);
  EXPECT_THAT(svg, HasSubstr("40 s"));
}

TEST(Plot, ASeriesMayTakeAColourAndLeaveOutItsLineOrItsDots) {
  Chart chart{"title", "x", "y", {{"dots", {{0, 1}, {1, 2}}}, {"line", {{0, 1}, {1, 3}}}}};
  chart.series[0].colour = 5;
  chart.series[0].line = false;
  chart.series[0].faint = true;
  chart.series[1].colour = static_cast<int>(kColours) + 2;
  chart.series[1].dots = false;
  const std::string svg = chart_svg(chart);
  EXPECT_THAT(svg, HasSubstr("<circle class='f5 faint'"));
  EXPECT_THAT(svg, Not(HasSubstr("<path class='s5'")));
  EXPECT_THAT(svg, HasSubstr("<path class='s2'"));
  EXPECT_THAT(svg, Not(HasSubstr("<circle class='f2'")));
  EXPECT_THAT(svg, HasSubstr(">dots</text>"));
  chart.legend = false;
  EXPECT_THAT(chart_svg(chart), Not(HasSubstr(">dots</text>")));
}

}  // namespace
}  // namespace vggflow

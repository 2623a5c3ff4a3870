#include "client/demo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

DemoRow GoodRow() {
  DemoRow row;
  row.label = "How do airplanes fly? Explain the role of the wings.";
  row.prompt_tokens = 12;
  row.common_tokens = 5;
  row.reused_tokens = 5;
  row.similarity = 0.9;
  row.cold_first_token = 40;
  row.warm_first_token = 20;
  row.cold_total = 200;
  row.warm_total = 100;
  row.same_output = true;
  return row;
}

DemoReport GoodReport() { return {{GoodRow(), GoodRow()}, GoodRow()}; }

TEST(DemoTest, PassesWhenAllRowsReuseAndRepeat) {
  EXPECT_TRUE(DemoPassed(GoodReport()));
  EXPECT_THAT(DemoText(GoodReport()), HasSubstr("Every prompt reused all it could"));
}

TEST(DemoTest, AllowsOneTokenLessThanTheCommonPrefix) {
  DemoReport report = GoodReport();
  report.rows[1].reused_tokens = 4;
  EXPECT_TRUE(DemoPassed(report));
  report.rows[1].reused_tokens = 3;
  EXPECT_FALSE(DemoPassed(report));
}

TEST(DemoTest, FailsWhenNothingWasReused) {
  DemoReport report = GoodReport();
  report.rows[0].common_tokens = 0;
  report.rows[0].reused_tokens = 0;
  EXPECT_FALSE(DemoPassed(report));
}

TEST(DemoTest, FailsWhenAnOutputChanged) {
  DemoReport report = GoodReport();
  report.long_row.same_output = false;
  EXPECT_FALSE(DemoPassed(report));
  EXPECT_THAT(DemoText(report), HasSubstr("FAILED"));
}

TEST(DemoTest, FailsWithoutRows) { EXPECT_FALSE(DemoPassed({{}, GoodRow()})); }

TEST(DemoTest, AveragesInThePapersRows) {
  DemoReport report = GoodReport();
  report.rows[1].reused_tokens = 4;
  report.rows[1].warm_total = 150;
  report.rows[1].similarity = 0.7;
  const std::string text = DemoText(report);
  EXPECT_THAT(text, HasSubstr("37.50 %"));  // mean of 50 and 25
  EXPECT_THAT(text, HasSubstr("0.800"));
  EXPECT_THAT(text, ::testing::ContainsRegex("prompts with similarity > 0.8 +4/6 +1/2"));
  EXPECT_THAT(text, ::testing::ContainsRegex("tokens reused +38 +9\n"));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace reprise::client

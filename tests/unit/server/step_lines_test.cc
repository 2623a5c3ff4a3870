#include "server/step_lines.h"

#include <gtest/gtest.h>

#include <map>

namespace reprise::server {
namespace {

TEST(StepLinesTest, LineHasEachValueUnderItsName) {
  const StepTrace trace{absl::Seconds(9), 1, 2, 3, 4, 5, 6, 7, absl::Seconds(8), absl::Seconds(10)};
  const std::map<std::string, LogValue> expected = {
      {"start_seconds", 9.0},         {"sequences", int64_t{1}},
      {"prefill_tokens", int64_t{2}}, {"decode_tokens", int64_t{3}},
      {"preempted", int64_t{4}},      {"queued_requests", int64_t{5}},
      {"free_blocks", int64_t{6}},    {"available_blocks", int64_t{7}},
      {"schedule_seconds", 8.0},      {"runner_seconds", 10.0}};
  const LogFields fields = ToLogFields(trace);
  EXPECT_EQ((std::map<std::string, LogValue>(fields.begin(), fields.end())), expected);
  EXPECT_EQ(fields.size(), expected.size());
}

}  // namespace
}  // namespace reprise::server

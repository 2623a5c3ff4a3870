#include "server/status_map.h"

#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace reprise::server {
namespace {

template <typename Detail>
std::optional<Detail> FindDetail(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& any : rich.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

TEST(StatusMapTest, OkStaysOkWithoutDetails) {
  const grpc::Status status = ToGrpc(absl::OkStatus());
  EXPECT_TRUE(status.ok());
  EXPECT_TRUE(status.error_details().empty());
}

TEST(StatusMapTest, EveryErrorCodeKeepsItsNumberAndNamesItsReason) {
  for (int code = 1; code <= 16; ++code) {
    const auto absl_code = static_cast<absl::StatusCode>(code);
    const grpc::Status status = ToGrpc(absl::Status(absl_code, "why"));
    EXPECT_EQ(status.error_code(), code);
    EXPECT_EQ(status.error_message(), "why");
    const auto info = FindDetail<google::rpc::ErrorInfo>(status);
    ASSERT_TRUE(info.has_value()) << code;
    EXPECT_EQ(info->domain(), "reprise");
    EXPECT_EQ(info->reason(), CodeName(absl_code));
    EXPECT_EQ(info->reason().find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), std::string::npos);
  }
}

TEST(StatusMapTest, OnlyOverloadAndShutdownSayWhenToRetry) {
  for (int code = 1; code <= 16; ++code) {
    const auto absl_code = static_cast<absl::StatusCode>(code);
    const bool retry = absl_code == absl::StatusCode::kResourceExhausted ||
                       absl_code == absl::StatusCode::kUnavailable;
    const auto info = FindDetail<google::rpc::RetryInfo>(ToGrpc(absl::Status(absl_code, "why")));
    EXPECT_EQ(info.has_value(), retry) << CodeName(absl_code);
    if (info) {
      EXPECT_GT(info->retry_delay().seconds() + info->retry_delay().nanos(), 0);
    }
  }
}

TEST(StatusMapTest, FieldViolationNamesTheFieldInMessageAndDetail) {
  const grpc::Status status = ToGrpc(FieldViolation("sampling.top_p", "2, expected 0 to 1"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "sampling.top_p: 2, expected 0 to 1");
  const auto bad = FindDetail<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 1);
  EXPECT_EQ(bad->field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(bad->field_violations(0).description(), "sampling.top_p: 2, expected 0 to 1");
}

TEST(StatusMapTest, InvalidArgumentWithoutFieldHasNoViolation) {
  const grpc::Status status = ToGrpc(absl::InvalidArgumentError("why"));
  EXPECT_FALSE(FindDetail<google::rpc::BadRequest>(status).has_value());
}

TEST(StatusMapTest, LongMessageIsCutBetweenCharacters) {
  std::string text = "x";  // shifts the two-byte characters off the limit
  for (int i = 0; i < 1000; ++i) text += "\xC3\xA9";
  const grpc::Status status = ToGrpc(absl::NotFoundError(text));
  EXPECT_EQ(status.error_message(), text.substr(0, 1023));
  EXPECT_EQ(ToGrpc(absl::NotFoundError(std::string(5000, 'a'))).error_message(),
            std::string(1024, 'a'));
}

}  // namespace
}  // namespace reprise::server

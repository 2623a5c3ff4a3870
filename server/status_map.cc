#include "server/status_map.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace reprise::server {
namespace {

constexpr char kFieldPayload[] = "reprise/field";
constexpr size_t kMaxMessage = 1024;  // metadata has little room
constexpr int kRetrySeconds = 1;

// At most kMaxMessage bytes, cut between UTF-8 characters: protobuf strings must be valid.
std::string Shorten(absl::string_view text) {
  if (text.size() <= kMaxMessage) return std::string(text);
  size_t end = kMaxMessage;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end));
}

}  // namespace

absl::Status FieldViolation(absl::string_view field, absl::string_view description) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", description));
  status.SetPayload(kFieldPayload, absl::Cord(field));
  return status;
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = Shorten(status.message());
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_domain("reprise");
  info.set_reason(CodeName(status.code()));
  rich.add_details()->PackFrom(info);
  if (const auto field = status.GetPayload(kFieldPayload)) {
    google::rpc::BadRequest bad;
    auto& violation = *bad.add_field_violations();
    violation.set_field(std::string(*field));
    violation.set_description(message);
    rich.add_details()->PackFrom(bad);
  }
  if (absl::IsResourceExhausted(status) || absl::IsUnavailable(status)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetrySeconds);
    rich.add_details()->PackFrom(retry);
  }
  return {static_cast<grpc::StatusCode>(status.code()), message, rich.SerializeAsString()};
}

}  // namespace reprise::server

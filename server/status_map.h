// The one place where absl::Status becomes grpc::Status. Pure functions.
//
// Every error carries google.rpc.ErrorInfo (domain "reprise"); a bad field adds
// BadRequest, overload and shutdown add RetryInfo.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace reprise::server {

// kInvalidArgument about one request field.
absl::Status FieldViolation(absl::string_view field, absl::string_view description);

grpc::Status ToGrpc(const absl::Status& status);

// "INVALID_ARGUMENT"
std::string CodeName(absl::StatusCode code);

}  // namespace reprise::server

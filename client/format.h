// How replies are shown: one line for people, JSON for machines. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/message.h"
#include "reprise/admin/v1/cache_admin_service.pb.h"
#include "reprise/inference/v1/generation_service.pb.h"

namespace reprise::client {

double Milliseconds(const google::protobuf::Duration& duration);

// "REUSED" for REUSE_DECISION_REUSED with prefix "REUSE_DECISION_".
std::string EnumLabel(absl::string_view name, absl::string_view prefix);

// "reuse 8 of 13 prompt tokens (host 8, disk 0) REUSED/FASTER_TO_LOAD | ttft 31.2 ms …"
std::string SummaryLine(const inference::v1::Generation& generation);

std::string ExplanationText(const inference::v1::ExplainPromptResponse& explanation);
std::string StatsText(const admin::v1::GetCacheStatsResponse& stats);

// Compact JSON with the field names of the .proto files, zeros included.
std::string ToJson(const google::protobuf::Message& message);

// In one line that no terminal takes for commands: control characters become blanks.
std::string Printable(absl::string_view text);

// A table with padded columns; the first row is the header. Cells are made printable.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace reprise::client

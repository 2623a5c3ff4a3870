// CSV (RFC 4180, UTF-8): reads one column of a file with a header row, and writes rows.
//
// Errors  kNotFound: no such file; kInvalidArgument naming file, line and what
//         is wrong: no such column, an open quote, a row of another width, a
//         file over 16 MiB.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace reprise::client {

// The fields of one row, a line without its end.
absl::StatusOr<std::vector<std::string>> ParseCsvRow(absl::string_view line);

// The values of `column` in `text`; `name` is what errors call the source.
absl::StatusOr<std::vector<std::string>> ParseCsvColumn(absl::string_view text,
                                                        absl::string_view column,
                                                        absl::string_view name);

absl::StatusOr<std::vector<std::string>> ReadCsvColumn(const std::string& path,
                                                       absl::string_view column);

// One line with its end; fields that need it are quoted.
std::string CsvLine(const std::vector<std::string>& fields);

}  // namespace reprise::client

// The HTML report of one load test: one file that loads nothing.
//
// Threading  any thread; reads and writes files.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/report/run_files.h"

namespace reprise::client {

// The page of a run; a pure function.
std::string RenderReport(const LoadRun& run);

// Reads the run in `folder` and writes `folder`/report.html, or `output` if it is not empty.
// Errors: those of ReadRun; kUnavailable naming the file that cannot be written, which is then
// absent or in part.
absl::Status WriteHtmlReport(const std::string& folder, const std::string& output = "");

// kUnavailable naming the file.
absl::Status WriteTextFile(const std::string& path, const std::string& text);

}  // namespace reprise::client

// The files that a report's page carries, compiled in: charts.js and style.css of this folder, and
// uPlot (https://github.com/leeoniya/uPlot), which draws.
#pragma once

#include "absl/strings/string_view.h"

namespace reprise::client {

struct ReportAssets {
  absl::string_view script, style;
  absl::string_view library, library_style, library_license;
};

ReportAssets GetReportAssets();

}  // namespace reprise::client

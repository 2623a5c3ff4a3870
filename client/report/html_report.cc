#include "client/report/html_report.h"

#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/report/run_figures.h"
#include "client/report/run_values.h"
#include "client/report/sections.h"
#include "core/base/status_macros.h"

namespace reprise::client {

std::string RenderReport(const LoadRun& run) {
  Page page;
  page.title = absl::StrCat("Load test: ", TextIn(run.run, {"workload", "name"}));
  page.subtitle = Subtitle(run);
  std::string charts;
  for (const Figure& figure :
       {TtftFigure(run), InterTokenFigure(run), DepthFigure(run), PredictionFigure(run),
        LoadFigure(run), LatencyFigure(run), SourceFigure(run)}) {
    charts += RenderFigure(figure);
    page.charts.emplace_back(figure.key, figure.json);
  }
  page.body = absl::StrCat(
      Warnings(run), KeyFigures(run), Objectives(run), "<h2>At a glance</h2><div class=\"charts\">",
      charts, SourcesAndDecisions(run), "</div>\n", LatencyTables(run), OutcomeTables(run),
      "<div class=\"stack\">", SlowestRequests(run), "</div>", SetupTables(run));
  return RenderPage(page);
}

absl::Status WriteTextFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file.good()) return absl::FailedPreconditionError(absl::StrCat(path, ": cannot be written"));
  return absl::OkStatus();
}

absl::Status WriteHtmlReport(const std::string& folder, const std::string& output) {
  ASSIGN_OR_RETURN(const LoadRun run, ReadRun(folder));
  return WriteTextFile(output.empty() ? folder + "/report.html" : output, RenderReport(run));
}

}  // namespace reprise::client

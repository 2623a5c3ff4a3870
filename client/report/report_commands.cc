#include "client/report/report_commands.h"

#include <iostream>
#include <memory>
#include <string>

#include "client/format.h"
#include "client/load/bench_command.h"
#include "client/report/compare.h"
#include "client/report/html_report.h"

namespace reprise::client {
namespace {

struct Paths {
  std::string a, b, html;
};

int Report(const Paths& paths) {
  const std::string page = paths.html.empty() ? paths.a + "/report.html" : paths.html;
  const absl::Status written = WriteHtmlReport(paths.a, page);
  if (!written.ok()) return ReportFailure(written);
  std::cout << page << std::endl;
  return 0;
}

int Compare(const Paths& paths) {
  const auto a = ReadRun(paths.a);
  if (!a.ok()) return ReportFailure(a.status());
  const auto b = ReadRun(paths.b);
  if (!b.ok()) return ReportFailure(b.status());
  std::cout << "A: " << paths.a << "\nB: " << paths.b << "\n\n"
            << FormatTable(CompareRows(*a, *b)) << "\n"
            << PairedInWords(PairRequests(*a, *b)) << "\n";
  const HtmlTable differences = Differences(*a, *b);
  if (!differences.rows.empty()) {
    auto rows = differences.rows;
    rows.insert(rows.begin(), {"differs", "A", "B"});
    std::cout << "\n" << FormatTable(rows);
  }
  std::cout << std::flush;
  if (paths.html.empty()) return 0;
  const absl::Status written = WriteTextFile(paths.html, RenderComparison(*a, *b));
  return written.ok() ? 0 : ReportFailure(written);
}

void AddReportCommand(CLI::App& bench, Command& chosen) {
  CLI::App* command =
      bench.add_subcommand("report", "write the HTML report of a load test from its files");
  const auto paths = std::make_shared<Paths>();
  command->add_option("folder", paths->a, "what `bench --output` wrote")->required();
  command->add_option("--html", paths->html, "file to write instead of FOLDER/report.html");
  command->callback([paths, &chosen] { chosen = [paths] { return Report(*paths); }; });
}

void AddCompareCommand(CLI::App& bench, Command& chosen) {
  CLI::App* command = bench.add_subcommand("compare", "show two load tests side by side");
  const auto paths = std::make_shared<Paths>();
  command->add_option("a", paths->a, "folder of the first run")->required();
  command->add_option("b", paths->b, "folder of the second run")->required();
  command->add_option("--html", paths->html, "also write a page");
  command->callback([paths, &chosen] { chosen = [paths] { return Compare(*paths); }; });
}

}  // namespace

void AddLoadTestCommands(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  const auto html = std::make_shared<std::string>();
  CLI::App* bench = load::AddBenchCommand(app, globals, chosen, [html](const std::string& folder) {
    return html->empty() ? absl::OkStatus() : WriteHtmlReport(folder, *html);
  });
  bench->add_option("--html", *html, "also write the report as one HTML file, from --output's")
      ->needs(bench->get_option("--output"));
  AddReportCommand(*bench, chosen);
  AddCompareCommand(*bench, chosen);
}

}  // namespace reprise::client

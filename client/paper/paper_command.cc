#include <fstream>
#include <iostream>
#include <memory>

#include "client/commands.h"
#include "client/format.h"
#include "client/paper/paper_run.h"

namespace reprise::client {
namespace {

constexpr size_t kShownFailures = 10;

void AddOptions(CLI::App& command, PaperOptions& options) {
  const auto count = [&](const char* name, int& value, const char* help) {
    command.add_option(name, value, help)->check(CLI::Range(0, 100000))->capture_default_str();
  };
  command.add_option("--cache-prompts", options.cache_prompts, "CSV with a column text")
      ->capture_default_str();
  command.add_option("--test-prompts", options.test_prompts, "CSV with a column text")
      ->capture_default_str();
  command
      .add_option("--unrelated-prompts", options.unrelated_prompts,
                  "CSV with a column text: prompts that begin like no cached one")
      ->capture_default_str();
  count("--repeats", options.repeats, "rounds of these prompts; 0: none");
  count("--output-tokens", options.output_tokens,
        "most tokens of replies that may end early; 0: no such replies");
  count("--equal-tokens", options.equal_tokens,
        "tokens of replies of equal length; 0: no such replies");
  count("--depth-repeats", options.depth_repeats, "rounds of prompts of 16 to 512 cached tokens");
  command.add_option("--generated", options.generated, "generated prompts, once in B and P1")
      ->check(CLI::Range(0, 5000))
      ->capture_default_str();
  count("--generated-tokens", options.generated_tokens, "tokens of their replies");
  command.add_option("--concurrency", options.concurrency, "generated prompts at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of the generated prompts")->capture_default_str();
  command.add_flag("--purge", options.purge, "purge what the caller's tenant has cached");
}

// The requests as CSV, and beside them the model as JSON.
absl::Status Write(const PaperReport& report, const std::string& path) {
  std::ofstream csv(path), model(path + ".model.json");
  csv << PaperCsvHeader();
  for (const PaperRow& row : report.rows) csv << ToCsv(row);
  model << ToJson(report.model) << "\n";
  csv.close();
  model.close();
  if (csv && model) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
}

int Run(const GlobalOptions& globals, const PaperOptions& options, const std::string& output) {
  Client client = globals.Connect();
  const auto report = RunPaper(client, options);
  if (!report.ok()) return ReportFailure(report.status());
  if (const absl::Status written = Write(*report, output); !written.ok()) {
    return ReportFailure(written);
  }
  std::cout << PaperText(report->rows);
  const std::vector<std::string> failures = PaperFailures(report->rows);
  for (size_t i = 0; i < std::min(failures.size(), kShownFailures); ++i) {
    std::cout << "FAILED: " << failures[i] << "\n";
  }
  if (failures.empty()) {
    std::cout << "Every warm reply is the cold one, token for token.\n";
  } else {
    std::cout << failures.size() << " failures\n";
  }
  return failures.empty() ? 0 : kExitCheckFailed;
}

}  // namespace

void AddPaperCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "paper", "Run the paper's experiment: cold, reuse from memory, reuse by retrieval and load");
  auto options = std::make_shared<PaperOptions>();
  auto output = std::make_shared<std::string>("paper.csv");
  AddOptions(*command, *options);
  command->add_option("-o,--output", *output, "CSV file, a line for each request")
      ->capture_default_str();
  command->callback([=, &globals, &chosen] {
    chosen = [=, &globals] { return Run(globals, *options, *output); };
  });
}

}  // namespace reprise::client

// docs/metrics.md against the metrics themselves: | name | type | labels | meaning |.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/unit/telemetry/exposition.h"

namespace reprise {
namespace {

struct Row {
  std::string type, labels, meaning;
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path << ": run from the repository's root";
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::map<std::string, Row> ReadPage() {
  std::map<std::string, Row> rows;
  const std::vector<std::string> lines = absl::StrSplit(ReadFile("docs/metrics.md"), '\n');
  for (const std::string& line : lines) {
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (line.rfind("| `reprise_", 0) != 0) continue;
    if (cells.size() != 4) {
      ADD_FAILURE() << "four cells expected: " << line;
      continue;
    }
    const std::string name = cells[0].substr(3, cells[0].size() - 4);
    const std::string meaning = cells[3].substr(0, cells[3].rfind(" |"));
    EXPECT_TRUE(rows.emplace(name, Row{cells[1], cells[2], meaning}).second) << name << " twice";
  }
  return rows;
}

TEST(MetricsReferenceTest, ThePageHasEveryFamilyWithItsTypeLabelsAndHelp) {
  Metrics metrics;
  RecordEverything(metrics);
  const auto families = ParseExposition(metrics.Serialize());
  const auto rows = ReadPage();
  for (const auto& [name, family] : families) {
    const auto row = rows.find(name);
    if (row == rows.end()) {
      ADD_FAILURE() << name << " is missing in docs/metrics.md";
      continue;
    }
    EXPECT_EQ(row->second.type, family.type) << name;
    std::vector<std::string> labels;
    for (const std::string& label : family.LabelNames()) labels.push_back("`" + label + "`");
    EXPECT_EQ(row->second.labels, labels.empty() ? "–" : absl::StrJoin(labels, ", ")) << name;
    EXPECT_EQ(row->second.meaning.rfind(family.help, 0), 0u)
        << name << ": the meaning begins with the help text \"" << family.help << "\"";
  }
  for (const auto& [name, row] : rows) {
    EXPECT_TRUE(families.contains(name)) << name << " is on the page and nowhere else";
  }
}

TEST(MetricsReferenceTest, EveryNameInTheSourceIsExported) {
  Metrics metrics;
  RecordEverything(metrics);
  const auto families = ParseExposition(metrics.Serialize());
  const std::string source = ReadFile("core/telemetry/metrics.cc") +
                             ReadFile("core/telemetry/process_metrics.cc") +
                             ReadFile("core/telemetry/tenant_metrics.cc");
  const std::regex name("\"(reprise_\\w+)\"");
  size_t count = 0;
  for (std::sregex_iterator it(source.begin(), source.end(), name), end; it != end; ++it, ++count) {
    EXPECT_TRUE(families.contains((*it)[1])) << (*it)[1] << ": RecordEverything does not record it";
  }
  EXPECT_EQ(count, families.size());
}

}  // namespace
}  // namespace reprise

#include "tests/unit/telemetry/exposition.h"

#include <gtest/gtest.h>

#include <regex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace reprise {
namespace {

std::string Unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
    } else {
      ++i;
      out += text[i] == 'n' ? '\n' : text[i];
    }
  }
  return out;
}

Sample ParseSample(const std::string& line) {
  static const std::regex kSample(
      R"(([a-zA-Z_][a-zA-Z0-9_]*)(\{((?:[^"}]|"(?:[^"\\]|\\["\\n])*")*)\})? (\S+))");
  static const std::regex kLabel(R"re(([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(,|$))re");
  std::smatch match;
  Sample sample;
  if (!std::regex_match(line, match, kSample)) {
    ADD_FAILURE() << "no sample: " << line;
    return sample;
  }
  sample.name = match[1];
  EXPECT_TRUE(absl::SimpleAtod(match[4].str(), &sample.value)) << line;
  std::string labels = match[3];
  for (std::smatch label;
       std::regex_search(labels, label, kLabel, std::regex_constants::match_continuous);
       labels = label.suffix()) {
    EXPECT_TRUE(sample.labels.emplace(label[1], Unescape(label[2])).second) << line;
  }
  EXPECT_TRUE(labels.empty()) << line;
  return sample;
}

}  // namespace

std::set<std::string> MetricFamily::LabelNames() const {
  std::set<std::string> names;
  for (const Sample& sample : samples) {
    for (const auto& [name, value] : sample.labels) names.insert(name);
  }
  if (type == "histogram") names.erase("le");
  return names;
}

std::map<std::string, MetricFamily> ParseExposition(const std::string& text) {
  std::map<std::string, MetricFamily> families;
  std::string current;
  EXPECT_TRUE(text.empty() || text.back() == '\n');
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (const std::string& line : lines) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (words[0] == "#" && words.size() == 4 && words[1] == "HELP") {
      EXPECT_FALSE(families.contains(words[2])) << "one HELP a family: " << line;
      current = words[2];
      families[current].help = words[3];
    } else if (words[0] == "#" && words.size() == 4 && words[1] == "TYPE") {
      EXPECT_EQ(words[2], current) << "TYPE follows its HELP: " << line;
      families[words[2]].type = words[3];
    } else {
      Sample sample = ParseSample(line);
      std::string family = sample.name;
      if (families[current].type == "histogram") {
        for (const char* suffix : {"_bucket", "_sum", "_count"}) {
          family = std::string(absl::StripSuffix(family, suffix));
        }
      }
      EXPECT_EQ(family, current) << "a sample follows its TYPE: " << line;
      families[current].samples.push_back(std::move(sample));
    }
  }
  return families;
}

double SumOf(const Metrics& metrics, const std::string& name) {
  double sum = 0;
  for (const auto& [family, content] : ParseExposition(metrics.Serialize())) {
    for (const Sample& sample : content.samples) {
      if (sample.name == name) sum += sample.value;
    }
  }
  return sum;
}

RequestSummary FullSummary() {
  RequestSummary s;
  s.request_id = "id-1";
  s.method = "Generate";
  s.tenant = "tenant-1";
  s.code = "OK";
  s.finish_reason = "STOP";
  s.prompt_tokens = 100;
  s.cached_tokens = 60;
  s.computed_tokens = 40;
  s.output_tokens = 7;
  s.draft_tokens = 9;
  s.accepted_tokens = 5;
  s.ideal_tokens = 64;
  s.device_tokens = 10;
  s.host_tokens = 20;
  s.disk_tokens = 30;
  s.in_flight_tokens = 15;
  s.split_tokens = 16;
  s.disk_bytes_read = 4096;
  s.retrieval_mode = "HYBRID";
  s.decision = "REUSED";
  s.reason = "FASTER_TO_LOAD";
  s.miss_reason = "TOO_SHORT";
  s.candidate_status = "FOUND";
  s.candidate_id = "77";
  s.candidate_similarity = 0.5;
  s.candidate_common_tokens = 8;
  s.numerics_id = "numerics-1";
  s.exact = false;
  int milliseconds = 1;
  for (absl::Duration* time :
       {&s.queue, &s.tokenize, &s.lookup, &s.load, &s.prefill, &s.time_to_first_token, &s.decode,
        &s.total, &s.predicted_load, &s.predicted_prefill, &s.actual_load,
        &s.predicted_cold_prefill, &s.entry_age, &s.regret, &s.shared_wait, &s.predicted_total}) {
    *time = absl::Milliseconds(milliseconds++);
  }
  return s;
}

void RecordEverything(Metrics& metrics) {
  metrics.SetFacts({"1.2.3", "model", "numerics", "identity"});
  metrics.SetResidentMemory({1400, 1500});
  metrics.SetTenants({FullSummary().tenant});
  metrics.RequestStarted("Generate");
  metrics.RequestFinished(FullSummary());
  metrics.StepFinished(3, 2, absl::Milliseconds(5));
  metrics.Preempted(Preemption::kCache);
  metrics.InterTokenGap(absl::Milliseconds(6));
  metrics.SetEngineGauges({1, 2, 16, 4, 5, 6, 7, 8});
  metrics.SetStoreGauges({true, 9, 10, 11, 12, 13, 14});
  metrics.SetProcessUsage({1.5, 2.5, 30, 31, 32, 33, 34, 35, 36, 37});
  metrics.SegmentsDurable(12, 1200);
  metrics.SegmentRead(1300, absl::Milliseconds(7));
  metrics.SegmentCorrupt();
  metrics.SegmentsEvicted(14, 1400);
  metrics.SegmentCompressed("lossless", 1800);
  metrics.SegmentSkipped(WriteSkip::kEvicted, 1700);
  metrics.BlocksEvicted(15);
  metrics.SetNamespaceGauges({{"alice", 20, 21, 22, 23}});
  metrics.SegmentOverQuota("alice");
  metrics.StoreFailed(StoreFailure::kWrite);
  metrics.EmbeddingFinished(absl::Milliseconds(8));
  metrics.EmbeddingFailed();
  metrics.ShadowVerified(ShadowResult::kMismatch);
  metrics.EmbeddingDropped();
  metrics.LogLinesDropped(16);
}

}  // namespace reprise

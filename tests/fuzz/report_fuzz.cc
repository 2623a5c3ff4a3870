// The files of a load test: run.json up to the first empty line, then requests.jsonl; read, and
// made into pages.
#include <sstream>

#include "absl/strings/match.h"
#include "client/report/compare.h"
#include "client/report/html_report.h"
#include "core/base/json.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

size_t Count(absl::string_view text, absl::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != absl::string_view::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// Whatever the input names, the page has our three scripts and data that are JSON.
void CheckPage(absl::string_view page) {
  constexpr absl::string_view kData = "<script type=\"application/json\" id=\"data\">";
  const absl::string_view body = page.substr(page.find("<body>"));
  Require(Count(body, "<script") == 3 && Count(body, "</script") == 3, "three scripts");
  Require(Count(body, "<img") + Count(body, "<svg") + Count(body, "<iframe") == 0, "no markup");
  const absl::string_view data = body.substr(body.find(kData) + kData.size());
  Require(JsonValue::Parse(data.substr(0, data.find("</script"))).ok(), "the charts' data is JSON");
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  const std::string run =
      R"({"format_version": 1, "workload": {"name": "<script>x</script>", "notes": ["<img>"]},
"options": {"workload_seed": 1, "rate": 2.5}, "server": {"name": "m"},
"summary": {"totals": {"sent_count": 2, "host_token_count": 5}, "rates": {"hit_ratio": 0.5},
"codes": {"OK": 2}, "errors": {"</script>": 1}, "slo": [{"expression": "x", "met": true}],
"latency": {"client_ttft": {"formula": "a - b", "all": {"count": 2, "p50": 1.5}, "warm": null}},
"timeline": [{"second": 0, "completed_count": 2, "client_ttft_p50_ms": null}],
"warnings": [{"message": "<svg>"}]}})";
  const std::string warm =
      R"({"index": 0, "session": 0, "turn": 1, "label": "<svg onload=x>", "code": "OK", "client_ttft_ms": 1.5, )"
      R"("cached_token_count": 3, "prompt_token_count": 9, "inter_chunk_ms": [1, 2.5]})";
  const std::string cold =
      R"({"index": 1, "code": "OK", "client_ttft_ms": 2, "cached_token_count": 0, )"
      R"("server_prefill_ms": 3, "predicted_total_ms": 4, "predicted_cold_prefill_ms": 5, )"
      R"("finished_seconds": 7.5, "computed_token_count": 8, "inter_chunk_ms": [1e300, -1]})";
  return {run + "\n\n" + warm + "\n" + cold, "{\"format_version\": 1, \"summary\": {}}\n\n{}"};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reprise::fuzz::Text(data, size));
  const size_t end = std::min(text.find("\n\n"), text.size());
  std::istringstream requests(text.substr(std::min(end + 2, text.size())));
  const auto run = reprise::client::ParseRun("fuzz", text.substr(0, end), requests);
  if (!run.ok()) return 0;
  reprise::fuzz::CheckPage(reprise::client::RenderReport(*run));
  reprise::fuzz::CheckPage(reprise::client::RenderComparison(*run, *run));
  return 0;
}

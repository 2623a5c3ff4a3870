#include "client/paper/paper_record.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/csv.h"

namespace reprise::client {
namespace {

std::string Number(double value) { return absl::StrFormat("%.6g", value); }

std::string Number(const std::optional<double>& value) { return value ? Number(*value) : ""; }

}  // namespace

std::string PaperCsvHeader() {
  return CsvLine({"set",
                  "arm",
                  "ends",
                  "repeat",
                  "prompt",
                  "text",
                  "prompt_tokens",
                  "common_tokens",
                  "reused_tokens",
                  "disk_tokens",
                  "output_tokens",
                  "prompt_similarity",
                  "client_ms",
                  "total_ms",
                  "first_token_ms",
                  "tokenize_ms",
                  "queue_ms",
                  "lookup_ms",
                  "load_ms",
                  "actual_load_ms",
                  "prefill_ms",
                  "decode_ms",
                  "finish",
                  "similarity_new",
                  "similarity_equal_lengths",
                  "similarity_as_published",
                  "fed",
                  "output",
                  "reply"});
}

std::string ToCsv(const PaperRow& row) {
  std::vector<std::string> fields = {row.set, row.arm, row.ends};
  for (const int count : {row.repeat, row.prompt}) fields.push_back(absl::StrCat(count));
  fields.push_back(row.label);
  for (const int count : {row.prompt_tokens, row.common_tokens, row.reused_tokens, row.disk_tokens,
                          row.output_tokens}) {
    fields.push_back(absl::StrCat(count));
  }
  fields.push_back(Number(row.prompt_similarity));
  const PaperTimes& t = row.times;
  for (const double ms : {t.client, t.total, t.first_token, t.tokenize, t.queue, t.lookup, t.load,
                          t.actual_load, t.prefill, t.decode}) {
    fields.push_back(Number(ms));
  }
  fields.push_back(row.finish);
  const OutputSimilarity s = row.similarity.value_or(OutputSimilarity());
  for (const double value : {s.new_tokens, s.equal_lengths, s.as_published}) {
    fields.push_back(row.similarity ? Number(value) : "");
  }
  fields.insert(fields.end(), {row.fed, absl::StrJoin(row.output, " "), row.reply});
  return CsvLine(fields);
}

}  // namespace reprise::client

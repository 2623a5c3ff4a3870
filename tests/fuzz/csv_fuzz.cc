// CSV files of the demo.
#include "client/csv.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {

std::vector<std::string> FuzzSeeds() {
  return {"text\nhello\nworld\n", "id,text\r\n1,\"a \"\"quoted\"\", one\"\r\n2,\"two\nlines\"\r\n",
          "text,text\n,\n", "\"text\"\n\"\"", ReadSeed("tests/data/paper/test_prompts.csv")};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  const auto values = client::ParseCsvColumn(fuzz::Text(data, size), "text", "fuzz.csv");
  if (!values.ok()) return 0;
  size_t bytes = 0;
  for (const std::string& value : *values) bytes += value.size();
  fuzz::Require(bytes + values->size() <= size, "values come from the text");
  // Writing the column and reading it again gives the same values.
  std::string again = "text";
  for (const std::string& value : *values) {
    again += "\n\"";
    for (const char c : value) again += c == '"' ? "\"\"" : std::string(1, c);
    again += '"';
  }
  const auto reread = client::ParseCsvColumn(again, "text", "again.csv");
  fuzz::Require(reread.ok() && *reread == *values, "a column survives being written");
  return 0;
}

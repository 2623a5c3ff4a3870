#include "client/csv.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"

namespace reprise::client {
namespace {

constexpr size_t kMaxBytes = size_t{16} << 20;

using Row = std::vector<std::string>;

// Takes one row after another off a CSV text.
class RowReader {
 public:
  RowReader(absl::string_view text, absl::string_view name) : text_(text), name_(name) {}

  bool Done() const { return at_ >= text_.size(); }
  int line() const { return line_; }

  absl::StatusOr<Row> Next() {
    Row row;
    row_line_ = line_;
    do {
      ASSIGN_OR_RETURN(std::string field, Field());
      row.push_back(std::move(field));
    } while (Take(','));
    Take('\r');
    if (!Done() && !Take('\n')) return Error("text after a closing quote");
    ++line_;
    return row;
  }

  absl::Status Error(absl::string_view problem) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ":", row_line_, ": ", problem));
  }

 private:
  bool Take(char c) {
    if (Done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  absl::StatusOr<std::string> Field() {
    if (Take('"')) return QuotedField();
    const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string field(text_.substr(at_, end - at_));
    at_ = end;
    return field;
  }

  absl::StatusOr<std::string> QuotedField() {
    std::string field;
    while (!Done()) {
      const char c = text_[at_++];
      if (c == '\n') ++line_;
      if (c == '"' && !Take('"')) return field;
      field.push_back(c);
    }
    return Error("a quoted field is never closed");
  }

  absl::string_view text_;
  absl::string_view name_;
  size_t at_ = 0;
  int line_ = 1;
  int row_line_ = 1;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseCsvRow(absl::string_view line) {
  RowReader reader(line, "row");
  ASSIGN_OR_RETURN(Row row, reader.Next());
  if (!reader.Done()) return reader.Error("goes on after its end");
  return row;
}

absl::StatusOr<std::vector<std::string>> ParseCsvColumn(absl::string_view text,
                                                        absl::string_view column,
                                                        absl::string_view name) {
  RowReader reader(text, name);
  ASSIGN_OR_RETURN(const Row header, reader.Next());
  const auto found = std::find(header.begin(), header.end(), column);
  if (found == header.end()) return reader.Error(absl::StrCat("no column \"", column, "\""));
  const size_t index = found - header.begin();
  std::vector<std::string> values;
  while (!reader.Done()) {
    ASSIGN_OR_RETURN(Row row, reader.Next());
    if (row.size() != header.size()) {
      return reader.Error(absl::StrCat(row.size(), " fields, the header has ", header.size()));
    }
    values.push_back(std::move(row[index]));
  }
  return values;
}

absl::StatusOr<std::vector<std::string>> ReadCsvColumn(const std::string& path,
                                                       absl::string_view column) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is larger than the limit of ", kMaxBytes, " bytes"));
  }
  return ParseCsvColumn(text, column, path);
}

std::string CsvLine(const std::vector<std::string>& fields) {
  return absl::StrJoin(
             fields, ",",
             [](std::string* out, const std::string& field) {
               const bool plain = field.find_first_of(",\"\r\n") == std::string::npos;
               absl::StrAppend(
                   out,
                   plain ? field
                         : absl::StrCat("\"", absl::StrReplaceAll(field, {{"\"", "\"\""}}), "\""));
             }) +
         "\n";
}

}  // namespace reprise::client

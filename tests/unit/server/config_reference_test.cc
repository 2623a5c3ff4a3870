// docs/configuration.md against the schema, the default file and the checks:
// | path | type | default | range | meaning |.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "server/config_loader.h"

namespace reprise::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

struct Row {
  std::string type, value, range, meaning;
};

std::map<std::string, Row> ReadPage() {
  std::ifstream file("docs/configuration.md");
  EXPECT_TRUE(file.good()) << "run from the repository's root";
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  std::map<std::string, Row> rows;
  for (const std::string& line : lines) {
    if (!absl::StartsWith(line, "| `")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (cells.size() != 5) {
      ADD_FAILURE() << "five cells expected: " << line;
      continue;
    }
    const std::string path = cells[0].substr(3, cells[0].size() - 4);
    EXPECT_TRUE(rows.emplace(path, Row{cells[1], cells[2], cells[3], cells[4]}).second) << path;
  }
  return rows;
}

bool IsDuration(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         field->message_type()->full_name() == "google.protobuf.Duration";
}

// A field of what a list holds has no default of its own; what may be in it, the pages of its
// section say, and tests of the checks hold.
constexpr char kInList[] = "[].";

std::string TypeName(const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return "string";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "bool";
    case FieldDescriptor::CPPTYPE_ENUM:
      return "enum";
    case FieldDescriptor::CPPTYPE_INT32:
      return "int32";
    case FieldDescriptor::CPPTYPE_INT64:
      return "int64";
    default:
      return IsDuration(field) ? "duration" : "unknown";
  }
}

// Names of an enum's values as the file spells them, less the unset one.
std::vector<std::string> EnumNames(const FieldDescriptor* field) {
  const auto* type = field->enum_type();
  const std::string unset = type->value(0)->name();
  const size_t prefix = unset.size() - std::string("UNSPECIFIED").size();
  std::vector<std::string> names;
  for (int i = 1; i < type->value_count(); ++i) {
    names.push_back(type->value(i)->name().substr(prefix));
  }
  return names;
}

std::string ValueText(const Message& message, const FieldDescriptor* field) {
  const auto* r = message.GetReflection();
  std::string text;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      text = r->GetString(message, field);
      return text.empty() ? "empty" : text;
    case FieldDescriptor::CPPTYPE_BOOL:
      return r->GetBool(message, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumNames(field)[r->GetEnumValue(message, field) - 1];
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(r->GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(r->GetInt64(message, field));
    default: {
      const auto& duration =
          static_cast<const google::protobuf::Duration&>(r->GetMessage(message, field));
      return absl::FormatDuration(absl::Seconds(duration.seconds()) +
                                  absl::Nanoseconds(duration.nanos()));
    }
  }
}

bool Accepts(const std::string& path, const std::string& value) {
  // Room for each limit on calls alone, whatever they are together.
  std::vector<std::string> settings = {"listen.max_concurrent_rpcs=100000",
                                       "engine.max_queued_requests=1",
                                       "engine.max_running_sequences=1"};
  // A file of TLS needs the others beside it.
  const std::string tls = path.substr(0, path.rfind('.'));
  if (absl::EndsWith(path, "_file") && absl::EndsWith(tls, "_tls") && !value.empty()) {
    settings.push_back(absl::StrCat(tls, ".certificate_file=c"));
    settings.push_back(absl::StrCat(tls, ".key_file=k"));
  }
  settings.push_back(absl::StrCat(path, "=", value));
  return LoadConfig("", settings).ok();
}

// Whether the server's checks are those that `range` says.
void CheckRange(const std::string& path, const FieldDescriptor* field, const std::string& range) {
  const std::vector<std::string> ends = absl::StrSplit(range, " to ");
  int64_t low = 0, high = 0;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    const std::vector<std::string> listed = absl::StrSplit(range, ", ");
    for (const std::string& name : EnumNames(field)) {
      const bool is_listed = std::find(listed.begin(), listed.end(), name) != listed.end();
      EXPECT_EQ(Accepts(path, name), is_listed) << path << "=" << name;
    }
  } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
    EXPECT_EQ(range, "true, false") << path;
  } else if (IsDuration(field)) {
    ASSERT_EQ(range, "0s to 24h") << path;
    EXPECT_TRUE(Accepts(path, "0s") && Accepts(path, "24h")) << path;
    EXPECT_FALSE(Accepts(path, "-1ns") || Accepts(path, "24h1ns")) << path;
  } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    ASSERT_TRUE(range == "any" || range == "not empty" || range == "host:port") << path;
    EXPECT_EQ(Accepts(path, ""), range == "any") << path;
    EXPECT_EQ(Accepts(path, "some text"), range != "host:port") << path;
  } else {
    ASSERT_EQ(ends.size(), 2u) << path;
    ASSERT_TRUE(absl::SimpleAtoi(ends[0], &low) && absl::SimpleAtoi(ends[1], &high)) << path;
    EXPECT_TRUE(Accepts(path, ends[0]) && Accepts(path, ends[1])) << path;
    EXPECT_FALSE(Accepts(path, absl::StrCat(low - 1)) || Accepts(path, absl::StrCat(high + 1)))
        << path;
  }
}

// Checks the rows of `message`'s fields, adding their paths to `paths`.
void CheckMessage(const Message& message, const std::string& prefix,
                  const std::map<std::string, Row>& rows, std::vector<std::string>& paths) {
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    if (field->is_repeated()) {
      auto* factory = message.GetReflection()->GetMessageFactory();
      CheckMessage(*factory->GetPrototype(field->message_type()), path + kInList, rows, paths);
      continue;
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsDuration(field)) {
      CheckMessage(message.GetReflection()->GetMessage(message, field), path + ".", rows, paths);
      continue;
    }
    paths.push_back(path);
    const auto row = rows.find(path);
    if (row == rows.end()) {
      ADD_FAILURE() << path << " is missing in docs/configuration.md";
      continue;
    }
    EXPECT_EQ(row->second.type, TypeName(field)) << path;
    EXPECT_GT(row->second.meaning.size(), 5u) << path;
    if (absl::StrContains(path, kInList)) {
      EXPECT_EQ(row->second.value, "–") << path;
      continue;
    }
    EXPECT_EQ(row->second.value, ValueText(message, field)) << path;
    CheckRange(path, field, row->second.range);
  }
}

TEST(ConfigReferenceTest, ThePageHasEveryFieldWithItsTypeDefaultAndRange) {
  const auto config = LoadConfig("", {});
  ASSERT_TRUE(config.ok()) << config.status();
  const auto rows = ReadPage();
  std::vector<std::string> paths;
  CheckMessage(*config, "", rows, paths);
  EXPECT_EQ(paths.size(), rows.size()) << "the page has a row for no field";
  EXPECT_GT(paths.size(), 20u);
}

}  // namespace
}  // namespace reprise::server

#include "server/config_loader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/engine/prompt_lookup.h"
#include "server/kv_config.h"
#include "server/security_config.h"

namespace reprise::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kMaxConfigBytes = size_t{1} << 20;
constexpr int kMaxDepth = 16;  // the schema needs three
constexpr absl::Duration kMaxDuration = absl::Hours(24);
constexpr absl::string_view kDurationRange = "0s to 24h";

struct Place {
  std::string source;  // file or "--set"
  std::string path;    // "cache.store"

  absl::Status Error(const YAML::Node& node, absl::string_view problem) const {
    const YAML::Mark mark = node.Mark();
    const std::string line = mark.is_null() ? "" : absl::StrCat(":", mark.line + 1);
    const absl::string_view where = path.empty() ? "document" : absl::string_view(path);
    return absl::InvalidArgumentError(absl::StrCat(source, line, ": ", where, ": ", problem));
  }
  Place Child(const std::string& key) const {
    return {source, path.empty() ? key : absl::StrCat(path, ".", key)};
  }
};

absl::Status MergeMap(const YAML::Node& node, const Place& place, Message& message);

bool IsMessage(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

// Durations are messages in the schema and single values in the file.
bool IsDuration(const FieldDescriptor* field) {
  return IsMessage(field) && field->message_type()->full_name() == "google.protobuf.Duration";
}

// Follows a parse and stops it where a small file would become a deep or large
// tree, before the tree is made.
class ShapeCheck final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw YAML::ParserException(mark, "more than one document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YAML::ParserException(mark, "aliases (*name) are not allowed");
  }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Enter(mark);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Enter(mark);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void Enter(const YAML::Mark& mark) {
    if (++depth_ <= kMaxDepth) return;
    throw YAML::ParserException(mark, absl::StrCat("nested deeper than ", kMaxDepth, " levels"));
  }

  int documents_ = 0;
  int depth_ = 0;
};

YAML::Node ParseChecked(const std::string& yaml) {
  std::istringstream stream(yaml);
  YAML::Parser parser(stream);
  ShapeCheck check;
  while (parser.HandleNextDocument(check)) {
  }
  return YAML::Load(yaml);
}

absl::Status SetDuration(const YAML::Node& node, const Place& place, Message& message) {
  if (!node.IsScalar()) return place.Error(node, "expected a duration");
  absl::Duration duration;
  if (!absl::ParseDuration(node.Scalar(), &duration) || duration < absl::ZeroDuration() ||
      duration > kMaxDuration) {
    return place.Error(node, absl::StrCat("expected a duration of ", kDurationRange,
                                          ", such as 30s or 500ms, found \"", node.Scalar(), "\""));
  }
  const Descriptor* type = message.GetDescriptor();
  const auto* reflection = message.GetReflection();
  absl::Duration rest;
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &rest);
  reflection->SetInt64(&message, type->FindFieldByName("seconds"), seconds);
  reflection->SetInt32(&message, type->FindFieldByName("nanos"),
                       static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return absl::OkStatus();
}

// "RETRIEVAL_MODE_": how the schema's enums begin their values.
std::string ValuePrefix(const FieldDescriptor* field) {
  std::string prefix;
  for (const char c : field->enum_type()->name()) {
    if (absl::ascii_isupper(c) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(c);
  }
  return prefix + "_";
}

absl::Status SetEnum(const YAML::Node& node, const Place& place, const FieldDescriptor* field,
                     Message& message) {
  const std::string prefix = ValuePrefix(field);
  const auto* type = field->enum_type();
  const auto* value = type->FindValueByName(absl::StrCat(prefix, node.Scalar()));
  if (value == nullptr) value = type->FindValueByName(node.Scalar());
  if (value == nullptr || value->number() == 0) {
    std::string names;
    for (int i = 1; i < type->value_count(); ++i) {
      absl::StrAppend(&names, i > 1 ? ", " : "", type->value(i)->name().substr(prefix.size()));
    }
    return place.Error(node,
                       absl::StrCat("expected one of ", names, ", found \"", node.Scalar(), "\""));
  }
  message.GetReflection()->SetEnum(&message, field, value);
  return absl::OkStatus();
}

absl::Status SetScalar(const YAML::Node& node, const Place& place, const FieldDescriptor* field,
                       Message& message) {
  if (!node.IsScalar()) return place.Error(node, "expected a single value");
  const std::string& text = node.Scalar();
  const auto* reflection = message.GetReflection();
  const auto mismatch = [&](const char* expected) {
    return place.Error(node, absl::StrCat("expected ", expected, ", found \"", text, "\""));
  };
  int64_t number = 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      reflection->SetString(&message, field, text);
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_ENUM:
      return SetEnum(node, place, field, message);
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return mismatch("true or false");
      reflection->SetBool(&message, field, text == "true");
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_INT32:
      if (!absl::SimpleAtoi(text, &number)) return mismatch("an integer");
      if (number != static_cast<int32_t>(number)) {
        return mismatch("an integer of -2147483648 to 2147483647");
      }
      reflection->SetInt32(&message, field, static_cast<int32_t>(number));
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_INT64:
      if (!absl::SimpleAtoi(text, &number)) return mismatch("an integer below 2^63");
      reflection->SetInt64(&message, field, number);
      return absl::OkStatus();
    default:
      return mismatch("a value of another type");
  }
}

// A list takes the place of what was there.
absl::Status SetList(const YAML::Node& node, const Place& place, const FieldDescriptor* field,
                     Message& message) {
  if (!node.IsSequence()) return place.Error(node, "expected a list");
  const auto* reflection = message.GetReflection();
  reflection->ClearField(&message, field);
  for (size_t i = 0; i < node.size(); ++i) {
    const Place item{place.source, absl::StrCat(place.path, "[", i, "]")};
    RETURN_IF_ERROR(MergeMap(node[i], item, *reflection->AddMessage(&message, field)));
  }
  return absl::OkStatus();
}

absl::Status SetField(const YAML::Node& node, const Place& place, const FieldDescriptor* field,
                      Message& message) {
  if (field->is_repeated()) return SetList(node, place, field, message);
  if (!IsMessage(field)) return SetScalar(node, place, field, message);
  Message& child = *message.GetReflection()->MutableMessage(&message, field);
  return IsDuration(field) ? SetDuration(node, place, child) : MergeMap(node, place, child);
}

absl::Status MergeMap(const YAML::Node& node, const Place& place, Message& message) {
  if (node.IsNull()) return absl::OkStatus();
  if (!node.IsMap()) return place.Error(node, "expected a map");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) return place.Error(entry.first, "expected a key");
    const std::string key = entry.first.Scalar();
    const Place child = place.Child(key);
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key);
    if (field == nullptr) return child.Error(entry.first, "unknown key");
    if (!seen.insert(key).second) return child.Error(entry.first, "given twice");
    RETURN_IF_ERROR(SetField(entry.second, child, field, message));
  }
  return absl::OkStatus();
}

// At most one byte past the limit, so that the caller sees a larger file (or a
// device without end) as too large.
absl::StatusOr<std::string> ReadConfigFile(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return absl::NotFoundError(absl::StrCat("cannot open config file ", file));
  std::string text(kMaxConfigBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read config file ", file));
  }
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

// The value of a setting: a list is written as YAML, all else as it is.
absl::Status SetValue(const std::string& value, const std::string& path,
                      const FieldDescriptor* field, Message& message) {
  const Place place{"--set", path};
  if (!field->is_repeated()) return SetField(YAML::Node(value), place, field, message);
  if (value.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", path, ": more than ", kMaxConfigBytes, " bytes"));
  }
  try {
    return SetField(ParseChecked(value), place, field, message);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", path, ": ", error.msg));
  }
}

absl::Status CheckRange(absl::string_view path, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", value, ", expected ", low, " to ", high));
}

absl::Status CheckAddress(absl::string_view path, const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  const bool ok = colon != std::string::npos && colon > 0 &&
                  absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 0 && port <= 65535;
  if (ok) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": \"", address, "\", expected host:port with a port of 0 to 65535"));
}

// Each request that runs or waits holds its call: with no call to spare the queue could
// never be full, and nothing else would be answered.
absl::Status CheckCallLimit(const config::v1::ServerConfig& c) {
  const int64_t queued = c.engine().max_queued_requests();
  const int64_t running = c.engine().max_running_sequences();
  if (c.listen().max_concurrent_rpcs() > queued + running) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("listen.max_concurrent_rpcs: ", c.listen().max_concurrent_rpcs(),
                   ", expected more than engine.max_queued_requests ", queued,
                   " + engine.max_running_sequences ", running));
}

absl::Status CheckLimits(const config::v1::ServerConfig& c) {
  constexpr int64_t kHuge = int64_t{1} << 50;
  const auto& store = c.cache().store();
  const auto& generation = c.generation();
  struct Limit {
    const char* path;
    int64_t value, low, high;
  };
  for (const Limit& limit :
       {Limit{"listen.max_concurrent_rpcs", c.listen().max_concurrent_rpcs(), 3, 100000},
        Limit{"listen.max_message_bytes", c.listen().max_message_bytes(), 1024, 1 << 30},
        Limit{"model.thread_count", c.model().thread_count(), 0, 256},
        Limit{"model.device_index", c.model().device_index(), 0, 1023},
        Limit{"engine.max_queued_requests", c.engine().max_queued_requests(), 1, 65536},
        Limit{"engine.max_running_sequences", c.engine().max_running_sequences(), 1, 4096},
        Limit{"engine.max_batch_tokens", c.engine().max_batch_tokens(), 1, 65536},
        Limit{"engine.max_decode_slowdown_percent", c.engine().max_decode_slowdown_percent(), 1,
              100000},
        Limit{"engine.max_step_draft_tokens", c.engine().max_step_draft_tokens(), 0, 65536},
        Limit{"cache.minimum_reuse_token_count", c.cache().minimum_reuse_token_count(), 0, 1 << 24},
        Limit{"cache.shadow_verify_percent", c.cache().shadow_verify_percent(), 0, 100},
        Limit{"cache.host_bytes", c.cache().host_bytes(), 1 << 20, kHuge},
        Limit{"cache.device_bytes", c.cache().device_bytes(), 1 << 20, kHuge},
        Limit{"cache.store.max_bytes", c.cache().store().max_bytes(), 0, kHuge},
        Limit{"cache.store.write_buffer_bytes", store.write_buffer_bytes(), 1 << 20, 1 << 30},
        Limit{"cache.store.write_bytes_per_second", store.write_bytes_per_second(), 0, kHuge},
        Limit{"cache.similarity.top_k", c.cache().similarity().top_k(), 1, 1000},
        Limit{"generation.default_max_output_tokens", generation.default_max_output_tokens(), 0,
              1 << 24},
        Limit{"generation.speculation.max_draft_tokens",
              generation.speculation().max_draft_tokens(), 1, kMaxDraftTokens}}) {
    RETURN_IF_ERROR(CheckRange(limit.path, limit.value, limit.low, limit.high));
  }
  return absl::OkStatus();
}

absl::Status CheckText(absl::string_view path, const std::string& text) {
  if (!text.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": empty"));
}

}  // namespace

absl::Status MergeYaml(absl::string_view yaml, absl::string_view name,
                       config::v1::ServerConfig& config) {
  if (yaml.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": more than ", kMaxConfigBytes, " bytes"));
  }
  try {
    return MergeMap(ParseChecked(std::string(yaml)), {std::string(name), ""}, config);
  } catch (const YAML::Exception& error) {
    const std::string line = error.mark.is_null() ? "" : absl::StrCat(":", error.mark.line + 1);
    return absl::InvalidArgumentError(absl::StrCat(name, line, ": ", error.msg));
  }
}

absl::Status MergeSetting(absl::string_view setting, config::v1::ServerConfig& config) {
  const size_t equals = setting.find('=');
  if (equals == absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", setting, ": expected path=value"));
  }
  const std::string path(setting.substr(0, equals));
  const std::vector<std::string> keys = absl::StrSplit(path, '.');
  Message* message = &config;
  for (size_t i = 0; i < keys.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(keys[i]);
    const bool last = i + 1 == keys.size();
    const bool leads_on =
        field != nullptr && IsMessage(field) && !IsDuration(field) && !field->is_repeated();
    if (field == nullptr || (!last && !leads_on)) {
      return absl::InvalidArgumentError(absl::StrCat("--set ", path, ": unknown key"));
    }
    if (last) return SetValue(std::string(setting.substr(equals + 1)), path, field, *message);
    message = message->GetReflection()->MutableMessage(message, field);
  }
  return absl::OkStatus();
}

absl::Status ValidateConfig(const config::v1::ServerConfig& c) {
  RETURN_IF_ERROR(CheckAddress("listen.inference", c.listen().inference()));
  RETURN_IF_ERROR(CheckAddress("listen.admin", c.listen().admin()));
  RETURN_IF_ERROR(CheckAddress("listen.http", c.listen().http()));
  RETURN_IF_ERROR(CheckText("model.path", c.model().path()));
  RETURN_IF_ERROR(CheckText("cache.default_tenant", c.cache().default_tenant()));
  RETURN_IF_ERROR(CheckText("cache.store.path", c.cache().store().path()));
  RETURN_IF_ERROR(CheckKvFormat(c));
  const auto& similarity = c.cache().similarity();
  if (c.cache().retrieval_mode() == config::v1::RETRIEVAL_MODE_SEMANTIC && !similarity.enabled()) {
    return absl::InvalidArgumentError(
        "cache.retrieval_mode: SEMANTIC, which needs cache.similarity.enabled: true");
  }
  if (similarity.enabled()) {
    RETURN_IF_ERROR(CheckText("cache.similarity.encoder_path", similarity.encoder_path()));
  }
  RETURN_IF_ERROR(CheckLimits(c));
  RETURN_IF_ERROR(CheckSecurity(c));
  return CheckCallLimit(c);
}

absl::StatusOr<config::v1::ServerConfig> LoadConfig(const std::string& file,
                                                    const std::vector<std::string>& settings) {
  config::v1::ServerConfig config;
  RETURN_IF_ERROR(MergeYaml(DefaultConfigYaml(), "default.yaml", config));
  if (!file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadConfigFile(file));
    RETURN_IF_ERROR(MergeYaml(text, file, config));
  }
  for (const std::string& setting : settings) RETURN_IF_ERROR(MergeSetting(setting, config));
  RETURN_IF_ERROR(ValidateConfig(config));
  return config;
}

}  // namespace reprise::server

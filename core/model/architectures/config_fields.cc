#include "core/model/architectures/config_fields.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr int64_t kMaxSize = 1 << 24;

absl::StatusOr<int32_t> CheckSize(absl::string_view field, int64_t size) {
  if (size >= 1 && size <= kMaxSize) return static_cast<int32_t>(size);
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", size, ", expected 1 to ", kMaxSize));
}

absl::StatusOr<RopeConfig::Scaling> ReadScaling(const std::string& type) {
  if (type == "default") return RopeConfig::Scaling::kNone;
  if (type == "linear") return RopeConfig::Scaling::kLinear;
  if (type == "dynamic") return RopeConfig::Scaling::kDynamic;
  if (type == "yarn") return RopeConfig::Scaling::kYarn;
  if (type == "llama3") return RopeConfig::Scaling::kLlama3;
  return absl::InvalidArgumentError(
      absl::StrCat("config.json: rope type is \"", type,
                   "\", expected default, linear, dynamic, yarn or llama3"));
}

}  // namespace

absl::Status ReadSize(const JsonValue& json, std::initializer_list<const char*> keys,
                      int32_t& out) {
  for (const char* key : keys) {
    if (!json.Has(key)) continue;
    ASSIGN_OR_RETURN(const JsonValue value, json.Get(key));
    ASSIGN_OR_RETURN(const int64_t size, value.AsInt());
    ASSIGN_OR_RETURN(out, CheckSize(absl::StrCat("config.json: ", key), size));
    return absl::OkStatus();
  }
  if (out > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", *keys.begin(), " is missing"));
}

absl::Status ReadSize(const GgufFile& file, const std::string& key, int32_t& out) {
  ASSIGN_OR_RETURN(const int64_t size, file.Int(key));
  ASSIGN_OR_RETURN(out, CheckSize(key, size));
  return absl::OkStatus();
}

absl::Status ReadSizeIfThere(const GgufFile& file, const std::string& key, int32_t& out) {
  return file.Has(key) ? ReadSize(file, key, out) : absl::OkStatus();
}

absl::Status CheckText(const JsonValue& json, const char* key,
                       std::initializer_list<const char*> expected) {
  ASSIGN_OR_RETURN(const std::string text, json.StringOr(key, *expected.begin()));
  if (std::find(expected.begin(), expected.end(), text) != expected.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", key, " is \"", text,
                                                 "\", expected ", absl::StrJoin(expected, " or ")));
}

absl::Status CheckFalse(const JsonValue& json, const char* key) {
  ASSIGN_OR_RETURN(const bool value, json.BoolOr(key, false));
  if (!value) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", key, " is true, expected false"));
}

absl::Status ReadLlamaSizes(const JsonValue& json, ModelConfig& config) {
  RETURN_IF_ERROR(ReadSize(json, {"vocab_size"}, config.vocabulary_size));
  RETURN_IF_ERROR(ReadSize(json, {"num_hidden_layers"}, config.num_layers));
  RETURN_IF_ERROR(ReadSize(json, {"hidden_size"}, config.hidden_size));
  RETURN_IF_ERROR(ReadSize(json, {"num_attention_heads"}, config.num_heads));
  RETURN_IF_ERROR(ReadSize(json, {"intermediate_size"}, config.intermediate_size));
  RETURN_IF_ERROR(ReadSize(json, {"max_position_embeddings"}, config.context_length));
  if (config.num_kv_heads == 0) config.num_kv_heads = config.num_heads;
  RETURN_IF_ERROR(ReadSize(json, {"num_key_value_heads"}, config.num_kv_heads));
  if (config.head_dim == 0) config.head_dim = config.hidden_size / config.num_heads;
  RETURN_IF_ERROR(ReadSize(json, {"head_dim"}, config.head_dim));
  ASSIGN_OR_RETURN(config.norm_epsilon, json.DoubleOr("rms_norm_eps", 1e-6));
  return absl::OkStatus();
}

absl::Status ReadRope(const JsonValue& json, const ModelConfig& config, RopeConfig& rope) {
  rope.dimensions = config.head_dim;
  ASSIGN_OR_RETURN(rope.theta, json.DoubleOr("rope_theta", 10000.0));
  const char* key = json.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!json.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue scaling, json.Get(key));
  return ReadRopeScaling(scaling, config, rope);
}

absl::Status ReadRopeScaling(const JsonValue& scaling, const ModelConfig& config,
                             RopeConfig& rope) {
  ASSIGN_OR_RETURN(const std::string old_type, scaling.StringOr("type", "default"));
  ASSIGN_OR_RETURN(const std::string type, scaling.StringOr("rope_type", old_type));
  ASSIGN_OR_RETURN(rope.scaling, ReadScaling(type));
  ASSIGN_OR_RETURN(rope.theta, scaling.DoubleOr("rope_theta", rope.theta));
  ASSIGN_OR_RETURN(rope.factor, scaling.DoubleOr("factor", 1.0));
  ASSIGN_OR_RETURN(rope.low_frequency_factor, scaling.DoubleOr("low_freq_factor", 1.0));
  ASSIGN_OR_RETURN(rope.high_frequency_factor, scaling.DoubleOr("high_freq_factor", 4.0));
  ASSIGN_OR_RETURN(rope.beta_fast, scaling.DoubleOr("beta_fast", 32.0));
  ASSIGN_OR_RETURN(rope.beta_slow, scaling.DoubleOr("beta_slow", 1.0));
  ASSIGN_OR_RETURN(rope.attention_factor, scaling.DoubleOr("attention_factor", 0.0));
  rope.original_context = config.context_length;
  return ReadSize(scaling, {"original_max_position_embeddings"}, rope.original_context);
}

absl::StatusOr<bool> ReadLayerTypes(const JsonValue& json, ModelConfig& config) {
  if (!json.Has("layer_types")) return false;
  ASSIGN_OR_RETURN(const JsonValue types, json.Get("layer_types"));
  if (types.kind() != JsonValue::Kind::kArray ||
      types.size() != static_cast<size_t>(config.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("config.json: layer_types has ", types.size(),
                                                   " elements, expected num_hidden_layers ",
                                                   config.num_layers));
  }
  for (size_t i = 0; i < types.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue item, types.At(i));
    ASSIGN_OR_RETURN(const std::string type, item.AsString());
    int32_t window = 0;
    if (type == "sliding_attention") {
      RETURN_IF_ERROR(ReadSize(json, {"sliding_window"}, window));
    } else if (type != "full_attention") {
      return absl::InvalidArgumentError(
          absl::StrCat("config.json: ", item.path(), " is \"", type,
                       "\", expected sliding_attention or full_attention"));
    }
    config.windows.push_back(window);
  }
  return true;
}

}  // namespace reprise

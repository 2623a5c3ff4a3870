#include "core/model/model_config.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/rope.h"

namespace reprise {
namespace {

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model config: ", field, " is ", value, ", expected ", low, " to ", high));
}

absl::Status CheckPositive(absl::string_view field, double value) {
  if (value > 0 && value < 1e12) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model config: ", field, " is ", value, ", expected a positive number"));
}

// The parameters of the scaling variant, where a bad one would make frequencies
// that are no numbers.
absl::Status CheckRopeScaling(const RopeConfig& rope) {
  const bool yarn = rope.scaling == RopeConfig::Scaling::kYarn;
  if (!yarn && rope.scaling != RopeConfig::Scaling::kLlama3) return absl::OkStatus();
  for (const auto& [field, value] :
       {std::pair("rope beta_fast", rope.beta_fast), std::pair("rope beta_slow", rope.beta_slow),
        std::pair("rope low_freq_factor", rope.low_frequency_factor),
        std::pair("rope high_freq_factor", rope.high_frequency_factor)}) {
    if (absl::Status s = CheckPositive(field, value); !s.ok()) return s;
  }
  if (!yarn && rope.low_frequency_factor >= rope.high_frequency_factor) {
    return absl::InvalidArgumentError(
        absl::StrCat("model config: rope low_freq_factor is ", rope.low_frequency_factor,
                     ", expected less than high_freq_factor ", rope.high_frequency_factor));
  }
  return CheckRange("rope original context", rope.original_context, 1, 1 << 24);
}

absl::Status CheckRope(const RopeConfig& rope, int32_t head_dim, int32_t context_length) {
  if (absl::Status s = CheckRange("rope dimensions", rope.dimensions, 2, head_dim); !s.ok()) {
    return s;
  }
  if (rope.dimensions % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("model config: rope dimensions is ", rope.dimensions, ", expected even"));
  }
  if (absl::Status s = CheckPositive("rope theta", rope.theta); !s.ok()) return s;
  if (absl::Status s = CheckPositive("rope factor", rope.factor); !s.ok()) return s;
  if (absl::Status s = CheckRopeScaling(rope); !s.ok()) return s;
  if (const size_t count = rope.frequency_factors.size(); count > 0) {
    const int64_t pairs = rope.dimensions / 2;
    absl::Status s = CheckRange("number of rope frequency factors", count, pairs, pairs);
    if (!s.ok()) return s;
  }
  const double attention = RotaryAttentionFactor(rope);
  if (absl::Status s = CheckPositive("rope attention factor", attention); !s.ok()) return s;
  for (const double frequency : RotaryFrequencies(rope, context_length)) {
    if (absl::Status s = CheckPositive("a rope frequency", frequency); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status CheckWindows(const std::vector<int32_t>& windows, int32_t num_layers) {
  if (windows.empty()) return absl::OkStatus();
  absl::Status s =
      CheckRange("number of attention windows", windows.size(), num_layers, num_layers);
  for (size_t i = 0; s.ok() && i < windows.size(); ++i) {
    s = CheckRange("attention window", windows[i], 0, 1 << 24);
  }
  return s;
}

void AddDouble(DigestBuilder& builder, absl::string_view tag, double value) {
  builder.Add(tag, ByteView(reinterpret_cast<const uint8_t*>(&value), sizeof(value)));
}

void AddRope(DigestBuilder& builder, const std::string& tag, const RopeConfig& rope) {
  builder.AddInt(tag + ".dimensions", rope.dimensions);
  builder.AddInt(tag + ".scaling", static_cast<int>(rope.scaling));
  builder.AddInt(tag + ".original_context", rope.original_context);
  AddDouble(builder, tag + ".theta", rope.theta);
  AddDouble(builder, tag + ".factor", rope.factor);
  AddDouble(builder, tag + ".low_frequency_factor", rope.low_frequency_factor);
  AddDouble(builder, tag + ".high_frequency_factor", rope.high_frequency_factor);
  AddDouble(builder, tag + ".beta_fast", rope.beta_fast);
  AddDouble(builder, tag + ".beta_slow", rope.beta_slow);
  AddDouble(builder, tag + ".attention_factor", rope.attention_factor);
  if (const auto& factors = rope.frequency_factors; !factors.empty()) {
    builder.Add(
        tag + ".frequency_factors",
        ByteView(reinterpret_cast<const uint8_t*>(factors.data()), factors.size() * sizeof(float)));
  }
}

}  // namespace

int DtypeBytes(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

const char* DtypeName(Dtype dtype) {
  constexpr const char* kNames[] = {"fp32", "bf16", "fp16"};
  return kNames[static_cast<int>(dtype)];
}

absl::Status ModelConfig::Validate() const {
  struct Limit {
    const char* field;
    int64_t value, high;
  };
  for (const Limit& limit :
       {Limit{"num_layers", num_layers, 1024}, Limit{"hidden_size", hidden_size, 1 << 16},
        Limit{"num_heads", num_heads, 1024}, Limit{"num_kv_heads", num_kv_heads, num_heads},
        Limit{"head_dim", head_dim, kMaxHeadDim},
        Limit{"intermediate_size", intermediate_size, 1 << 20},
        Limit{"vocabulary_size", vocabulary_size, 1 << 24},
        Limit{"context_length", context_length, 1 << 24}}) {
    if (absl::Status s = CheckRange(limit.field, limit.value, 1, limit.high); !s.ok()) return s;
  }
  if (num_heads % num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model config: num_heads ", num_heads, " is no multiple of num_kv_heads ", num_kv_heads));
  }
  if (absl::Status s = CheckPositive("norm_epsilon", norm_epsilon); !s.ok()) return s;
  if (absl::Status s = CheckPositive("embedding_scale", embedding_scale); !s.ok()) return s;
  if (attention_scale != 0) {
    if (absl::Status s = CheckPositive("attention_scale", attention_scale); !s.ok()) return s;
  }
  if (absl::Status s = CheckWindows(windows, num_layers); !s.ok()) return s;
  if (!TraitsOf(architecture).rotary()) return absl::OkStatus();
  if (local_rope) {
    if (absl::Status s = CheckRope(*local_rope, head_dim, context_length); !s.ok()) return s;
  }
  return CheckRope(rope, head_dim, context_length);
}

void ModelConfig::AddTo(DigestBuilder& builder) const {
  // The architecture stands for its LayerTraits.
  builder.AddInt("architecture", static_cast<int>(architecture));
  builder.AddInt("num_layers", num_layers);
  builder.AddInt("hidden_size", hidden_size);
  builder.AddInt("num_heads", num_heads);
  builder.AddInt("num_kv_heads", num_kv_heads);
  builder.AddInt("head_dim", head_dim);
  builder.AddInt("intermediate_size", intermediate_size);
  builder.AddInt("vocabulary_size", vocabulary_size);
  builder.AddInt("context_length", context_length);
  AddDouble(builder, "norm_epsilon", norm_epsilon);
  builder.AddInt("tied_embeddings", tied_embeddings);
  AddRope(builder, "rope", rope);
  // Left out where a model does without, so that adding a field renames no cache.
  if (embedding_scale != 1) AddDouble(builder, "embedding_scale", embedding_scale);
  if (attention_scale != 0) AddDouble(builder, "attention_scale", attention_scale);
  if (!windows.empty()) builder.Add("windows", absl::MakeConstSpan(windows));
  if (local_rope) AddRope(builder, "local_rope", *local_rope);
}

}  // namespace reprise

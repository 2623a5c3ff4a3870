// Fields that several architectures read from config.json or from GGUF metadata.
//
// Errors  kInvalidArgument naming the field, its value and what was expected.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "core/base/gguf.h"
#include "core/base/json.h"
#include "core/model/model_config.h"

namespace reprise {

// A size of the model, 1 to 2^24: the first of `keys` that is there. `out` is kept
// when none is, and an `out` below 1 then makes that an error.
absl::Status ReadSize(const JsonValue& json, std::initializer_list<const char*> keys, int32_t& out);

// The same of a key that must be there, and of one that may be absent.
absl::Status ReadSize(const GgufFile& file, const std::string& key, int32_t& out);
absl::Status ReadSizeIfThere(const GgufFile& file, const std::string& key, int32_t& out);

// Refuses a text other than the `expected` ones; absent is fine.
absl::Status CheckText(const JsonValue& json, const char* key,
                       std::initializer_list<const char*> expected);

// Refuses true where the model would compute something that the layers do not.
absl::Status CheckFalse(const JsonValue& json, const char* key);

// The sizes under the names that Llama's config.json gives them, and its epsilon.
absl::Status ReadLlamaSizes(const JsonValue& json, ModelConfig& config);

// rope_parameters (transformers 5) or rope_theta and rope_scaling (earlier).
absl::Status ReadRope(const JsonValue& json, const ModelConfig& config, RopeConfig& rope);

// One rope_parameters or rope_scaling object over what `rope` says.
absl::Status ReadRopeScaling(const JsonValue& scaling, const ModelConfig& config, RopeConfig& rope);

// layer_types into config.windows, sliding_window for each "sliding_attention"; false
// when layer_types is absent.
absl::StatusOr<bool> ReadLayerTypes(const JsonValue& json, ModelConfig& config);

}  // namespace reprise

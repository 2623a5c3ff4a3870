// Safetensors container parsed into plain structs.
//
// Ownership  tensor bytes are views into the parsed bytes.
// Errors     kInvalidArgument naming the tensor: sizes, offsets, shapes or dtypes
//            that do not fit the bytes or each other, overlapping tensors.
// Source     the safetensors format description (huggingface/safetensors).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/bytes.h"

namespace reprise {

enum class SafetensorsType { kF32, kF16, kBF16 };

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<int64_t> shape;  // outermost first, each > 0
  ByteView bytes;              // exactly the tensor's bytes
};

// Tensors of other dtypes (masks, position ids) are left out.
absl::StatusOr<std::vector<SafetensorsTensor>> ParseSafetensors(ByteView bytes);

}  // namespace reprise

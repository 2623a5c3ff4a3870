#include "core/model/weight_format.h"

namespace reprise {
namespace {

size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

}  // namespace

const char* WeightFormatName(WeightFormat format) {
  constexpr const char* kNames[kWeightFormats] = {"fp32", "bf16", "fp16", "int8",
                                                  "q8_0", "q4_0", "q4_1", "q4_k"};
  return kNames[static_cast<int>(format)];
}

const char* WeightChoiceName(WeightChoice choice) {
  constexpr const char* kNames[] = {"as_stored", "fp32", "bf16", "fp16", "int8"};
  return kNames[static_cast<int>(choice)];
}

WeightFormat ChooseFormat(WeightChoice choice, StorageType type, int64_t depth) {
  switch (choice) {
    case WeightChoice::kFp32:
      return WeightFormat::kFp32;
    case WeightChoice::kBf16:
      return WeightFormat::kBf16;
    case WeightChoice::kFp16:
      return WeightFormat::kFp16;
    case WeightChoice::kInt8:
      return depth <= static_cast<int64_t>(kMaxInt8Depth) ? WeightFormat::kInt8
                                                          : WeightFormat::kBf16;
    case WeightChoice::kAsStored:
      break;
  }
  switch (type) {
    case StorageType::kQ8_0:
      return WeightFormat::kQ8_0;
    case StorageType::kQ4_0:
      return WeightFormat::kQ4_0;
    case StorageType::kQ4_1:
      return WeightFormat::kQ4_1;
    case StorageType::kQ4_K:
      return WeightFormat::kQ4_K;
    default:
      return WeightFormat::kBf16;
  }
}

size_t PanelBytes(WeightFormat format, size_t depth) {
  switch (format) {
    case WeightFormat::kFp32:
      return depth * kPanelColumns * 4;
    case WeightFormat::kFp16:
      return RoundUp(depth * kPanelColumns * 2, 64);
    case WeightFormat::kBf16:
      return RoundUp(depth, 2) * kPanelColumns * 2;
    case WeightFormat::kInt8:
      return RoundUp(depth, 4) * kPanelColumns + kPanelColumns * sizeof(float);
    default:
      break;
  }
  const size_t blocks = depth / kQuantBlock;
  const size_t super = format == WeightFormat::kQ4_K ? blocks / kSuperBlocks : 0;
  return blocks * PackedBlockBytes(format) + super * kPanelColumns * 4;
}

size_t InputRowBytes(InputFormat format, size_t depth) {
  switch (format) {
    case InputFormat::kFloat32:
      return RoundUp(depth, 2) * sizeof(float);
    case InputFormat::kBfloat16:
      return RoundUp(depth, 2) * sizeof(uint16_t);
    default:
      return QuantizedRow(format, depth).bytes();
  }
}

}  // namespace reprise

// The names that the benchmarks' --dtype and --kv know; a new format is a new row.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/string_view.h"
#include "core/model/cpu_runner.h"

namespace reprise::bench {

template <typename Value>
struct Named {
  const char* name;
  Value value;
};

inline constexpr Named<WeightChoice> kWeightNames[] = {
    {"fp32", WeightChoice::kFp32},     {"bf16", WeightChoice::kBf16},
    {"fp16", WeightChoice::kFp16},     {"int8", WeightChoice::kInt8},
    {"q8_0", WeightChoice::kAsStored}, {"q4_1", WeightChoice::kAsStored}};
inline constexpr Named<Dtype> kKvNames[] = {
    {"fp32", Dtype::kFloat32}, {"bf16", Dtype::kBfloat16}, {"fp16", Dtype::kFloat16}};

[[noreturn]] inline void Fail(absl::string_view program, absl::string_view message) {
  std::cerr << program << ": " << message << std::endl;
  std::exit(1);
}

// Ends `program` when the name is unknown.
template <typename Value, size_t kCount>
Value ParseName(absl::string_view program, const Named<Value> (&known)[kCount],
                absl::string_view name) {
  for (const Named<Value>& one : known) {
    if (name == one.name) return one.value;
  }
  Fail(program, "unknown dtype " + std::string(name));
}

}  // namespace reprise::bench

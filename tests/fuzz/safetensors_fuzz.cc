// Safetensors files.
#include <cstring>

#include "core/base/safetensors.h"
#include "tests/fakes/model_files.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {

std::vector<std::string> FuzzSeeds() {
  const std::string small = WriteSafetensors(
      {{"a", 0, {2, 3}, FloatBytes({1, 2, 3, 4, 5, 6})}, {"b", 0, {1}, FloatBytes({7})}});
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},)"
      R"("m":{"dtype":"BOOL","shape":[4],"data_offsets":[8,12]}})";
  std::string mixed(sizeof(uint64_t), '\0');
  mixed[0] = static_cast<char>(header.size());
  return {small, mixed + header + std::string(12, 'x')};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  const auto tensors = ParseSafetensors(ByteView(data, size));
  if (!tensors.ok()) return 0;
  for (const SafetensorsTensor& tensor : *tensors) {
    uint64_t elements = 1;
    for (const int64_t n : tensor.shape) elements *= static_cast<uint64_t>(n);
    const uint64_t width = tensor.type == SafetensorsType::kF32 ? 4 : 2;
    fuzz::Require(tensor.bytes.data() >= data && tensor.bytes.end() <= data + size,
                  "a tensor lies in the file");
    fuzz::Require(elements * width == tensor.bytes.size(), "a tensor has the bytes of its shape");
  }
  return 0;
}

// The two sources of LoadModel, and what they share. Errors as LoadModel.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/load_model.h"

namespace reprise {

absl::StatusOr<LoadedModel> LoadGgufModel(const std::string& path);
absl::StatusOr<LoadedModel> LoadHuggingFaceFolder(const std::string& path);

// Collects canonical tensors while a source is read.
class WeightCollector {
 public:
  void AddMap(std::shared_ptr<const MappedFile> map) { maps_.push_back(std::move(map)); }
  void Add(WeightTensor tensor) { tensors_.push_back(std::move(tensor)); }

  // Adds a tensor whose bytes are `bytes` rather than part of a map.
  void AddOwned(WeightTensor tensor, std::vector<uint8_t> bytes);

  // kInvalidArgument naming a tensor that was added twice.
  absl::StatusOr<std::shared_ptr<const WeightFile>> Finish();

 private:
  std::vector<std::shared_ptr<const MappedFile>> maps_;
  std::vector<std::vector<uint8_t>> owned_;
  std::vector<WeightTensor> tensors_;
};

// "layers.3.attention.q.weight"
std::string LayerTensor(int64_t layer, absl::string_view rest);

}  // namespace reprise

#include "core/model/load_sources.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace reprise {

void WeightCollector::AddOwned(WeightTensor tensor, std::vector<uint8_t> bytes) {
  owned_.push_back(std::move(bytes));
  tensor.bytes = ByteView(owned_.back());
  tensors_.push_back(std::move(tensor));
}

absl::StatusOr<std::shared_ptr<const WeightFile>> WeightCollector::Finish() {
  absl::flat_hash_set<absl::string_view> names;
  for (const WeightTensor& tensor : tensors_) {
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor.name, " appears twice"));
    }
  }
  return std::make_shared<const WeightFile>(std::move(maps_), std::move(owned_),
                                            std::move(tensors_));
}

std::string LayerTensor(int64_t layer, absl::string_view rest) {
  return absl::StrCat("layers.", layer, ".", rest);
}

}  // namespace reprise

#include "core/model/weights.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace reprise {

int64_t WeightTensor::columns() const { return shape.empty() ? 1 : shape.back(); }

int64_t WeightTensor::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

WeightFile::WeightFile(std::vector<std::shared_ptr<const MappedFile>> maps,
                       std::vector<std::vector<uint8_t>> owned, std::vector<WeightTensor> tensors)
    : maps_(std::move(maps)), owned_(std::move(owned)), tensors_(std::move(tensors)) {
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

absl::StatusOr<const WeightTensor*> WeightFile::Find(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    return absl::NotFoundError(absl::StrCat("tensor ", name, " is missing"));
  return &tensors_[found->second];
}

absl::StatusOr<const WeightTensor*> WeightFile::Find(const std::string& name,
                                                     absl::Span<const int64_t> shape) const {
  ASSIGN_OR_RETURN(const WeightTensor* tensor, Find(name));
  if (absl::MakeConstSpan(tensor->shape) == shape) return tensor;
  return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " has shape [",
                                                 absl::StrJoin(tensor->shape, ", "),
                                                 "], expected [", absl::StrJoin(shape, ", "), "]"));
}

Digest WeightFile::ContentDigest() const {
  std::vector<const WeightTensor*> sorted;
  for (const WeightTensor& tensor : tensors_) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(),
            [](const WeightTensor* a, const WeightTensor* b) { return a->name < b->name; });
  DigestBuilder builder;
  for (const WeightTensor* tensor : sorted) {
    builder.Add("name", tensor->name).AddInt("type", static_cast<int>(tensor->type));
    for (const int64_t size : tensor->shape) builder.AddInt("dimension", size);
    builder.Add("bytes", tensor->bytes);
  }
  return builder.Finish();
}

void WeightFile::DropPages() const {
  for (const auto& map : maps_) map->DropPages();
}

}  // namespace reprise

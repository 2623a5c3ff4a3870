#include "core/similarity/vector_check.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace reprise {

absl::Status CheckVector(absl::Span<const float> vector, int dimensions) {
  if (vector.size() != static_cast<size_t>(dimensions)) {
    return absl::InvalidArgumentError(
        absl::StrCat("vector of ", vector.size(), " dimensions, expected ", dimensions));
  }
  double squares = 0;
  for (const float value : vector) squares += double{value} * value;
  // Also refuses NaN, whose comparisons are all false.
  if (std::abs(squares - 1.0) < 1e-3) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("vector of squared length ", squares, ", expected 1"));
}

void SortNeighbors(std::vector<Neighbor>& neighbors, int count) {
  const size_t kept = std::min(neighbors.size(), static_cast<size_t>(count));
  const auto end = neighbors.begin() + static_cast<int64_t>(kept);
  std::partial_sort(
      neighbors.begin(), end, neighbors.end(), [](const Neighbor& a, const Neighbor& b) {
        return a.similarity != b.similarity ? a.similarity > b.similarity : a.id < b.id;
      });
  neighbors.resize(kept);
}

}  // namespace reprise

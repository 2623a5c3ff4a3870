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
  std::sort(neighbors.begin(), neighbors.end(), [](const Neighbor& a, const Neighbor& b) {
    return a.similarity != b.similarity ? a.similarity > b.similarity : a.id < b.id;
  });
  if (neighbors.size() > static_cast<size_t>(count)) neighbors.resize(count);
}

}  // namespace reprise

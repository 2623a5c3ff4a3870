// What every VectorIndex checks before it takes a vector. Pure functions.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "core/similarity/vector_index.h"

namespace reprise {

absl::Status CheckVector(absl::Span<const float> vector, int dimensions);

// Most similar first, equal similarities by lower id; at most `count`.
void SortNeighbors(std::vector<Neighbor>& neighbors, int count);

}  // namespace reprise

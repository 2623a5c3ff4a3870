// RowOrder::kTiles: rows lie in atoms of 8 rows and 64 of the depth, one kilobyte each, those
// of one depth one after another, so that what a thread block reads of one depth is
// contiguous. An atom is what wgmma reads as a K-major operand with the 128-byte swizzle.
// Within 32 of the depth, k = 8 t + 4 p + 2 q + e is word t, half e of chunk 4 p' + 2 p + q:
// so the two chunks that the p-th wgmma of a step reads hold the k that thread t of mma.sync
// reads in one go (mma.cuh).
#pragma once

#include <cstdint>

namespace reprise::cuda {

inline constexpr int kTileRows = 128;  // rows are padded to whole ones
inline constexpr int kAtomRows = 8;
inline constexpr int kAtomDepth = 64;

__host__ __device__ inline int AtomsOfRows(int rows) {
  return (rows + kTileRows - 1) / kTileRows * (kTileRows / kAtomRows);
}

// In halves; `atoms` is AtomsOfRows of the pass.
__host__ __device__ inline int64_t TiledIndex(int row, int k, int atoms) {
  const int r = row % kAtomRows, word = k / 8 % 4;
  const int chunk = k / 32 % 2 * 4 + k / 2 % 4;
  const int64_t atom = static_cast<int64_t>(k / kAtomDepth) * atoms + row / kAtomRows;
  return (atom * kAtomRows + r) * kAtomDepth + (chunk ^ r) * 8 + word * 2 + k % 2;
}

}  // namespace reprise::cuda

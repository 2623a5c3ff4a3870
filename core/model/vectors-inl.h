// What the kernels' parts share: the vector types of the instruction set that
// the including file is compiled for, and loops over rows and lanes.
#pragma once

#include <hwy/highway.h>

#include <cmath>
#include <cstring>

#include "core/model/kernels.h"
#include "core/model/small_floats.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using DI = hn::ScalableTag<int32_t>;
using V = hn::Vec<D>;
using VI = hn::Vec<DI>;
constexpr size_t kLanes = HWY_LANES(float);
constexpr bool kWide = kLanes >= 16;  // with 32 registers
constexpr size_t kVectors = 2;        // a tile is this many vectors wide
constexpr size_t kTileColumns = kVectors * kLanes;
static_assert(kPanelColumns % kTileColumns == 0);

size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

template <size_t kRows>
struct Rows {};

template <size_t kRows, typename Tile>
HWY_INLINE void TileOfRows(size_t rows, size_t first, const Tile& tile) {
  if (rows == kRows) return tile(Rows<kRows>(), first);
  if constexpr (kRows > 1) TileOfRows<kRows - 1>(rows, first, tile);
}

// Calls tile(Rows<n>(), first) over [0, rows), in as few tiles as can be: each reads the weights
// once more, and one of few rows waits for its own sums. The last two are as good as equal.
template <size_t kLargest, typename Tile>
HWY_INLINE void ForEachRowTile(size_t rows, const Tile& tile) {
  for (size_t first = 0; first < rows;) {
    const size_t left = rows - first;
    const size_t half = (left + 1) / 2;
    const size_t count = left > 2 * kLargest ? kLargest : left > kLargest ? half : left;
    TileOfRows<kLargest>(count, first, tile);
    first += count;
  }
}

// The first `count` floats; the lanes past them are zero.
HWY_INLINE V LoadFirst(const float* from, size_t count) {
  const D d;
  if (count == kLanes) return hn::LoadU(d, from);
  alignas(64) float lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(float));
  return hn::Load(d, lanes);
}

// Calls `body` with each vector of `size` floats; the tail is padded with zeros
// so that it takes the same instructions as the rest.
template <typename Body>
HWY_INLINE void ForEachVector(const float* x, size_t size, Body body) {
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(hn::LoadU(D(), x + i), i, kLanes);
  if (i < size) body(LoadFirst(x + i, size - i), i, size - i);
}

HWY_INLINE void StoreFirst(V value, float* to, size_t count) {
  const D d;
  if (count == kLanes) return hn::StoreU(value, d, to);
  alignas(64) float lanes[kLanes];
  hn::Store(value, d, lanes);
  std::memcpy(to, lanes, count * sizeof(float));
}

HWY_INLINE V LoadFloat16(const uint8_t* from) {
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(D(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
}

HWY_INLINE V LoadBfloat16(const uint8_t* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

HWY_INLINE int32_t LoadWord(const uint8_t* from) {
  int32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// With this many rows a panel takes so long that the hardware does not foresee the next
// one: the tiles of rows fetch its even and odd lines in turn.
constexpr size_t kRowsToFetch = 24;

HWY_INLINE void FetchToSecondLevel(const uint8_t* line) { __builtin_prefetch(line, 0, 2); }

// Ends a product's row: sums of one tile's columns into y, with bias and residual.
HWY_INLINE void StoreColumns(const PanelProduct& p, size_t row, size_t column,
                             const V (&sum)[kVectors]) {
  const D d;
  float* y = p.y + row * p.y_stride;
  if (column + kTileColumns <= p.columns) {
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t c = column + v * kLanes;
      V value = sum[v];
      if (p.bias != nullptr) value = hn::Add(value, hn::LoadU(d, p.bias + c));
      if (p.accumulate) value = hn::Add(hn::LoadU(d, y + c), value);
      hn::StoreU(value, d, y + c);
    }
    return;
  }
  alignas(64) float lanes[kTileColumns];
  for (size_t v = 0; v < kVectors; ++v) hn::Store(sum[v], d, lanes + v * kLanes);
  for (size_t c = column; c < p.columns; ++c) {
    const float value = p.bias != nullptr ? lanes[c - column] + p.bias[c] : lanes[c - column];
    y[c] = p.accumulate ? y[c] + value : value;
  }
}

}  // namespace
}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise

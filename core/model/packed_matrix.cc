#include "core/model/packed_matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/model/small_floats.h"

namespace reprise {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// Rows of one panel as fp32, [kPanelColumns][depth].
struct PanelRows {
  PanelRows(absl::Span<const StoredRow> rows, size_t depth)
      : depth(depth), values(MakeAligned<float>(kPanelColumns * depth)) {
    for (size_t first = 0; first < rows.size();) {
      const size_t count = RunLength(rows.subspan(first));
      if (rows[first].tensor != nullptr) {
        DequantizeRows(*rows[first].tensor, rows[first].row, static_cast<int64_t>(count),
                       {values.get() + first * depth, count * depth});
      }
      first += count;
    }
  }

  const float* Row(size_t column) const { return values.get() + column * depth; }

  // Calls store(k, column, value) for all, in strips that stay in cache.
  template <typename Store>
  void ForEach(Store store) const {
    constexpr size_t kStrip = 16;
    for (size_t first = 0; first < depth; first += kStrip) {
      const size_t end = std::min(first + kStrip, depth);
      for (size_t c = 0; c < kPanelColumns; ++c) {
        const float* row = Row(c);
        for (size_t k = first; k < end; ++k) store(k, c, row[k]);
      }
    }
  }

  // How many rows from the first one on follow each other in one tensor.
  static size_t RunLength(absl::Span<const StoredRow> rows) {
    size_t count = 1;
    while (count < rows.size() && rows[count].tensor == rows[0].tensor) ++count;
    return count;
  }

  size_t depth;
  AlignedArray<float> values;
};

// Symmetric, the largest magnitude of a row becomes 127.
void PackInt8(const PanelRows& rows, uint8_t* panel) {
  float inverse[kPanelColumns];
  float* scales = reinterpret_cast<float*>(panel + (rows.depth + 3) / 4 * 4 * kPanelColumns);
  for (size_t c = 0; c < kPanelColumns; ++c) {
    float largest = 0;
    for (size_t k = 0; k < rows.depth; ++k) {
      largest = std::max(largest, std::fabs(rows.Row(c)[k]));
    }
    scales[c] = largest / 127.0f;
    inverse[c] = largest > 1e-30f ? 127.0f / largest : 0.0f;
  }
  rows.ForEach([&](size_t k, size_t c, float value) {
    const auto quantised = static_cast<int>(std::nearbyintf(value * inverse[c]));
    panel[k / 4 * 4 * kPanelColumns + c * 4 + k % 4] = static_cast<uint8_t>(quantised + 128);
  });
}

void PackFloats(const PanelRows& rows, WeightFormat format, uint8_t* panel) {
  auto* words = reinterpret_cast<uint16_t*>(panel);
  switch (format) {
    case WeightFormat::kFp32:
      return rows.ForEach([&](size_t k, size_t c, float value) {
        reinterpret_cast<float*>(panel)[k * kPanelColumns + c] = value;
      });
    case WeightFormat::kFp16:
      return rows.ForEach([&](size_t k, size_t c, float value) {
        words[k * kPanelColumns + c] = ToFloat16(value);
      });
    case WeightFormat::kBf16:
      return rows.ForEach([&](size_t k, size_t c, float value) {
        words[k / 2 * 2 * kPanelColumns + c * 2 + k % 2] = ToBfloat16(value);
      });
    default:
      return PackInt8(rows, panel);
  }
}

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// `bytes` on a boundary of a huge page.
std::unique_ptr<void, AlignedDelete> MapHugePages(size_t bytes) {
  void* start =
      mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  const size_t before =
      RoundUp(reinterpret_cast<uintptr_t>(start), kHugePage) - reinterpret_cast<uintptr_t>(start);
  auto* data = static_cast<uint8_t*>(start) + before;
  if (before > 0) munmap(start, before);
  if (before < kHugePage) munmap(data + bytes, kHugePage - before);
  madvise(data, bytes, MADV_HUGEPAGE);  // a hint; refusal is fine
  return {data, AlignedDelete{bytes}};
}

}  // namespace

void AlignedDelete::operator()(void* data) const {
  if (mapped_bytes == 0) return std::free(data);
  munmap(data, mapped_bytes);
}

std::unique_ptr<void, AlignedDelete> AllocateAligned(size_t bytes) {
  // Weights and KV are read end to end for every token: huge pages spare a page walk each 4 KiB.
  if (bytes >= 2 * kHugePage) return MapHugePages(RoundUp(bytes, kHugePage));
  const size_t padded = std::max(RoundUp(bytes, kAlignment), kAlignment);
  void* data = nullptr;
  if (posix_memalign(&data, kAlignment, padded) != 0) throw std::bad_alloc();
  std::memset(data, 0, padded);
  return {data, AlignedDelete{}};
}

std::shared_ptr<uint8_t> WeightArena::Allocate(size_t bytes) {
  constexpr size_t kMappingBytes = size_t{64} << 20;
  bytes = RoundUp(bytes, kAlignment);
  if (bytes > free_bytes_) {
    free_bytes_ = RoundUp(std::max(bytes, kMappingBytes), kHugePage);
    AlignedArray<uint8_t> mapping = MakeAligned<uint8_t>(free_bytes_);
    free_ = mapping.get();
    mapping_ = std::move(mapping);
  }
  std::shared_ptr<uint8_t> piece(mapping_, free_);
  free_ += bytes;
  free_bytes_ -= bytes;
  return piece;
}

PackedMatrix PackedMatrix::Pack(absl::Span<const WeightTensor* const> tensors, WeightFormat format,
                                WeightArena& arena, ThreadPool& pool) {
  PackedMatrix matrix;
  std::vector<StoredRow> rows;
  for (const WeightTensor* tensor : tensors) {
    for (int64_t row = 0; row < tensor->rows(); ++row) rows.push_back({tensor, row});
  }
  matrix.features_ = rows.size();
  matrix.depth_ = static_cast<size_t>(tensors[0]->columns());
  matrix.format_ = format;
  matrix.panel_bytes_ = PanelBytes(format, matrix.depth_);
  matrix.data_ = arena.Allocate(matrix.bytes());
  rows.resize(matrix.panels() * kPanelColumns);
  pool.ParallelFor(matrix.panels(), [&](size_t index, int) {
    const auto part = absl::MakeConstSpan(rows).subspan(index * kPanelColumns, kPanelColumns);
    uint8_t* panel = matrix.data_.get() + index * matrix.panel_bytes_;
    if (IsBlockFormat(format)) {
      PackBlockPanel(part, format, matrix.depth_, panel);
    } else {
      PackFloats(PanelRows(part, matrix.depth_), format, panel);
    }
  });
  return matrix;
}

PanelProduct PackedMatrix::Product(size_t panel) const {
  PanelProduct product;
  product.depth = depth_;
  product.format = format_;
  product.panel = data_.get() + panel * panel_bytes_;
  product.columns = std::min(kPanelColumns, features_ - panel * kPanelColumns);
  return product;
}

void PackedMatrix::GetRow(size_t feature, float* out) const {
  const uint8_t* panel = data_.get() + feature / kPanelColumns * panel_bytes_;
  const size_t column = feature % kPanelColumns;
  const auto* floats = reinterpret_cast<const float*>(panel);
  const auto* words = reinterpret_cast<const uint16_t*>(panel);
  switch (format_) {
    case WeightFormat::kFp32:
      for (size_t k = 0; k < depth_; ++k) out[k] = floats[k * kPanelColumns + column];
      return;
    case WeightFormat::kFp16:
      for (size_t k = 0; k < depth_; ++k) out[k] = FromFloat16(words[k * kPanelColumns + column]);
      return;
    case WeightFormat::kBf16:
      for (size_t k = 0; k < depth_; ++k) {
        out[k] = FromBfloat16(words[k / 2 * 2 * kPanelColumns + column * 2 + k % 2]);
      }
      return;
    case WeightFormat::kInt8: {
      const float scale = floats[(depth_ + 3) / 4 * kPanelColumns + column];
      for (size_t k = 0; k < depth_; ++k) {
        const int value = panel[k / 4 * 4 * kPanelColumns + column * 4 + k % 4];
        out[k] = static_cast<float>(value - 128) * scale;
      }
      return;
    }
    default:
      return UnpackBlockRow(panel, format_, depth_, column, out);
  }
}

}  // namespace reprise

// PackedMatrix: weight matrices W[features][depth], stacked and in the layout
// the kernels read (weight_format.h), made once at load.
//
// Threading  immutable after Pack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "core/model/kernels.h"
#include "core/model/thread_pool.h"
#include "core/model/weights.h"

namespace reprise {

// Zeroed floats or bytes on a 64-byte boundary. Large ones are mapped by themselves, in huge
// pages that come when first touched, and go back to the system when freed.
struct AlignedDelete {
  void operator()(void* data) const;
  size_t mapped_bytes = 0;  // 0: from the heap
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete>;
std::unique_ptr<void, AlignedDelete> AllocateAligned(size_t bytes);
template <typename T>
AlignedArray<T> MakeAligned(size_t count) {
  auto data = AllocateAligned(count * sizeof(T));
  const AlignedDelete free = data.get_deleter();
  return AlignedArray<T>(static_cast<T*>(data.release()), free);
}

// Memory that the matrices of a model share, so that small ones lie in huge pages too. A
// mapping goes back to the system with the last matrix in it.
//
// Threading  used by one thread.
class WeightArena {
 public:
  // `bytes` zeroed bytes on a 64-byte boundary.
  std::shared_ptr<uint8_t> Allocate(size_t bytes);

 private:
  std::shared_ptr<uint8_t[]> mapping_;
  size_t free_bytes_ = 0;  // the last ones of it
  uint8_t* free_ = nullptr;
};

class PackedMatrix {
 public:
  // The rows of all `tensors`, which have the same number of columns, in order.
  // A block format is that of every tensor's storage.
  static PackedMatrix Pack(absl::Span<const WeightTensor* const> tensors, WeightFormat format,
                           WeightArena& arena, ThreadPool& pool);

  size_t features() const { return features_; }
  size_t depth() const { return depth_; }
  WeightFormat format() const { return format_; }
  size_t panels() const { return (features_ + kPanelColumns - 1) / kPanelColumns; }
  size_t bytes() const { return panels() * panel_bytes_; }

  // The part of a product that panel `panel` decides; input and output are the caller's.
  PanelProduct Product(size_t panel) const;

  // Row `feature` as fp32 into out[depth]: an embedding look-up.
  void GetRow(size_t feature, float* out) const;

 private:
  size_t features_ = 0;
  size_t depth_ = 0;
  size_t panel_bytes_ = 0;
  WeightFormat format_ = WeightFormat::kFp32;
  std::shared_ptr<uint8_t> data_;
};

// One stored row of a tensor; a null tensor stands for zeros.
struct StoredRow {
  const WeightTensor* tensor = nullptr;
  int64_t row = 0;
};

// Packs the columns of one panel from rows that are stored in `format`'s own blocks.
void PackBlockPanel(absl::Span<const StoredRow> rows, WeightFormat format, size_t depth,
                    uint8_t* panel);

// Row `column` of a panel in a block format as fp32 into out[depth].
void UnpackBlockRow(const uint8_t* panel, WeightFormat format, size_t depth, size_t column,
                    float* out);

}  // namespace reprise

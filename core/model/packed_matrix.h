// PackedMatrix: one weight matrix W[features][depth] in the layout the kernels
// read, made once at load.
//
// Threading  immutable after Pack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/model/kernels.h"
#include "core/model/thread_pool.h"
#include "core/model/weights.h"

namespace reprise {

// Zeroed floats or bytes on a 64-byte boundary.
struct AlignedDelete {
  void operator()(void* data) const;
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete>;
void* AllocateAligned(size_t bytes);
template <typename T>
AlignedArray<T> MakeAligned(size_t count) {
  return AlignedArray<T>(static_cast<T*>(AllocateAligned(count * sizeof(T))));
}

class PackedMatrix {
 public:
  static PackedMatrix Pack(const WeightTensor& tensor, Dtype dtype, const Kernels& kernels,
                           ThreadPool& pool);

  size_t features() const { return features_; }
  size_t depth() const { return depth_; }
  size_t panels() const { return (features_ + panel_columns_ - 1) / panel_columns_; }
  size_t bytes() const { return panels() * panel_columns_ * depth_ * DtypeBytes(dtype_); }

  // What x[rows][depth] needs to go through panel `panel` into y[rows][y_stride].
  PanelProduct Product(size_t panel) const;

  // Row `feature` as fp32 into out[depth]: an embedding look-up.
  void GetRow(size_t feature, float* out) const;

 private:
  void PackPanel(const WeightTensor& tensor, size_t panel);

  size_t features_ = 0;
  size_t depth_ = 0;
  size_t panel_columns_ = 0;
  Dtype dtype_ = Dtype::kFloat32;
  AlignedArray<uint8_t> data_;
};

}  // namespace reprise

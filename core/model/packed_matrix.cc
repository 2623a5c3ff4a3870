#include "core/model/packed_matrix.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace reprise {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

void AlignedDelete::operator()(void* data) const { std::free(data); }

void* AllocateAligned(size_t bytes) {
  const size_t padded = std::max((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
  void* data = std::aligned_alloc(kAlignment, padded);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, padded);
  return data;
}

PackedMatrix PackedMatrix::Pack(const WeightTensor& tensor, Dtype dtype, const Kernels& kernels,
                                ThreadPool& pool) {
  PackedMatrix matrix;
  matrix.features_ = static_cast<size_t>(tensor.rows());
  matrix.depth_ = static_cast<size_t>(tensor.columns());
  matrix.panel_columns_ = kernels.panel_columns;
  matrix.dtype_ = dtype;
  matrix.data_ = MakeAligned<uint8_t>(matrix.bytes());
  pool.ParallelFor(matrix.panels(), [&](size_t panel, int) { matrix.PackPanel(tensor, panel); });
  return matrix;
}

void PackedMatrix::PackPanel(const WeightTensor& tensor, size_t panel) {
  const size_t first = panel * panel_columns_;
  const size_t columns = std::min(panel_columns_, features_ - first);
  std::vector<float> row(depth_);
  const size_t base = panel * panel_columns_ * depth_;
  for (size_t c = 0; c < columns; ++c) {
    DequantizeRows(tensor, static_cast<int64_t>(first + c), 1, absl::MakeSpan(row));
    for (size_t k = 0; k < depth_; ++k) {
      const size_t at = base + k * panel_columns_ + c;
      if (dtype_ == Dtype::kFloat32) {
        reinterpret_cast<float*>(data_.get())[at] = row[k];
      } else {
        reinterpret_cast<uint16_t*>(data_.get())[at] = ToBfloat16(row[k]);
      }
    }
  }
}

PanelProduct PackedMatrix::Product(size_t panel) const {
  PanelProduct product;
  product.depth = depth_;
  product.dtype = dtype_;
  product.panel = data_.get() + panel * panel_columns_ * depth_ * DtypeBytes(dtype_);
  product.columns = std::min(panel_columns_, features_ - panel * panel_columns_);
  return product;
}

void PackedMatrix::GetRow(size_t feature, float* out) const {
  const size_t base = feature / panel_columns_ * panel_columns_ * depth_ + feature % panel_columns_;
  for (size_t k = 0; k < depth_; ++k) {
    const size_t at = base + k * panel_columns_;
    out[k] = dtype_ == Dtype::kFloat32
                 ? reinterpret_cast<const float*>(data_.get())[at]
                 : FromBfloat16(reinterpret_cast<const uint16_t*>(data_.get())[at]);
  }
}

}  // namespace reprise

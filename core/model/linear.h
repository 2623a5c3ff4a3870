// Linear: y = x W^T + bias over packed weights, and ProductInput, the x of one
// or more of them.
//
// Threading  a Linear is immutable; a ProductInput is filled row by row, rows in
//            parallel, before products read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/model/kernels.h"
#include "core/model/packed_matrix.h"
#include "core/model/thread_pool.h"

namespace reprise {

class Linear {
 public:
  Linear() = default;
  // `parts` lie side by side in the output and have the same depth: one, unless tensors are
  // stored in different formats. The bias is empty or covers all of them.
  Linear(std::vector<PackedMatrix> parts, std::vector<float> bias)
      : parts_(std::move(parts)), bias_(std::move(bias)) {}

  const std::vector<PackedMatrix>& parts() const { return parts_; }
  const std::vector<float>& bias() const { return bias_; }
  size_t depth() const { return parts_[0].depth(); }
  size_t features() const;

 private:
  std::vector<PackedMatrix> parts_;
  std::vector<float> bias_;
};

class ProductInput {
 public:
  ProductInput(const Kernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  // Announces x[rows][stride] as the input of `linear`; x must outlive the products.
  void Begin(const Linear& linear, const float* x, size_t stride, size_t rows);

  // Row `row` of x is there: rounds or quantises it as the products want.
  void PrepareRow(size_t row);

  // y[rows][y_stride] = x W^T + bias, or y += with `accumulate`. `linear` is the
  // one that Begin was given.
  void Multiply(const Linear& linear, float* y, bool accumulate) const;

 private:
  struct Records {
    bool wanted = false;
    const uint8_t* data = nullptr;
    size_t stride = 0;  // bytes
    size_t capacity = 0;
    AlignedArray<uint8_t> owned;
  };

  const Kernels& kernels_;
  ThreadPool& pool_;
  const float* x_ = nullptr;
  size_t x_stride_ = 0, rows_ = 0, depth_ = 0;
  std::array<Records, kInputFormats> records_;
};

}  // namespace reprise

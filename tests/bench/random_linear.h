// Matrices with cheap random weights in every weight format, and the time of their products.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "core/model/linear.h"
#include "tests/bench/floors.h"
#include "tests/bench/random_model.h"

namespace reprise::bench {

struct FormatCase {
  WeightFormat format;
  StorageType storage;
  int peak;  // index into MeasurePeaks(): what its products run on
};

inline constexpr FormatCase kFormats[] = {
    {WeightFormat::kFp32, StorageType::kF32, 0},  {WeightFormat::kBf16, StorageType::kF32, 1},
    {WeightFormat::kFp16, StorageType::kF32, 0},  {WeightFormat::kInt8, StorageType::kF32, 2},
    {WeightFormat::kQ8_0, StorageType::kQ8_0, 2}, {WeightFormat::kQ4_0, StorageType::kQ4_0, 2},
    {WeightFormat::kQ4_1, StorageType::kQ4_1, 2}, {WeightFormat::kQ4_K, StorageType::kQ4_K, 2}};

// A random matrix in `format`. Random scales would be infinite or NaN now and
// then, which takes no longer.
inline Linear RandomLinear(const FormatCase& format, int64_t features, int64_t depth,
                           ThreadPool& pool) {
  WeightTensor tensor{"random", format.storage, {features, depth}, {}};
  const size_t bytes = *RowBytes(format.storage, depth) * features;
  const std::vector<uint8_t> data = format.storage == StorageType::kF32
                                        ? RandomFloats(features * depth, 0.03f)
                                        : RandomBytes(bytes);
  tensor.bytes = ByteView(data);
  WeightArena arena;
  std::vector<PackedMatrix> parts;
  parts.push_back(PackedMatrix::Pack({&tensor}, format.format, arena, pool));
  return Linear(std::move(parts), {});
}

// Seconds of `repeats` products of `rows` random rows, after one unmeasured, and of
// preparing their input, which comes first.
struct ProductTimes {
  std::vector<double> prepare, multiply;  // [repeats]
};

struct ProductCase {
  const Linear& linear;
  size_t rows;
};

inline ProductTimes TimeProduct(const Kernels& kernels, const ProductCase& c, int repeats,
                                ThreadPool& pool) {
  const FlushDenormals flush;
  std::vector<float> x(c.rows * c.linear.depth()), y(c.rows * c.linear.features());
  const std::vector<uint8_t> bytes = RandomFloats(x.size(), 1.0f);
  std::memcpy(x.data(), bytes.data(), bytes.size());
  ProductInput input(kernels, pool);
  ProductTimes times;
  for (int i = 0; i < repeats + 1; ++i) {
    const double start = Seconds();
    input.Begin(c.linear, x.data(), c.linear.depth(), c.rows);
    pool.ParallelFor(c.rows, [&](size_t row, int) { input.PrepareRow(row); });
    const double prepared = Seconds();
    input.Multiply(c.linear, y.data(), /*accumulate=*/false);
    if (i == 0) continue;
    times.prepare.push_back(prepared - start);
    times.multiply.push_back(Seconds() - prepared);
  }
  return times;
}

}  // namespace reprise::bench

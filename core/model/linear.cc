#include "core/model/linear.h"

#include <algorithm>

namespace reprise {
namespace {

// Rows of one task, in whole row tiles. With many rows each thread has its own, so that
// activations stay in its cache; with few, threads share the panels, so that the weights are
// read once. Records of a task fit the second-level cache beside a panel.
size_t RowsPerTask(size_t rows, size_t record_bytes, int threads) {
  constexpr size_t kCacheBytes = 448 << 10, kTile = 12, kManyRows = 48;
  const size_t share = rows >= kManyRows * threads ? (rows + threads - 1) / threads : rows;
  const size_t most = std::max<size_t>(kCacheBytes / record_bytes / kTile, 2) * kTile;
  const size_t tasks = (share + most - 1) / most;
  return (share + tasks * kTile - 1) / (tasks * kTile) * kTile;
}

// Panels are handed out in this many runs. With few rows a panel takes less than a
// microsecond: longer runs cost less to hand out and read memory in order.
size_t PanelRuns(size_t panels, size_t rows, int threads) {
  constexpr size_t kFewRows = 8, kRunsPerThread = 4;
  return rows > kFewRows ? panels : std::min(panels, kRunsPerThread * threads);
}

}  // namespace

size_t Linear::features() const {
  size_t features = 0;
  for (const PackedMatrix& part : parts_) features += part.features();
  return features;
}

void ProductInput::Begin(const Linear& linear, const float* x, size_t stride, size_t rows) {
  x_ = x;
  x_stride_ = stride;
  rows_ = rows;
  depth_ = linear.depth();
  for (Records& records : records_) records.wanted = false;
  for (const PackedMatrix& part : linear.parts()) {
    const InputFormat format = kernels_.input_format(part.format());
    Records& records = records_[static_cast<int>(format)];
    if (format == InputFormat::kFloat32 && depth_ % 2 == 0) {
      records.data = reinterpret_cast<const uint8_t*>(x);
      records.stride = stride * sizeof(float);
      continue;
    }
    records.wanted = true;
    records.stride = InputRowBytes(format, depth_);
    if (records.capacity < rows * records.stride) {
      records.owned = MakeAligned<uint8_t>(rows * records.stride);
      records.capacity = rows * records.stride;
    }
    records.data = records.owned.get();
  }
}

void ProductInput::PrepareRow(size_t row) {
  for (int format = 0; format < kInputFormats; ++format) {
    const Records& records = records_[format];
    if (!records.wanted) continue;
    kernels_.prepare_row(static_cast<InputFormat>(format), x_ + row * x_stride_, depth_,
                         records.owned.get() + row * records.stride);
  }
}

void ProductInput::Multiply(const Linear& linear, float* y, bool accumulate) const {
  const size_t y_stride = linear.features();
  size_t first = 0;  // feature of the part
  for (const PackedMatrix& part : linear.parts()) {
    const Records& records = records_[static_cast<int>(kernels_.input_format(part.format()))];
    const size_t chunk = RowsPerTask(rows_, records.stride, pool_.num_threads());
    const size_t chunks = (rows_ + chunk - 1) / chunk;
    const size_t runs = PanelRuns(part.panels(), rows_, pool_.num_threads());
    // Panels go round fastest: a chunk of rows stays in cache while weights stream past it.
    pool_.ParallelFor(runs * chunks, [&](size_t task, int) {
      const size_t row = task / runs * chunk, run = task % runs;
      const size_t end = (run + 1) * part.panels() / runs;
      for (size_t panel = run * part.panels() / runs; panel < end; ++panel) {
        const size_t feature = first + panel * kPanelColumns;
        PanelProduct product = part.Product(panel);
        product.x = records.data + row * records.stride;
        product.x_stride = records.stride;
        product.rows = std::min(chunk, rows_ - row);
        product.bias = linear.bias().empty() ? nullptr : linear.bias().data() + feature;
        product.y = y + row * y_stride + feature;
        product.y_stride = y_stride;
        product.accumulate = accumulate;
        kernels_.multiply_panel(product);
      }
    });
    first += part.features();
  }
}

}  // namespace reprise

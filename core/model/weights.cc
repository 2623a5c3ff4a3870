#include "core/model/weights.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/model/thread_pool.h"

namespace reprise {
namespace {

constexpr int kMaxDigestThreads = 8;
constexpr int64_t kDigestRows = 64;  // hashed at once: their copy stays in cache

// Rows [first, first + count) of a matrix that lies transposed. In square tiles, so that
// each cache line is read once and written once.
template <typename Element>
void CopyTransposed(const WeightTensor& tensor, int64_t first, int64_t count, uint8_t* out) {
  constexpr int64_t kTile = 64 / sizeof(Element);
  const int64_t columns = tensor.columns(), stride = tensor.transposed_stride;
  Element tile[kTile][kTile], line[kTile];
  for (int64_t row = 0; row < count; row += kTile) {
    const int64_t height = std::min(kTile, count - row);
    for (int64_t column = 0; column < columns; column += kTile) {
      const int64_t width = std::min(kTile, columns - column);
      for (int64_t c = 0; c < width; ++c) {
        const int64_t element = (column + c) * stride + first + row;
        std::memcpy(tile[c], tensor.bytes.data() + element * sizeof(Element),
                    height * sizeof(Element));
      }
      for (int64_t r = 0; r < height; ++r) {
        for (int64_t c = 0; c < width; ++c) line[c] = tile[c][r];
        std::memcpy(out + ((row + r) * columns + column) * sizeof(Element), line,
                    width * sizeof(Element));
      }
    }
  }
}

Digest TensorDigest(const WeightTensor& tensor) {
  DigestBuilder builder;
  builder.Add("name", tensor.name).AddInt("type", static_cast<int>(tensor.type));
  for (const int64_t size : tensor.shape) builder.AddInt("dimension", size);
  if (tensor.transposed_stride == 0) return builder.Add("bytes", tensor.bytes).Finish();
  const int64_t row_bytes = *RowBytes(tensor.type, tensor.columns());
  builder.Begin("bytes", tensor.rows() * row_bytes);
  std::vector<uint8_t> rows(kDigestRows * row_bytes);
  for (int64_t first = 0; first < tensor.rows(); first += kDigestRows) {
    const int64_t count = std::min(kDigestRows, tensor.rows() - first);
    CopyRows(tensor, first, count, rows.data());
    builder.Continue(ByteView(rows).first(count * row_bytes));
  }
  return builder.Finish();
}

}  // namespace

int64_t WeightTensor::columns() const { return shape.empty() ? 1 : shape.back(); }

int64_t WeightTensor::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

WeightFile::WeightFile(std::vector<std::shared_ptr<const MappedFile>> maps,
                       std::vector<std::vector<uint8_t>> owned, std::vector<WeightTensor> tensors)
    : maps_(std::move(maps)), owned_(std::move(owned)), tensors_(std::move(tensors)) {
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

absl::StatusOr<const WeightTensor*> WeightFile::Find(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    return absl::NotFoundError(absl::StrCat("tensor ", name, " is missing"));
  return &tensors_[found->second];
}

absl::StatusOr<const WeightTensor*> WeightFile::Find(const std::string& name,
                                                     absl::Span<const int64_t> shape) const {
  ASSIGN_OR_RETURN(const WeightTensor* tensor, Find(name));
  if (absl::MakeConstSpan(tensor->shape) == shape) return tensor;
  return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " has shape [",
                                                 absl::StrJoin(tensor->shape, ", "),
                                                 "], expected [", absl::StrJoin(shape, ", "), "]"));
}

Digest WeightFile::ContentDigest() const {
  std::vector<const WeightTensor*> sorted;
  for (const WeightTensor& tensor : tensors_) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(),
            [](const WeightTensor* a, const WeightTensor* b) { return a->name < b->name; });
  std::vector<Digest> digests(sorted.size());
  const int hardware = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  ThreadPool pool(std::min(hardware, kMaxDigestThreads), [] {});
  pool.ParallelFor(sorted.size(),
                   [&](size_t index, int) { digests[index] = TensorDigest(*sorted[index]); });
  DigestBuilder builder;
  for (const Digest& digest : digests) builder.Add("tensor", digest);
  return builder.Finish();
}

void WeightFile::DropPages() const {
  for (const auto& map : maps_) map->DropPages();
}

void CopyRows(const WeightTensor& tensor, int64_t first, int64_t count, uint8_t* out) {
  const auto row_bytes = static_cast<size_t>(*RowBytes(tensor.type, tensor.columns()));
  if (tensor.transposed_stride == 0) {
    std::memcpy(out, tensor.bytes.data() + first * row_bytes, count * row_bytes);
  } else if (tensor.type == StorageType::kF32) {
    CopyTransposed<uint32_t>(tensor, first, count, out);
  } else {
    CopyTransposed<uint16_t>(tensor, first, count, out);
  }
}

}  // namespace reprise

// Weights of a model as it lies in its files: named tensors over a memory map,
// dequantised on request.
//
// Threading  immutable after loading; DequantizeRows may be called from any thread.
// Ownership  holds the maps its tensors point into.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/bytes.h"
#include "core/base/digest.h"
#include "core/base/mapped_file.h"

namespace reprise {

// Element encodings a weight file may use. Source: ggml-common.h block layouts.
enum class StorageType {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

// A row-major tensor whose last dimension is contiguous (and, when quantised,
// holds whole blocks), unless it lies transposed in its file.
struct WeightTensor {
  std::string name;
  StorageType type = StorageType::kF32;
  std::vector<int64_t> shape;  // outermost first
  ByteView bytes;
  // When above 0, element (row, column) is number column * transposed_stride + row of
  // `bytes`, and `type` is kF32, kF16 or kBF16: a matrix that is transposed as it is read.
  int64_t transposed_stride = 0;

  int64_t rows() const;     // product of all but the last dimension
  int64_t columns() const;  // last dimension
};

class WeightFile {
 public:
  // `owned` holds the bytes of tensors that had to be rearranged on load.
  WeightFile(std::vector<std::shared_ptr<const MappedFile>> maps,
             std::vector<std::vector<uint8_t>> owned, std::vector<WeightTensor> tensors);

  bool Has(const std::string& name) const { return index_.contains(name); }

  // kNotFound names the tensor.
  absl::StatusOr<const WeightTensor*> Find(const std::string& name) const;

  // Find, and kInvalidArgument naming the tensor when its shape is not `shape`.
  absl::StatusOr<const WeightTensor*> Find(const std::string& name,
                                           absl::Span<const int64_t> shape) const;

  const std::vector<WeightTensor>& tensors() const { return tensors_; }

  // SHA-256 over names, types, shapes and rows of all tensors, in name order: the same
  // however the files lay them out. Takes some threads for as long as it runs.
  Digest ContentDigest() const;

  // Takes the source pages out of this process's memory; those needed again come back.
  void DropPages() const;

 private:
  std::vector<std::shared_ptr<const MappedFile>> maps_;
  std::vector<std::vector<uint8_t>> owned_;
  std::vector<WeightTensor> tensors_;
  absl::flat_hash_map<std::string, size_t> index_;
};

// Bytes of one row of `columns` elements; kInvalidArgument when a quantised row
// does not hold whole blocks.
absl::StatusOr<int64_t> RowBytes(StorageType type, int64_t columns);

const char* StorageTypeName(StorageType type);

// Copies rows [first, first + count), one after the other and as they are stored, into
// out[count * RowBytes()].
void CopyRows(const WeightTensor& tensor, int64_t first, int64_t count, uint8_t* out);

// Writes rows [first, first + count) as fp32 into out[count * columns].
void DequantizeRows(const WeightTensor& tensor, int64_t first, int64_t count,
                    absl::Span<float> out);

}  // namespace reprise

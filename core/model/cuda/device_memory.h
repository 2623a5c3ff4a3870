// Owners of device memory and of pinned host memory.
//
// Threading  as the CUDA runtime: any thread.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/model/cuda/cuda_status.h"

namespace reprise::cuda {

enum class MemoryKind { kDevice, kPinned };

template <typename T, MemoryKind kKind>
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Memory() {
    if (data_ == nullptr) return;
    kKind == MemoryKind::kDevice ? cudaFree(data_) : cudaFreeHost(data_);
  }

  // Zeroed. kResourceExhausted naming `what` when there is not that much.
  static absl::StatusOr<Memory> Make(size_t count, const std::string& what) {
    Memory memory;
    if (count == 0) return memory;
    const size_t bytes = count * sizeof(T);
    const std::string doing = absl::StrCat("allocating ", bytes, " bytes for ", what);
    void* data = nullptr;
    RETURN_IF_ERROR(ToStatus(
        kKind == MemoryKind::kDevice ? cudaMalloc(&data, bytes) : cudaMallocHost(&data, bytes),
        doing));
    memory.data_ = static_cast<T*>(data);
    memory.size_ = count;
    RETURN_IF_ERROR(ToStatus(cudaMemset(data, 0, bytes), doing));
    return memory;
  }

  T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

template <typename T>
using DeviceArray = Memory<T, MemoryKind::kDevice>;
template <typename T>
using PinnedArray = Memory<T, MemoryKind::kPinned>;

// A copy of `values` on the device; empty when they are.
template <typename T>
absl::StatusOr<DeviceArray<T>> Upload(absl::Span<const T> values, const std::string& what) {
  ASSIGN_OR_RETURN(auto array, DeviceArray<T>::Make(values.size(), what));
  if (values.empty()) return array;
  RETURN_IF_ERROR(ToStatus(
      cudaMemcpy(array.data(), values.data(), array.bytes(), cudaMemcpyHostToDevice), what));
  return array;
}

}  // namespace reprise::cuda

#include "core/model/cuda/device_kv.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace reprise::cuda {
namespace {

constexpr int64_t kHalfBytes = 2;

}  // namespace

absl::StatusOr<DeviceKvPool> DeviceKvPool::Make(const ModelConfig& config, HalfType type,
                                                int64_t max_bytes) {
  DeviceKvPool pool;
  pool.layers_ = config.num_layers;
  pool.kv_heads_ = config.num_kv_heads;
  pool.padded_dim_ = PaddedDepth(config.head_dim);
  pool.type_ = type;
  pool.block_bytes_ =
      2 * kHalfBytes * kBlockTokens * pool.padded_dim_ * pool.kv_heads_ * pool.layers_;
  pool.num_blocks_ = static_cast<int32_t>(
      std::clamp<int64_t>(max_bytes / pool.block_bytes_, 0, std::numeric_limits<int32_t>::max()));
  if (pool.num_blocks_ < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv_pool_bytes is ", max_bytes, ", one block takes ", pool.block_bytes_));
  }
  ASSIGN_OR_RETURN(pool.data_,
                   DeviceArray<uint8_t>::Make(pool.num_blocks_ * pool.block_bytes_, "the KV pool"));
  ASSIGN_OR_RETURN(pool.staging_, PinnedArray<uint8_t>::Make(pool.block_bytes_, "a KV block"));
  return pool;
}

KvLayer DeviceKvPool::Layer(int layer) const {
  const int64_t side = kHalfBytes * kBlockTokens * padded_dim_ * kv_heads_;  // K or V
  KvLayer made;
  made.type = type_;
  made.keys = data_.data() + 2 * layer * side;
  made.values = data_.data() + (2 * layer + 1) * side;
  made.block_stride = block_bytes_ / kHalfBytes;
  made.padded_dim = padded_dim_;
  return made;
}

absl::Status DeviceKvPool::Read(BlockId block, MutableByteView out, cudaStream_t stream) const {
  RETURN_IF_ERROR(ToStatus(
      cudaMemcpyAsync(staging_.data(), Block(block), block_bytes_, cudaMemcpyDeviceToHost, stream),
      "reading a KV block"));
  RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream), "reading a KV block"));
  std::memcpy(out.data(), staging_.data(), out.size());
  return absl::OkStatus();
}

absl::Status DeviceKvPool::Write(BlockId block, ByteView in, cudaStream_t stream) {
  std::memcpy(staging_.data(), in.data(), in.size());
  RETURN_IF_ERROR(ToStatus(
      cudaMemcpyAsync(Block(block), staging_.data(), block_bytes_, cudaMemcpyHostToDevice, stream),
      "writing a KV block"));
  return ToStatus(cudaStreamSynchronize(stream), "writing a KV block");
}

cudaError_t DeviceKvPool::CopySlots(BlockId from, BlockId to, int tokens, cudaStream_t stream) {
  CopySlotsArgs args;
  args.from = Block(from);
  args.to = Block(to);
  args.heads = 2 * kv_heads_ * layers_;
  args.kv_heads = kv_heads_;
  args.padded_dim = padded_dim_;
  args.tokens = tokens;
  return LaunchCopySlots(args, stream);
}

}  // namespace reprise::cuda

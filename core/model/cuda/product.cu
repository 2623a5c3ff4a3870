// Which kernel serves a product, and packing.
#include "core/model/cuda/mma.cuh"
#include "core/model/cuda/packing.cuh"
#include "core/model/cuda/product.cuh"

namespace reprise::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void Pack(const PackArgs args) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(args.rows) * args.depth) return;
  const int64_t feature = PackedFeature(args.first_feature + i / args.depth, args.interleave);
  const auto k = static_cast<int32_t>(i % args.depth);
  static_cast<T*>(args.packed)[PackedIndex(feature, k, args.steps)] = To<T>(args.values[i]);
}

}  // namespace

cudaError_t HasTileProducts(bool* has) {
  *has = false;
#ifdef REPRISE_CUDA_SM90A
  int device = 0, major = 0, minor = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  }
  *has = major == 9 && minor == 0;
  return error;
#else
  return cudaSuccess;
#endif
}

cudaError_t LaunchProduct(const ProductArgs& args, cudaStream_t stream) {
  if (args.order == RowOrder::kTiles) return LaunchTileProduct(args, stream);
  return args.rows <= kThinRows ? LaunchThinProduct(args, stream) : LaunchWideProduct(args, stream);
}

cudaError_t LaunchPack(const PackArgs& args, cudaStream_t stream) {
  const int64_t count = static_cast<int64_t>(args.rows) * args.depth;
  return WithHalf(args.type, [&](auto half) {
    Pack<decltype(half)>
        <<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(args);
    return cudaGetLastError();
  });
}

cudaError_t GetCodeArchitecture(int* architecture) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, Pack<__half>);
  if (error == cudaSuccess) *architecture = attributes.binaryVersion;
  return error;
}

}  // namespace reprise::cuda

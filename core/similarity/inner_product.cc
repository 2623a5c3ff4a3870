#include "core/similarity/inner_product.h"

namespace reprise {
namespace {

// As many as keep the multiply-adds of a core busy; the compiler makes vectors of them.
constexpr int kLanes = 32;

inline float Product(const float* a, const float* b, int dimensions) {
  float lanes[kLanes] = {};
  int at = 0;
  for (; at + kLanes <= dimensions; at += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += a[at + lane] * b[at + lane];
  }
  float sum = 0;
  for (; at < dimensions; ++at) sum += a[at] * b[at];
  for (const float lane : lanes) sum += lane;
  return sum;
}

#if defined(__x86_64__)
// FAISS's own kernels are compiled for SSE2 where a distribution builds it, and take three
// times as long.
__attribute__((target("avx2,fma"), flatten)) float ProductAvx2(const float* a, const float* b,
                                                               int dimensions) {
  return Product(a, b, dimensions);
}
#endif

}  // namespace

float InnerProduct(const float* a, const float* b, int dimensions) {
#if defined(__x86_64__)
  static const bool kAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (kAvx2) return ProductAvx2(a, b, dimensions);
#endif
  return Product(a, b, dimensions);
}

}  // namespace reprise

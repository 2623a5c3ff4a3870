// product_bench: how long the products of a layer of the DialoGPT-medium shape take with each
// kernel that can serve them, in microseconds, back to back on one stream.
#include <cstdio>

#include "core/model/cuda/product.cuh"
#include "tests/cuda/product_problem.h"

namespace reprise::cuda {
namespace {

constexpr int kRepeats = 50;

template <typename Launch>
double Microseconds(const Launch& launch) {
  cudaEvent_t begin, end;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  for (int i = 0; i < 5; ++i) launch();
  cudaEventRecord(begin);
  for (int i = 0; i < kRepeats; ++i) launch();
  cudaEventRecord(end);
  cudaEventSynchronize(end);
  float ms = 0;
  cudaEventElapsedTime(&ms, begin, end);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return 1000.0 * ms / kRepeats;
}

int Main() {
  bool has_tiles = false;
  HasTileProducts(&has_tiles);
  for (const int rows : {256, 512, 1024}) {
    for (ProductShape shape : {ProductShape{"qkv", 3072, 1024, 0, Epilogue::kStore},
                               ProductShape{"projection", 1024, 1024, 0, Epilogue::kAdd},
                               ProductShape{"up", 4096, 1024, 0, Epilogue::kGelu},
                               ProductShape{"down", 1024, 4096, 0, Epilogue::kAdd}}) {
      shape.rows = rows;
      const ProductProblem problem(shape);
      std::printf("%-10s %4d rows", shape.name, rows);
      const ProductArgs plain = problem.Args(RowOrder::kRows);
      std::printf("  wide %6.1f", Microseconds([&] { LaunchWideProduct(plain, nullptr); }));
      const ProductArgs tiled = problem.Args(RowOrder::kTiles);
      for (int i = 0; has_tiles && i < kTileShapes; ++i) {
        std::printf("  tiles%d %6.1f", i,
                    Microseconds([&] { LaunchTileProductOf(i, tiled, nullptr); }));
      }
      std::printf("  %s\n", cudaGetErrorString(cudaDeviceSynchronize()));
    }
  }
  return 0;
}

}  // namespace
}  // namespace reprise::cuda

int main() { return reprise::cuda::Main(); }

// A product on the GPU with random weights and rows, for each of the kernels that serve it.
//
// Threading  one thread.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/model/cuda/device_memory.h"
#include "core/model/cuda/kernel_args.h"
#include "core/model/cuda/tiled_rows.cuh"
#include "core/model/small_floats.h"

namespace reprise::cuda {

struct ProductShape {
  const char* name;
  int features, depth, rows;
  Epilogue epilogue;
  HalfType type = HalfType::kFp16;
};

class ProductProblem {
 public:
  // Aborts when the device fails.
  explicit ProductProblem(const ProductShape& shape) : shape_(shape) {
    const bool gated = IsGatedEpilogue();
    const int packed_rows = gated ? 2 * shape.features : shape.features;
    const int padded = (packed_rows + 127) / 128 * 128, rows = PaddedRows();
    std::mt19937 random(shape.features + shape.depth);
    std::normal_distribution<float> normal(0, 0.1f);
    std::vector<float> weights(size_t{1} * packed_rows * shape.depth), bias(padded);
    for (float& w : weights) w = normal(random);
    for (float& b : bias) b = normal(random);
    std::vector<uint16_t> plain(size_t{1} * rows * shape.depth), tiled(plain.size() * 2);
    for (int row = 0; row < shape.rows; ++row) {
      for (int k = 0; k < shape.depth; ++k) {
        const uint16_t half = ToHalfBits(normal(random) * (row % 3 == 0 ? 100 : 1));
        plain[size_t{1} * row * shape.depth + k] = half;
        tiled[TiledIndex(row, k, AtomsOfRows(shape.rows))] = half;
      }
    }
    plain_ = *Upload(absl::MakeConstSpan(plain), "rows");
    tiled_ = *Upload(absl::MakeConstSpan(tiled), "rows");
    bias_ = *Upload(absl::MakeConstSpan(bias), "bias");
    const auto values = *Upload(absl::MakeConstSpan(weights), "weights");
    packed_ = *DeviceArray<uint16_t>::Make(size_t{1} * padded * shape.depth, "weights");
    output_ = *DeviceArray<float>::Make(size_t{1} * rows * shape.features, "output");
    args_.weights = {packed_.data(), shape.type, shape.features, padded / 16, Steps(shape.depth)};
    args_.steps_per_slice = StepsPerSlice(args_.weights.steps);
    args_.rows = shape.rows;
    args_.bias = bias_.data();
    args_.epilogue = shape.epilogue;
    args_.y = output_.data();
    args_.out = output_.data();
    args_.stride = shape.features;
    PackWeights(values.data(), packed_rows, gated);
  }

  const ProductShape& shape() const { return shape_; }

  ProductArgs Args(RowOrder order) const {
    ProductArgs args = args_;
    args.order = order;
    args.x = order == RowOrder::kTiles ? tiled_.data() : plain_.data();
    return args;
  }

  // The output as `launch` leaves it when all was 1 before, in the order [row][feature].
  template <typename Launch>
  std::vector<uint32_t> Run(RowOrder order, const Launch& launch) {
    const size_t count = size_t{1} * PaddedRows() * shape_.features;
    std::vector<float> output(count, 1.0f);
    cudaMemcpy(output_.data(), output.data(), 4 * count, cudaMemcpyHostToDevice);
    if (launch(Args(order)) != cudaSuccess || cudaDeviceSynchronize() != cudaSuccess) return {};
    cudaMemcpy(output.data(), output_.data(), 4 * count, cudaMemcpyDeviceToHost);
    std::vector<uint32_t> bits;
    const auto* words = reinterpret_cast<const uint32_t*>(output.data());
    const auto* halves = reinterpret_cast<const uint16_t*>(output.data());
    const bool floats = shape_.epilogue == Epilogue::kStore || shape_.epilogue == Epilogue::kAdd;
    for (int row = 0; row < shape_.rows; ++row) {
      for (int f = 0; f < shape_.features; ++f) {
        const int64_t at = int64_t{1} * row * shape_.features + f;
        const bool tiles = order == RowOrder::kTiles;
        bits.push_back(floats ? words[at]
                              : halves[tiles ? TiledIndex(row, f, AtomsOfRows(shape_.rows)) : at]);
      }
    }
    return bits;
  }

 private:
  bool IsGatedEpilogue() const {
    return shape_.epilogue == Epilogue::kGatedSilu || shape_.epilogue == Epilogue::kGatedGelu;
  }
  int PaddedRows() const { return AtomsOfRows(shape_.rows) * kAtomRows + kPaddedRows; }
  uint16_t ToHalfBits(float value) const {
    return shape_.type == HalfType::kFp16 ? ToFloat16(value) : ToBfloat16(value);
  }

  void PackWeights(const float* values, int rows, bool gated) {
    PackArgs pack;
    pack.depth = shape_.depth;
    pack.type = shape_.type;
    pack.steps = args_.weights.steps;
    pack.packed = packed_.data();
    pack.rows = gated ? rows / 2 : rows;
    pack.values = values;
    pack.interleave = gated ? Interleave::kGate : Interleave::kNone;
    cudaError_t error = LaunchPack(pack, nullptr);
    if (gated && error == cudaSuccess) {
      pack.values = values + int64_t{1} * rows / 2 * shape_.depth;
      pack.interleave = Interleave::kUp;
      error = LaunchPack(pack, nullptr);
    }
    if (error != cudaSuccess || cudaDeviceSynchronize() != cudaSuccess) std::abort();
  }

  ProductShape shape_;
  ProductArgs args_;
  DeviceArray<uint16_t> plain_, tiled_, packed_;
  DeviceArray<float> bias_, output_;
};

}  // namespace reprise::cuda

#include "tests/fakes/planted_kernels.h"

#include <cmath>
#include <vector>

namespace reprise {
namespace {

// What the planted kernels are built on; a table of plain functions holds no state.
Kernels planted_on;

void SplitWhenSeveralRows(const PanelProduct& p) {
  if (p.rows < 2 || p.format != WeightFormat::kFp32) return planted_on.multiply_panel(p);
  std::vector<float> half(p.rows * p.columns);
  PanelProduct first = p, second = p;
  first.depth = p.depth / 4 * 2;
  second.depth = p.depth - first.depth;
  second.x += first.depth * sizeof(float);
  second.panel += first.depth * kPanelColumns * sizeof(float);
  second.bias = nullptr;
  second.y = half.data();
  second.y_stride = p.columns;
  second.accumulate = false;
  planted_on.multiply_panel(first);
  planted_on.multiply_panel(second);
  for (size_t r = 0; r < p.rows; ++r) {
    for (size_t c = 0; c < p.columns; ++c) p.y[r * p.y_stride + c] += half[r * p.columns + c];
  }
}

void RescaleWhenSeveralRows(const AttentionTile& t) {
  AttentionTile tile = t;
  if (t.rows > 1) tile.scale = std::nextafter(t.scale, 1.0f);
  planted_on.attend(tile);
}

}  // namespace

Kernels PlantSplitReduction(const Kernels& base) {
  planted_on = base;
  Kernels planted = base;
  planted.multiply_panel = SplitWhenSeveralRows;
  return planted;
}

Kernels PlantBatchDependentAttention(const Kernels& base) {
  planted_on = base;
  Kernels planted = base;
  planted.attend = RescaleWhenSeveralRows;
  return planted;
}

}  // namespace reprise

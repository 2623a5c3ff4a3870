// The kernels' one source, compiled once per instruction set: each including
// file defines REPRISE_KERNELS_NAME and is built with its own flags, which
// Highway's static target and the products' dot instructions follow. All is in
// unnamed namespaces, so the copies never meet in the linker.
#include "core/model/attention-inl.h"
#include "core/model/float_products-inl.h"
#include "core/model/integer_products-inl.h"
#include "core/model/rows-inl.h"

namespace reprise {
namespace REPRISE_KERNELS_NAME {
namespace {

void MultiplyPanel(const PanelProduct& p) {
  switch (p.format) {
    case WeightFormat::kFp32:
      return MultiplyFloatPanel<Fp32Weights>(p);
    case WeightFormat::kBf16:
      return MultiplyFloatPanel<Bf16Weights>(p);
    case WeightFormat::kFp16:
      return MultiplyFloatPanel<Fp16Weights>(p);
    case WeightFormat::kInt8:
      return MultiplyInt8Panel(p);
    case WeightFormat::kQ8_0:
      return MultiplyBlockPanel<WeightFormat::kQ8_0>(p);
    case WeightFormat::kQ4_0:
      return MultiplyBlockPanel<WeightFormat::kQ4_0>(p);
    case WeightFormat::kQ4_1:
      return MultiplyBlockPanel<WeightFormat::kQ4_1>(p);
    case WeightFormat::kQ4_K:
      return MultiplyBlockPanel<WeightFormat::kQ4_K>(p);
  }
}

}  // namespace

Kernels Table(const char* name) {
  return {name,   InputFormatOf, PrepareRow, RoundRow,     MultiplyPanel,
          Attend, RmsNorm,       LayerNorm,  SiluMultiply, Gelu};
}

}  // namespace REPRISE_KERNELS_NAME
}  // namespace reprise

// Wrong kernels that exactness checks must catch: their results depend on how many rows
// run together.
//
// Threading  one table is planted at a time; the tables point to state of their own.
#pragma once

#include "core/model/kernels.h"

namespace reprise {

// Products of fp32 weights that split their reduction over k in two when there are
// several rows; other formats multiply as `base` does.
Kernels PlantSplitReduction(const Kernels& base);

// Attention whose scale has another last bit when there are several rows.
Kernels PlantBatchDependentAttention(const Kernels& base);

}  // namespace reprise

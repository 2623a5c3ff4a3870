#define REPRISE_KERNELS_NAME kernels_avx512bf16
#include "core/model/kernels-inl.h"

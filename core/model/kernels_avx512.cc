#define REPRISE_KERNELS_NAME kernels_avx512
#include "core/model/kernels-inl.h"

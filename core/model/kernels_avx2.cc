#define REPRISE_KERNELS_NAME kernels_avx2
#include "core/model/kernels-inl.h"

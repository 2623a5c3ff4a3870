#define REPRISE_KERNELS_NAME kernels_portable
#include "core/model/kernels-inl.h"

/* The kernels for AVX-512 F, BW, VL, DQ; see kernels.h. Compiled with the flags of cmake/isa.cmake. */
#if defined(__AVX512F__) && defined(__AVX512BW__)
#define KERNELS      kernels_avx512
#define KERNELS_NAME "avx512"
#include "kernels_body.h"
#else
#include "kernels.h"
const cpu_kernels *const kernels_avx512 = NULL;
#endif

/* The kernels for AVX2 and FMA; see kernels.h. Compiled with the flags of cmake/isa.cmake. */
#if defined(__AVX2__) && defined(__FMA__)
#define KERNELS      kernels_avx2
#define KERNELS_NAME "avx2"
#include "kernels_body.h"
#else
#include "kernels.h"
const cpu_kernels *const kernels_avx2 = NULL;
#endif

/* The kernels for AVX-512 with BF16 products; see kernels.h. Compiled with the flags of cmake/isa.cmake. */
#if defined(__AVX512BF16__)
#define KERNELS      kernels_avx512bf16
#define KERNELS_NAME "avx512bf16"
#include "kernels_body.h"
#else
#include "kernels.h"
const cpu_kernels *const kernels_avx512bf16 = NULL;
#endif

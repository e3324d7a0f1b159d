/* The kernels for any machine; see kernels.h. */
#define KERNELS      kernels_portable
#define KERNELS_NAME "portable"
#include "kernels_body.h"

/* Attention by tile registers (AMX), for head sizes that are multiples of 32 and K and V in bf16. */
#ifndef CENTO_BACKEND_CPU_ATTENTION_AMX_H
#define CENTO_BACKEND_CPU_ATTENTION_AMX_H

#include "kernels.h"

/* NULL where the build, the CPU or the system does not give them; asks the system for the tile registers, for
 * all threads of the process. Any thread. Queries and weights are rounded to bf16. */
const attention_kernels *attention_amx(void);

#endif

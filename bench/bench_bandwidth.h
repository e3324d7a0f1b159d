/* What memory gives: the roof beside which benchmarks put their figures. */
#ifndef CENTO_BENCH_BENCH_BANDWIDTH_H
#define CENTO_BENCH_BENCH_BANDWIDTH_H

#include "backend/backend.h"

/* Bytes read and written by a large copy, per second, in the memory where the backend keeps weights and KV.
 */
cento_status bench_copy_bandwidth(backend *device, double *bytes_per_s, cento_error *error);

#endif

/* See bench_bandwidth.h. */
#include "bench/bench_bandwidth.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define COPY_BYTES ((size_t)128 << 20)
#define PIECE      ((size_t)1 << 20)
enum { COPIES = 5 };

cento_status bench_copy_bandwidth(backend *device, double *bytes_per_s, cento_error *error) {
    if (device->ops->measure != NULL)
        return device->ops->measure->copy_bandwidth(device, bytes_per_s, error);
    char *memory = mem_alloc(2, COPY_BYTES);
    if (memory == NULL)
        return error_memory(error, 2 * COPY_BYTES);
    *bytes_per_s = 0;
    for (int i = 0; i <= COPIES; i++) { /* the first one touches the pages */
        uint64_t begin_ns = clock_now_ns();
#pragma omp parallel for
        for (size_t at = 0; at < COPY_BYTES; at += PIECE) {
            if (i == 0)
                memset(memory + at, 1, PIECE);
            memcpy(memory + COPY_BYTES + at, memory + at, PIECE);
        }
        double found = 2.0 * (double)COPY_BYTES / ((double)(clock_now_ns() - begin_ns) * 1e-9);
        if (i > 0 && found > *bytes_per_s)
            *bytes_per_s = found;
    }
    mem_free(memory);
    return CENTO_OK;
}

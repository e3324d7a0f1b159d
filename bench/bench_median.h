/* Medians of timings. */
#ifndef CENTO_BENCH_BENCH_MEDIAN_H
#define CENTO_BENCH_BENCH_MEDIAN_H

#include <stdint.h>
#include <stdlib.h>

static inline int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them; count > 0. */
static inline double median(double *values, uint32_t count) {
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif

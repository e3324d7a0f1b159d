/* Medians and percentiles of timings. */
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

/* Of values in ascending order, by nearest rank; 0 of none. */
static inline double percentile(const double *sorted, size_t count, double part) {
    size_t rank = (size_t)(part * (double)count + 0.999999);
    return count == 0 ? 0 : sorted[rank == 0 ? 0 : rank > count ? count - 1 : rank - 1];
}

#endif

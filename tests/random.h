/* Random numbers for tests: the same on every machine, from `random_state` on. */
#ifndef CENTO_TESTS_RANDOM_H
#define CENTO_TESTS_RANDOM_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* splitmix64 */
static uint64_t random_state = 1;

static inline uint64_t random_bits(void) {
    uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint32_t random_below(uint32_t bound) {
    return (uint32_t)(random_bits() % bound);
}

/* Roughly normal: the sum of four uniform values, variance 1. */
static inline float random_normal(void) {
    double sum = 0.0;
    for (int i = 0; i < 4; i++)
        sum += (double)(random_bits() >> 40) / (double)(1 << 24) - 0.5;
    return (float)(sum * sqrt(3.0));
}

static inline float *random_floats(size_t count) {
    float *values = malloc((count + 1) * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = random_normal();
    return values;
}

#endif

/*
 * Python's `random` module, as far as benchmarks of others need it to draw the same workload: random.seed(n)
 * for a small n, and random.randint(a, b). The generator is MT19937 (Matsumoto and Nishimura, 1998), seeded
 * through its init_by_array; randint takes the upper bits, as many as the range has, and draws again while
 * they lie outside of it (CPython's _randbelow_with_getrandbits).
 */
#ifndef CENTO_BENCH_PYTHON_RANDOM_H
#define CENTO_BENCH_PYTHON_RANDOM_H

#include <stdint.h>

typedef struct python_random {
    uint32_t state[624];
    uint32_t index;
} python_random;

void python_random_seed(python_random *random, uint32_t seed);
/* In [low, high]. */
uint32_t python_randint(python_random *random, uint32_t low, uint32_t high);

#endif

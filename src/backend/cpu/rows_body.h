/*
 * Kernels over single rows: norm, activation, conversion; included by kernels_body.h once per instruction
 * set. All are a small part of a forward pass and bound by memory.
 */
#ifndef CENTO_BACKEND_CPU_ROWS_BODY_H
#define CENTO_BACKEND_CPU_ROWS_BODY_H

#include <math.h>

#include "convert.h"
#include "vec.h"

static void rmsnorm_row(const float *x, uint32_t width, const float *weight, float epsilon, float *y) {
    vf sums[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    uint32_t i = 0;
    for (; i + 4 * VEC_WIDTH <= width; i += 4 * VEC_WIDTH)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            vf value = vf_load(x + i + v * VEC_WIDTH);
            sums[v] = vf_fma(value, value, sums[v]);
        }
    float sum = vf_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < width; i++)
        sum += x[i] * x[i];
    float factor = 1.0f / sqrtf(sum / (float)width + epsilon);
    i = 0;
    for (; i + VEC_WIDTH <= width; i += VEC_WIDTH)
        vf_store(y + i, vf_load(x + i) * vf_set1(factor) * vf_load(weight + i));
    for (; i < width; i++)
        y[i] = x[i] * factor * weight[i];
}

VEC_INLINE vf silu(vf x) {
    vf exponential = vf_exp2(x * vf_set1(-1.4426950408889634f));
    return x / (vf_set1(1.0f) + exponential);
}

static void silu_mul_row(const float *gate, const float *up, size_t count, float *y) {
    size_t i = 0;
    for (; i + VEC_WIDTH <= count; i += VEC_WIDTH)
        vf_store(y + i, silu(vf_load(gate + i)) * vf_load(up + i));
    if (i < count) {
        float last[2][VEC_WIDTH] = {{0}};
        memcpy(last[0], gate + i, (count - i) * sizeof(float));
        memcpy(last[1], up + i, (count - i) * sizeof(float));
        vf_store(last[0], silu(vf_load(last[0])) * vf_load(last[1]));
        memcpy(y + i, last[0], (count - i) * sizeof(float));
    }
}

static void bf16_of_f32_row(const float *x, size_t count, uint16_t *y) {
    size_t i = 0;
    for (; i + VEC_WIDTH <= count; i += VEC_WIDTH)
        vf_store_bf16(y + i, vf_load(x + i));
    for (; i < count; i++)
        y[i] = bf16_of_f32(x[i]);
}

static uint64_t multiply(size_t rounds, float *result) {
    enum { CHAINS = 12 };
    vf chains[CHAINS], factor = vf_set1(0.999f), term = vf_set1(1e-3f);
    for (int c = 0; c < CHAINS; c++)
        chains[c] = vf_set1((float)c);
    for (size_t i = 0; i < rounds; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++)
            chains[c] = vf_fma(chains[c], factor, term);
    vf sum = vf_zero();
    for (int c = 0; c < CHAINS; c++)
        sum += chains[c];
    *result = vf_sum(sum);
    return (uint64_t)rounds * CHAINS * VEC_WIDTH * 2;
}

#endif

/*
 * Plain f64 versions of the backend's operations, one scalar loop each: what the kernels are tested against.
 * They share nothing with src/backend/cpu.
 */
#ifndef CENTO_TESTS_BACKEND_REFERENCE_H
#define CENTO_TESTS_BACKEND_REFERENCE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "host_backend.h"
#include "random.h"

/* Nearest bf16, ties to even: decided by exact comparison with both neighbours, not by adding to bits. */
static inline uint16_t reference_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t low_bits = bits & 0xFFFF0000u, high_bits = low_bits + 0x10000u;
    float low, high;
    memcpy(&low, &low_bits, sizeof low);
    memcpy(&high, &high_bits, sizeof high);
    double below = fabs((double)value - (double)low), above = fabs((double)high - (double)value);
    bool up = above < below || (above == below && (low_bits >> 16 & 1) != 0);
    return (uint16_t)((up ? high_bits : low_bits) >> 16);
}

static inline float reference_bf16_value(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float reference_bf16_round(float value) {
    return reference_bf16_value(reference_bf16(value));
}

/* IEEE 754 half precision from its definition. */
static inline double reference_f16_value(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double magnitude = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    return half >> 15 ? -magnitude : magnitude;
}

/* x (head_dim) rotated by `position`, in f64. */
static inline void reference_rotate(const double *x, uint32_t head_dim, const rope_table *rope,
                                    double position, double *y) {
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        double angle = position * rope->inv_freq[i];
        double cosine = cos(angle) * rope->attention_factor, sine = sin(angle) * rope->attention_factor;
        y[i] = x[i] * cosine - x[head_dim / 2 + i] * sine;
        y[head_dim / 2 + i] = x[head_dim / 2 + i] * cosine + x[i] * sine;
    }
}

static inline void reference_rmsnorm(const float *x, uint32_t width, const float *weight, double epsilon,
                                     double *y) {
    double sum = 0.0;
    for (uint32_t i = 0; i < width; i++)
        sum += (double)x[i] * x[i];
    for (uint32_t i = 0; i < width; i++)
        y[i] = x[i] / sqrt(sum / width + epsilon) * weight[i];
}

/*
 * Attention of one row and query head: all scores first, then one softmax. kv (layer's tokens by slot) holds
 * K then V as kv_read gives them: (2, kv_heads, head_dim) per slot.
 */
static inline void reference_attention(const attention_shape *shape, const rope_table *rope,
                                       const float *query, uint32_t position, uint32_t head,
                                       const kv_span *spans, uint32_t span_count, uint32_t page_tokens,
                                       const float *kv, double *out) {
    uint32_t head_dim = shape->head_dim, kv_head = head / (shape->heads / shape->kv_heads);
    size_t slot_floats = (size_t)2 * shape->kv_heads * head_dim, count = 0, capacity = 0;
    for (uint32_t s = 0; s < span_count; s++)
        capacity += spans[s].token_end - spans[s].token_begin;
    double *scores = malloc((capacity + 1) * sizeof *scores), largest = -INFINITY, total = 0.0;
    const float **values = malloc((capacity + 1) * sizeof *values);
    double wide[512], rotated[512];
    for (uint32_t i = 0; i < head_dim; i++)
        wide[i] = query[i];
    for (uint32_t s = 0; s < span_count; s++) {
        const kv_span *span = &spans[s];
        reference_rotate(wide, head_dim, rope, (double)((int64_t)position - span->rotation_origin), rotated);
        for (uint32_t token = span->token_begin; token < span->token_end; token++) {
            int64_t key_position = (int64_t)span->position + token - span->token_begin;
            if (key_position > position)
                continue;
            if (shape->window != 0 && !((int64_t)position - shape->window < key_position))
                continue;
            size_t slot = (size_t)span->pages[token / page_tokens] * page_tokens + token % page_tokens;
            const float *key = kv + slot * slot_floats + (size_t)kv_head * head_dim;
            double score = 0.0;
#pragma omp simd reduction(+ : score)
            for (uint32_t i = 0; i < head_dim; i++)
                score += rotated[i] * key[i];
            scores[count] = score * shape->scale;
            values[count] = key + (size_t)shape->kv_heads * head_dim;
            largest = fmax(largest, scores[count++]);
        }
    }
    for (uint32_t i = 0; i < head_dim; i++)
        out[i] = 0.0;
    for (size_t j = 0; j < count; j++) {
        double weight = exp(scores[j] - largest);
        total += weight;
        for (uint32_t i = 0; i < head_dim; i++)
            out[i] += weight * values[j][i];
    }
    for (uint32_t i = 0; i < head_dim && count > 0; i++)
        out[i] /= total;
    free(scores);
    free(values);
}

/* --------------------------------------------------------- backends of every kind here ---- */

static const char *const reference_isas[] = {"portable", "avx2", "avx512", "avx512bf16", "onednn", NULL};
#define REFERENCE_ISAS (sizeof reference_isas / sizeof *reference_isas) /* the last: the best one */

/* NULL where this CPU cannot run it. */
static inline backend *backend_for(const char *isa, cento_dtype dtype, uint32_t threads) {
    backend *device = NULL;
    cento_error error;
    backend_options options = {.compute_dtype = dtype, .threads = threads, .isa = isa};
    if (test_on_gpu()) {
        test_device_needed();
        options.deterministic = threads <= 2; /* rows alone are the same bits then */
        if (isa != NULL || backend_create(test_device(), &options, &device, &error) != CENTO_OK)
            return NULL;
        return host_backend_over(device);
    }
    if (backend_cpu_create(&options, &device, &error) != CENTO_OK)
        return NULL;
    if (isa != NULL && strcmp(isa, "onednn") == 0 &&
        strstr(device->ops->describe(device), "oneDNN") == NULL) {
        device->ops->destroy(device); /* the same as the best one */
        return NULL;
    }
    return device;
}

/* Products round activations to bf16 (vdpbf16ps, AMX, GPUs); elsewhere they stay f32. */
static inline bool rounds_activations(const backend *device, cento_dtype dtype) {
    const char *described = device->ops->describe(device);
    return dtype == CENTO_DTYPE_BF16 &&
           (strstr(described, "avx512bf16") != NULL || strstr(described, "cuda ") != NULL);
}

#endif

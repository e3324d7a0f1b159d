/* Scalar conversions between f32, bf16 and f16: round to nearest even, NaN stays NaN. */
#ifndef CENTO_BACKEND_CPU_CONVERT_H
#define CENTO_BACKEND_CPU_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "backend/backend.h"

static inline uint32_t bits_of_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f32_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float f32_of_bf16(uint16_t value) {
    return f32_of_bits((uint32_t)value << 16);
}

static inline uint16_t bf16_of_f32(float value) {
    uint32_t bits = bits_of_f32(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static inline float f32_of_f16(uint16_t value) {
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16;
    uint32_t magnitude = value & 0x7FFFu;
    if (magnitude >= 0x7C00u) /* infinity, NaN */
        return f32_of_bits(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
    if (magnitude >= 0x0400u)
        return f32_of_bits(sign | ((magnitude << 13) + 0x38000000u));
    float subnormal = (float)magnitude * 0x1p-24f; /* exact */
    return f32_of_bits(sign | bits_of_f32(subnormal));
}

/* Element `index` of unaligned tensor data. */
static inline float tensor_element(const void *data, tensor_dtype dtype, size_t index) {
    if (dtype == TENSOR_F32) {
        float value;
        memcpy(&value, (const char *)data + index * 4, sizeof value);
        return value;
    }
    uint16_t value;
    memcpy(&value, (const char *)data + index * 2, sizeof value);
    return dtype == TENSOR_BF16 ? f32_of_bf16(value) : f32_of_f16(value);
}

#endif

/*
 * One vector of VEC_WIDTH floats, for the kernel bodies: 16 (AVX-512), 8 (AVX2 + FMA) or 4 (portable GCC
 * vectors); with VEC_PORTABLE_16 16 on any machine, for tests. All that differs between the instruction sets
 * is here; the bodies are written once.
 */
#ifndef CENTO_BACKEND_CPU_VEC_H
#define CENTO_BACKEND_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(VEC_PORTABLE_16)
#define VEC_WIDTH 16
#elif defined(__AVX512F__) && defined(__AVX512BW__)
#define VEC_AVX512
#include <immintrin.h>
#define VEC_WIDTH 16
#elif defined(__AVX2__) && defined(__FMA__)
#define VEC_AVX2
#include <immintrin.h>
#define VEC_WIDTH 8
#else
#define VEC_WIDTH 4
#endif

#define VEC_INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(VEC_WIDTH * 4)));
typedef uint32_t vu __attribute__((vector_size(VEC_WIDTH * 4)));
typedef int32_t vi __attribute__((vector_size(VEC_WIDTH * 4)));
typedef uint16_t vh __attribute__((vector_size(VEC_WIDTH * 2))); /* bf16 */

VEC_INLINE vf vf_load(const float *from) {
    vf value;
    memcpy(&value, from, sizeof value);
    return value;
}

VEC_INLINE void vf_store(float *to, vf value) {
    memcpy(to, &value, sizeof value);
}

VEC_INLINE vu vu_load(const uint32_t *from) {
    vu value;
    memcpy(&value, from, sizeof value);
    return value;
}

VEC_INLINE void vu_store(uint32_t *to, vu value) {
    memcpy(to, &value, sizeof value);
}

VEC_INLINE vf vf_set1(float value) {
#if defined(VEC_AVX512)
    return (vf)_mm512_set1_ps(value);
#elif defined(VEC_AVX2)
    return (vf)_mm256_set1_ps(value);
#else
    return value - (vf){0};
#endif
}

VEC_INLINE vf vf_zero(void) {
    return vf_set1(0.0f);
}

/* a · b + c, in one rounding where the machine has it: always or never within one variant. */
VEC_INLINE vf vf_fma(vf a, vf b, vf c) {
#if defined(VEC_AVX512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(VEC_AVX2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    vf product = a * b;
    return product + c;
#endif
}

/* bits of a where mask is all ones, of b where it is zero */
VEC_INLINE vf vf_select(vi mask, vf a, vf b) {
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}

VEC_INLINE vf vf_max(vf a, vf b) {
#if defined(VEC_AVX512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(VEC_AVX2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}

VEC_INLINE vf vf_min(vf a, vf b) {
#if defined(VEC_AVX512)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(VEC_AVX2)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vf_select(a < b, a, b);
#endif
}

/* Lanes i and i ^ distance change places; for distances below VEC_WIDTH. */
#if VEC_WIDTH == 16
#define SWAP_8(a) __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define SWAP_4(a) __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define SWAP_2(a) __builtin_shufflevector(a, a, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define SWAP_1(a) __builtin_shufflevector(a, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#elif VEC_WIDTH == 8
#define SWAP_4(a) __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3)
#define SWAP_2(a) __builtin_shufflevector(a, a, 2, 3, 0, 1, 6, 7, 4, 5)
#define SWAP_1(a) __builtin_shufflevector(a, a, 1, 0, 3, 2, 5, 4, 7, 6)
#else
#define SWAP_2(a) __builtin_shufflevector(a, a, 2, 3, 0, 1)
#define SWAP_1(a) __builtin_shufflevector(a, a, 1, 0, 3, 2)
#endif

VEC_INLINE float vf_sum(vf a) {
#if VEC_WIDTH == 16
    a += SWAP_8(a);
#endif
#if VEC_WIDTH >= 8
    a += SWAP_4(a);
#endif
    a += SWAP_2(a);
    a += SWAP_1(a);
    return a[0];
}

VEC_INLINE float vf_largest(vf a) {
#if VEC_WIDTH == 16
    a = vf_max(a, SWAP_8(a));
#endif
#if VEC_WIDTH >= 8
    a = vf_max(a, SWAP_4(a));
#endif
    a = vf_max(a, SWAP_2(a));
    a = vf_max(a, SWAP_1(a));
    return a[0];
}

/* A word holds two bf16: the low half is the first one. */
VEC_INLINE vf vf_bf16_low(vu words) {
    return (vf)(words << 16);
}

VEC_INLINE vf vf_bf16_high(vu words) {
    return (vf)(words & 0xFFFF0000u);
}

VEC_INLINE vf vf_load_bf16(const uint16_t *from) {
#if defined(VEC_AVX512)
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#elif defined(VEC_AVX2)
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16);
#else
    vh halves;
    memcpy(&halves, from, sizeof halves);
    return (vf)(__builtin_convertvector(halves, vu) << 16);
#endif
}

/* Rounds to nearest even; NaN stays NaN. */
VEC_INLINE vu vu_bf16_bits(vf value) {
    vu bits = (vu)value;
    vu rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    vu quiet = (bits >> 16) | 0x40u;
    vi is_nan = value != value;
    return (quiet & (vu)is_nan) | (rounded & ~(vu)is_nan);
}

VEC_INLINE void vf_store_bf16(uint16_t *to, vf value) {
    vh halves = __builtin_convertvector(vu_bf16_bits(value), vh);
    memcpy(to, &halves, sizeof halves);
}

/* 2^f, f in [-1/2, 1/2]: Taylor in f ln 2; the seventh term is below 2^-25. */
VEC_INLINE vf vf_exp2_fraction(vf fraction) {
    vf power = vf_set1(1.5403530393381608e-4f);
    power = vf_fma(power, fraction, vf_set1(1.3333558146428443e-3f));
    power = vf_fma(power, fraction, vf_set1(9.6181291076284770e-3f));
    power = vf_fma(power, fraction, vf_set1(5.5504108664821580e-2f));
    power = vf_fma(power, fraction, vf_set1(2.4022650695910071e-1f));
    power = vf_fma(power, fraction, vf_set1(6.9314718055994531e-1f));
    return vf_fma(power, fraction, vf_set1(1.0f));
}

/*
 * 2^x, relative error under 2e-7, exactly 0 below 2^-126 and never infinite (x is cut at 127).
 * x = n + f with f in [-1/2, 1/2]: 2^f by a polynomial, 2^n by the exponent bits.
 */
VEC_INLINE vf vf_exp2(vf x) {
    vi tiny = x < -126.0f;
    vf clamped = vf_min(vf_max(x, vf_set1(-126.0f)), vf_set1(127.0f));
    vf magic = vf_set1(12582912.0f); /* 1.5 · 2^23: adding it rounds to an integer in the low bits */
    vf shifted = clamped + magic;
    vf fraction = clamped - (shifted - magic);
    vf power = vf_exp2_fraction(fraction);
    vu exponent = ((vu)shifted - (vu)magic) << 23;
    return (vf)((vu)((vu)power + exponent) & ~(vu)tiny);
}

/* 2^x for x <= 0, with the same polynomial: what softmax needs. Exactly 0 from -127 down (the exponent bits
 * come out as 0), and near enough to it above -126. */
VEC_INLINE vf vf_exp2_weight(vf x) {
    vf magic = vf_set1(12582912.0f);
    vf clamped = vf_max(x, vf_set1(-127.0f));
    vf shifted = clamped + magic;
    vf fraction = clamped - (shifted - magic);
    vf power = vf_exp2_fraction(fraction);
    return (vf)((vu)power + ((vu)shifted << 23)); /* the bits of magic above the exponent fall out */
}

#endif

/* Transposing VEC_WIDTH × VEC_WIDTH words in registers. */
#ifndef CENTO_BACKEND_CPU_TRANSPOSE_H
#define CENTO_BACKEND_CPU_TRANSPOSE_H

#include "vec.h"

#if VEC_WIDTH == 4
#define UNPACK_LOW_32(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define UNPACK_HIGH_32(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define UNPACK_LOW_64(a, b)  __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define UNPACK_HIGH_64(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#elif VEC_WIDTH == 8
#define UNPACK_LOW_32(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define UNPACK_HIGH_32(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define UNPACK_LOW_64(a, b)  __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define UNPACK_HIGH_64(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#else
#define UNPACK_LOW_32(a, b)                                                                                  \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define UNPACK_HIGH_32(a, b)                                                                                 \
    __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define UNPACK_LOW_64(a, b)                                                                                  \
    __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define UNPACK_HIGH_64(a, b)                                                                                 \
    __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#endif

/* Words: rows in, columns out. First within the 4 × 4 blocks of 128-bit lanes, then the lanes. */
VEC_INLINE void transpose(vu m[VEC_WIDTH]) {
    vu u[VEC_WIDTH];
#pragma GCC unroll 4
    for (int i = 0; i < VEC_WIDTH; i += 4) {
        vu low_01 = UNPACK_LOW_32(m[i], m[i + 1]), high_01 = UNPACK_HIGH_32(m[i], m[i + 1]);
        vu low_23 = UNPACK_LOW_32(m[i + 2], m[i + 3]), high_23 = UNPACK_HIGH_32(m[i + 2], m[i + 3]);
        u[i] = UNPACK_LOW_64(low_01, low_23);
        u[i + 1] = UNPACK_HIGH_64(low_01, low_23);
        u[i + 2] = UNPACK_LOW_64(high_01, high_23);
        u[i + 3] = UNPACK_HIGH_64(high_01, high_23);
    }
#if VEC_WIDTH == 4
    for (int i = 0; i < 4; i++)
        m[i] = u[i];
#elif VEC_WIDTH == 8
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        m[c] = __builtin_shufflevector(u[c], u[4 + c], 0, 1, 2, 3, 8, 9, 10, 11);
        m[4 + c] = __builtin_shufflevector(u[c], u[4 + c], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#else
#define LANES(a, b, i, j)                                                                                    \
    __builtin_shufflevector(a, b, 4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * j, 4 * j + 1, 4 * j + 2,       \
                            4 * j + 3, 16 + 4 * i, 17 + 4 * i, 18 + 4 * i, 19 + 4 * i, 16 + 4 * j,           \
                            17 + 4 * j, 18 + 4 * j, 19 + 4 * j)
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        vu low_01 = LANES(u[c], u[4 + c], 0, 1), high_01 = LANES(u[c], u[4 + c], 2, 3);
        vu low_23 = LANES(u[8 + c], u[12 + c], 0, 1), high_23 = LANES(u[8 + c], u[12 + c], 2, 3);
        m[c] = LANES(low_01, low_23, 0, 2);
        m[4 + c] = LANES(low_01, low_23, 1, 3);
        m[8 + c] = LANES(high_01, high_23, 0, 2);
        m[12 + c] = LANES(high_01, high_23, 1, 3);
    }
#undef LANES
#endif
}

#endif

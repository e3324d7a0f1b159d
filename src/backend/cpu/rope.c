/* Rotary angles: computed in f64, kept as f32 cos and sin until their position changes. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cpu.h"

void rope_memo_free(rope_memo *memo) {
    mem_free(memo->inv_freq);
    mem_free(memo->positions);
    mem_free(memo->cos_sin);
    memset(memo, 0, sizeof *memo);
}

static bool memo_serves(const rope_memo *memo, const rope_table *rope, uint32_t half) {
    return memo->inv_freq != NULL && memo->half == half && memo->factor == rope->attention_factor &&
           memcmp(memo->inv_freq, rope->inv_freq, half * sizeof(double)) == 0;
}

static cento_status memo_reset(rope_memo *memo, const rope_table *rope, uint32_t half, cento_error *error) {
    rope_memo_free(memo);
    memo->inv_freq = mem_alloc(half, sizeof(double));
    if (memo->inv_freq == NULL)
        return error_memory(error, half * sizeof(double));
    memcpy(memo->inv_freq, rope->inv_freq, half * sizeof(double));
    memo->half = half;
    memo->factor = rope->attention_factor;
    return CENTO_OK;
}

static cento_status memo_grow(rope_memo *memo, size_t count, cento_error *error) {
    if (count <= memo->capacity)
        return CENTO_OK;
    size_t capacity = count < 2 * memo->capacity ? 2 * memo->capacity : count;
    size_t entry_bytes = 2 * (size_t)memo->half * sizeof(float);
    if (capacity > SIZE_MAX / (entry_bytes + sizeof(int64_t)))
        return error_memory(error, SIZE_MAX);
    int64_t *positions = mem_alloc(capacity, sizeof *positions);
    float *cos_sin = mem_alloc_aligned(capacity * entry_bytes);
    if (positions == NULL || cos_sin == NULL) {
        mem_free(positions);
        mem_free(cos_sin);
        return error_memory(error, capacity * entry_bytes);
    }
    mem_free(memo->positions);
    mem_free(memo->cos_sin);
    memo->positions = positions;
    memo->cos_sin = cos_sin;
    memo->capacity = capacity;
    memo->valid = 0;
    return CENTO_OK;
}

static void memo_compute(rope_memo *memo, size_t entry, int64_t position) {
    float *cosine = memo->cos_sin + entry * 2 * memo->half, *sine = cosine + memo->half;
    for (uint32_t i = 0; i < memo->half; i++) {
        double angle = (double)position * memo->inv_freq[i];
        cosine[i] = (float)(cos(angle) * memo->factor);
        sine[i] = (float)(sin(angle) * memo->factor);
    }
    memo->positions[entry] = position;
}

cento_status rope_memo_fill(rope_memo *memo, const rope_table *rope, uint32_t half, const int64_t *positions,
                            size_t count, int threads, cento_error *error) {
    if (!memo_serves(memo, rope, half))
        TRY(memo_reset(memo, rope, half, error));
    TRY(memo_grow(memo, count, error));
    size_t valid = memo->valid, same = 0;
    while (same < count && same < valid && memo->positions[same] == positions[same])
        same++;
    if (same == count)
        return CENTO_OK;
#pragma omp parallel for num_threads(threads) if (count - same >= 128)
    for (size_t entry = same; entry < count; entry++)
        if (entry >= valid || memo->positions[entry] != positions[entry])
            memo_compute(memo, entry, positions[entry]);
    if (count > valid)
        memo->valid = count;
    return CENTO_OK;
}

/*
 * Promises of attention by tile registers, on any machine: the same body as attention_amx.c, over vectors of
 * 16 in portable C and tile operations that do what the manual says, so that layouts, masks and edges are
 * checked where there is no AMX.
 */
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors of 64 bytes are passed, in one file */
#define VEC_PORTABLE_16

#include "backend/cpu/convert.h"
#include "backend/cpu/cpu.h"

/* Eight registers of 16 rows of 64 bytes. */
static _Thread_local uint32_t registers[8][16][16];

static void tile_zero(int t) {
    memset(registers[t], 0, sizeof registers[t]);
}

static void tile_load(int t, const void *from, size_t stride) {
    for (int row = 0; row < 16; row++)
        memcpy(registers[t][row], (const char *)from + (size_t)row * stride, 64);
}

static void tile_store(int t, void *to, size_t stride) {
    for (int row = 0; row < 16; row++)
        memcpy((char *)to + (size_t)row * stride, registers[t][row], 64);
}

/* sum[m][n] += the pairs a[m][k] · b[k][n] */
static void tile_dot(int sum, int a, int b) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float parts[2] = {0.0f, 0.0f}, value;
            for (int k = 0; k < 16; k++)
                for (int half = 0; half < 2; half++) {
                    uint32_t x = registers[a][m][k] >> (16 * half) << 16,
                             y = registers[b][k][n] >> (16 * half) << 16;
                    parts[half] += f32_of_bits(x) * f32_of_bits(y);
                }
            memcpy(&value, &registers[sum][m][n], 4);
            value += parts[0] + parts[1];
            memcpy(&registers[sum][m][n], &value, 4);
        }
}

#define TILE_FENCE()
#define TILES_BEGIN()
#define TILES_END()
#define TILE_ZERO(t)               tile_zero(t)
#define TILE_LOAD(t, from, stride) tile_load(t, from, stride)
#define TILE_STORE(t, to, stride)  tile_store(t, to, stride)
#define TILE_DOT(sum, a, b)        tile_dot(sum, a, b)

#include "backend/cpu/attention_amx_body.h"

#include "base/mem.h"
#include "support.h"

enum { ROWS_MAX = 100, BLOCKS = 3, DIM_MAX = 256 };

static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

static float random_float(void) {
    return (float)random_below(1 << 20) * 0x1p-19f - 1.0f;
}

/* Rows over a few blocks of keys, which stand in pages of 8 to 64 tokens, or one by one. */
typedef struct amx_case {
    uint32_t rows, head_dim, keys;
    float *queries, *packed, *out, *maximum, *total;
    uint16_t *pages; /* (keys, 2, head_dim) in an order of their own */
    attention_block blocks[BLOCKS];
    uint32_t block_count;
    int32_t begin[ROWS_MAX], end[ROWS_MAX]; /* of all keys */
    void *scratch;
} amx_case;

static void *allocate(size_t bytes) {
    void *memory = mem_alloc_aligned(bytes);
    assert_non_null(memory);
    return memory;
}

static void lay_out(amx_case *test) {
    uint32_t page = 1u << random_below(7), head_dim = test->head_dim;
    test->block_count = (test->keys + KEYS - 1) / KEYS;
    for (uint32_t b = 0; b < test->block_count; b++) {
        attention_block *block = &test->blocks[b];
        uint32_t begin = b * KEYS;
        block->keys = test->keys - begin < KEYS ? test->keys - begin : KEYS;
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t key = begin + (i < block->keys ? i : block->keys - 1);
            /* pages in an order that is not theirs: back to front */
            uint32_t pages = BLOCKS * KEYS / page;
            uint32_t slot = (pages - 1 - key / page) * page + key % page;
            block->key_rows[i] = (const char *)(test->pages + (size_t)slot * head_dim);
            block->value_rows[i] = (const char *)(test->pages + ((size_t)BLOCKS * KEYS + slot) * head_dim);
        }
    }
}

static void case_create(amx_case *test, uint32_t rows, uint32_t head_dim, uint32_t keys) {
    *test = (amx_case){.rows = rows, .head_dim = head_dim, .keys = keys};
    size_t page_elements = (size_t)2 * BLOCKS * KEYS * head_dim;
    uint32_t packed_rows = (rows + SIDE - 1) / SIDE * SIDE;
    test->queries = allocate(rows * head_dim * sizeof(float));
    test->packed = allocate(packed_rows * head_dim * sizeof(float));
    test->out = allocate((rows + 1) * head_dim * sizeof(float));
    test->maximum = allocate((rows + 1) * sizeof(float));
    test->total = allocate((rows + 1) * sizeof(float));
    test->pages = allocate(page_elements * sizeof(uint16_t));
    test->scratch = allocate(scratch_bytes(head_dim));
    memset(test->scratch, 0xFF, scratch_bytes(head_dim)); /* NaN */
    memset(test->packed, 0xFF, packed_rows * head_dim * sizeof(float));
    memset(test->pages, 0xFF, page_elements * sizeof(uint16_t));
    for (uint32_t i = 0; i < rows * head_dim; i++)
        test->queries[i] = f32_of_bf16(bf16_of_f32(random_float() * 0.5f));
    lay_out(test);
    for (uint32_t b = 0; b < test->block_count; b++)
        for (uint32_t k = 0; k < test->blocks[b].keys; k++)
            for (uint32_t i = 0; i < head_dim; i++) {
                ((uint16_t *)(uintptr_t)test->blocks[b].key_rows[k])[i] = bf16_of_f32(random_float());
                ((uint16_t *)(uintptr_t)test->blocks[b].value_rows[k])[i] = bf16_of_f32(random_float());
            }
    bool partial = random_below(2);
    for (uint32_t r = 0; r < rows; r++) {
        test->begin[r] = partial ? (int32_t)random_below(keys) : 0;
        test->end[r] = partial ? (int32_t)random_below(keys + 1) : (int32_t)keys;
    }
}

static void case_free(amx_case *test) {
    void *const memory[] = {test->queries, test->packed, test->out,    test->maximum,
                            test->total,   test->pages,  test->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        mem_free(memory[i]);
}

/* Rows [first, first + rows) from the empty state. What lies behind the rows is left alone. */
static void attend(amx_case *test, uint32_t first, uint32_t rows) {
    uint32_t head_dim = test->head_dim;
    for (uint32_t r = 0; r <= rows; r++) {
        test->maximum[r] = r < rows ? -INFINITY : 7.0f;
        test->total[r] = r < rows ? 0.0f : 7.0f;
        for (uint32_t i = 0; i < head_dim; i++)
            test->out[(size_t)r * head_dim + i] = r < rows ? 0.0f : 7.0f;
    }
    pack_queries(test->queries + (size_t)first * head_dim, rows, head_dim, test->packed);
    attention_tile tile = {
        .rows = rows,
        .head_dim = head_dim,
        .dim_padded = head_dim,
        .bf16 = true,
        .queries = test->packed,
        .maximum = test->maximum,
        .total = test->total,
        .out = test->out,
        .scratch = test->scratch,
    };
    for (uint32_t b = 0; b < test->block_count; b++) {
        int32_t begin[ROWS_MAX], end[ROWS_MAX], keys = (int32_t)test->blocks[b].keys;
        for (uint32_t r = 0; r < rows; r++) {
            begin[r] = test->begin[first + r] - (int32_t)(b * KEYS);
            end[r] = test->end[first + r] - (int32_t)(b * KEYS);
            begin[r] = begin[r] < 0 ? 0 : begin[r];
            end[r] = end[r] > keys ? keys : end[r];
        }
        attend_block(&tile, &test->blocks[b], b + 1 < test->block_count ? &test->blocks[b + 1] : NULL, begin,
                     end);
    }
    assert_true(test->maximum[rows] == 7.0f && test->total[rows] == 7.0f);
    for (uint32_t i = 0; i < head_dim; i++)
        assert_true(test->out[(size_t)rows * head_dim + i] == 7.0f);
}

static void expect_row(const amx_case *test, uint32_t row) {
    uint32_t head_dim = test->head_dim;
    double scores[BLOCKS * KEYS], sum[DIM_MAX] = {0}, total = 0.0, largest = -INFINITY;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t key = test->begin[row]; key < test->end[row]; key++) {
            const attention_block *block = &test->blocks[key / KEYS];
            const uint16_t *k = (const void *)block->key_rows[key % KEYS];
            const uint16_t *v = (const void *)block->value_rows[key % KEYS];
            double score = 0.0;
            for (uint32_t i = 0; pass == 0 && i < head_dim; i++)
                score += (double)test->queries[row * head_dim + i] * (double)f32_of_bf16(k[i]);
            if (pass == 0) {
                scores[key] = score;
                largest = score > largest ? score : largest;
                continue;
            }
            double weight = exp2(scores[key] - largest);
            total += weight;
            for (uint32_t i = 0; i < head_dim; i++)
                sum[i] += weight * (double)f32_of_bf16(v[i]);
        }
    float got[DIM_MAX];
    float factor = test->total[row] > 0.0f ? 1.0f / test->total[row] : 0.0f;
    read_state(test->out + (size_t)row * head_dim, factor, head_dim, true, got);
    for (uint32_t i = 0; i < head_dim; i++) {
        double expected = total > 0.0 ? sum[i] / total : 0.0;
        if (!(fabs((double)got[i] - expected) <= 4e-3)) /* weights are rounded to 2^-9 */
            fail_msg("%u rows, %u keys of %u: row %u, %u: %g, expected %g", test->rows, test->keys, head_dim,
                     row, i, (double)got[i], expected);
    }
}

static void rows_match_f64_whatever_they_see_and_however_their_keys_lie(void **state) {
    (void)state;
    static const uint32_t head_dims[] = {32, 64, 96, 128, 256};
    for (uint32_t round = 0; round < 60; round++) {
        amx_case test;
        random_state = round;
        uint32_t rows = 1 + random_below(round % 3 == 0 ? ROWS_MAX : 20);
        case_create(&test, rows, head_dims[round % 5], 1 + random_below(BLOCKS * KEYS));
        attend(&test, 0, rows);
        for (uint32_t row = 0; row < rows; row++)
            expect_row(&test, row);
        case_free(&test);
    }
}

static void a_row_has_the_same_bits_alone_and_in_any_company(void **state) {
    (void)state;
    for (uint32_t round = 0; round < 12; round++) {
        amx_case test;
        random_state = 100 + round;
        uint32_t rows = 20 + random_below(30), head_dim = round % 2 ? 64 : 128;
        case_create(&test, rows, head_dim, 200 + random_below(400));
        attend(&test, 0, rows);
        size_t bytes = (size_t)rows * head_dim * sizeof(float);
        float *together = allocate(bytes), totals[ROWS_MAX];
        memcpy(together, test.out, bytes);
        memcpy(totals, test.total, rows * sizeof(float));
        for (uint32_t row = 0; row < rows; row += 1 + random_below(6)) {
            uint32_t count = rows - row < 5 ? rows - row : 1 + random_below(5);
            attend(&test, row, count);
            assert_memory_equal(test.out, together + (size_t)row * head_dim,
                                (size_t)count * head_dim * sizeof(float));
            assert_memory_equal(test.total, totals + row, count * sizeof(float));
        }
        mem_free(together);
        case_free(&test);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_match_f64_whatever_they_see_and_however_their_keys_lie),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_in_any_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

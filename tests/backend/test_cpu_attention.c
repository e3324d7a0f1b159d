/*
 * Promises of the CPU backend's KV pages and attention, for every instruction set this CPU has: against dense
 * f64 attention over random structures of spans, with NaN in every slot that no span names.
 */
#include "support.h"

#include "base/mem.h"
#include "reference.h"

enum { SPANS_MAX = 12, POOL_PAGES = 96, LAYERS = 2 };

/* One random batch over one random pool. */
typedef struct test_case {
    attention_shape shape;
    rope_table rope;
    double inv_freq[256];
    kv_pool_shape pool_shape;
    uint32_t rows;
    uint32_t *positions;
    float *qkv;
    kv_span spans[SPANS_MAX];
    uint32_t pages[SPANS_MAX][POOL_PAGES];
    uint32_t span_count;
    float *kv; /* by slot, what the pool holds */
} test_case;

static size_t slot_floats(const test_case *test) {
    return (size_t)2 * test->shape.kv_heads * test->shape.head_dim;
}

static size_t qkv_width(const test_case *test) {
    return ((size_t)test->shape.heads + 2 * test->shape.kv_heads) * test->shape.head_dim;
}

static void case_shape(test_case *test) {
    static const uint32_t head_dims[] = {32, 64, 128, 256, 16, 80, 96, 2, 34};
    static const uint32_t heads[][2] = {{8, 8}, {8, 2}, {4, 1}, {1, 1}, {12, 4}, {14, 2}, {7, 1}};
    memset(test, 0, sizeof *test);
    const uint32_t *pair = heads[random_below(7)];
    uint32_t head_dim = head_dims[random_below(9)];
    test->shape = (attention_shape){
        .heads = pair[0],
        .kv_heads = pair[1],
        .head_dim = head_dim,
        .scale = 1.0f / sqrtf((float)head_dim),
        .window = random_below(3) == 0 ? 1 + random_below(600) : 0,
        .norm_epsilon = 1e-6f,
    };
    for (uint32_t i = 0; i < head_dim / 2; i++)
        test->inv_freq[i] = pow(10000.0, -2.0 * i / head_dim);
    test->rope = (rope_table){test->inv_freq, random_below(2) ? 1.0 : 1.2};
    test->pool_shape = (kv_pool_shape){
        .layers = LAYERS,
        .kv_heads = pair[1],
        .head_dim = head_dim,
        .pages = POOL_PAGES,
        .page_tokens = 16u << random_below(3),
    };
}

/* Pages in random order without repetition. */
static void shuffled_pages(uint32_t *pages) {
    for (uint32_t i = 0; i < POOL_PAGES; i++)
        pages[i] = i;
    for (uint32_t i = POOL_PAGES - 1; i > 0; i--) {
        uint32_t j = random_below(i + 1), page = pages[i];
        pages[i] = pages[j];
        pages[j] = page;
    }
}

/* Spans at random offsets, some stored from position 0 (origin = offset), some sharing another span's pages,
 * some ahead of all rows, some empty. */
static void case_spans(test_case *test) {
    test->span_count = random_below(SPANS_MAX + 1);
    uint32_t position = random_below(50), page_tokens = test->pool_shape.page_tokens;
    for (uint32_t s = 0; s < test->span_count; s++) {
        kv_span *span = &test->spans[s];
        if (s > 0 && random_below(4) == 0)
            memcpy(test->pages[s], test->pages[random_below(s)], sizeof test->pages[s]);
        else
            shuffled_pages(test->pages[s]);
        uint32_t tokens = random_below(5) == 0 ? random_below(1400) : random_below(150);
        if (tokens > (POOL_PAGES - 1) * page_tokens)
            tokens = (POOL_PAGES - 1) * page_tokens;
        uint32_t skipped = random_below(page_tokens);
        *span = (kv_span){
            .pages = test->pages[s],
            .token_begin = skipped,
            .token_end = skipped + tokens,
            .position = position,
            .rotation_origin = random_below(2) ? 0 : (int64_t)position - skipped,
        };
        span->row_begin = random_below(3) ? 0 : random_below(test->rows);
        span->row_count =
            random_below(3) ? test->rows - span->row_begin : random_below(test->rows - span->row_begin + 1);
        position += tokens + random_below(3);
    }
    for (uint32_t row = 0; row < test->rows; row++)
        test->positions[row] = position > test->rows && random_below(20) > 0
                                   ? position - test->rows + row - random_below(2)
                                   : random_below(position + 1);
}

static void case_create(test_case *test, uint32_t rows) {
    case_shape(test);
    test->rows = rows;
    test->positions = malloc(rows * sizeof *test->positions);
    test->qkv = random_floats(rows * qkv_width(test));
    case_spans(test);
    size_t slots = (size_t)POOL_PAGES * test->pool_shape.page_tokens;
    test->kv = malloc(slots * slot_floats(test) * sizeof(float));
    for (size_t i = 0; i < slots * slot_floats(test); i++)
        test->kv[i] = NAN;
}

static void case_free(test_case *test) {
    free(test->positions);
    free(test->qkv);
    free(test->kv);
}

/* Fills the slots that spans name with random values and everything else with NaN. */
static backend_kv_pool *case_pool(test_case *test, backend *device, uint32_t layer, uint64_t seed) {
    cento_error error;
    backend_kv_pool *pool = NULL;
    ASSERT_OK(device->ops->kv_pool_create(device, &test->pool_shape, &pool, &error));
    size_t width = slot_floats(test), slots = (size_t)POOL_PAGES * test->pool_shape.page_tokens;
    float *token = malloc(width * sizeof *token);
    for (size_t i = 0; i < width; i++)
        token[i] = NAN;
    for (uint32_t slot = 0; slot < slots; slot++)
        for (uint32_t l = 0; l < LAYERS; l++)
            device->ops->kv_write(device, pool, l, slot, token);
    random_state = seed;
    for (uint32_t s = 0; s < test->span_count; s++)
        for (uint32_t t = test->spans[s].token_begin; t < test->spans[s].token_end; t++) {
            uint32_t page_tokens = test->pool_shape.page_tokens;
            uint32_t slot = test->spans[s].pages[t / page_tokens] * page_tokens + t % page_tokens;
            for (size_t i = 0; i < width; i++)
                token[i] = random_normal();
            device->ops->kv_write(device, pool, layer, slot, token);
            device->ops->kv_read(device, pool, layer, slot, test->kv + slot * width);
        }
    free(token);
    return pool;
}

static void expect_attention(const test_case *test, const backend *device, const float *out) {
    double expected[512];
    for (uint32_t row = 0; row < test->rows; row++)
        for (uint32_t head = 0; head < test->shape.heads; head++) {
            uint32_t head_dim = test->shape.head_dim;
            reference_attention(&test->shape, &test->rope,
                                test->qkv + row * qkv_width(test) + (size_t)head * head_dim, row,
                                test->positions[row], head, test->spans, test->span_count,
                                test->pool_shape.page_tokens, test->kv, expected);
            for (uint32_t i = 0; i < head_dim; i++) {
                double got = out[((size_t)row * test->shape.heads + head) * head_dim + i];
                if (!(fabs(got - expected[i]) <= 2e-5))
                    fail_msg("%s: %u rows, %u/%u heads of %u, window %u, row %u head %u: %.9g, expected %.9g",
                             device->ops->describe(device), test->rows, test->shape.heads,
                             test->shape.kv_heads, head_dim, test->shape.window, row, head, got, expected[i]);
            }
        }
}

static void run_attention(const test_case *test, backend *device, const backend_kv_pool *pool, uint32_t layer,
                          float *out) {
    cento_error error;
    ASSERT_OK(device->ops->attention(device, &test->shape, &test->rope, test->qkv, test->rows,
                                     test->positions, test->spans, test->span_count, pool, layer, out,
                                     &error));
}

static void attention_matches_dense_f64_and_reads_no_other_slot(void **state) {
    (void)state;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int round = 0; round < 36; round++) {
            cento_dtype dtype = (cento_dtype)(round % 2);
            backend *device = backend_for(reference_isas[i], dtype, 1 + (uint32_t)round % 3);
            if (device == NULL)
                break;
            random_state = 1000u + (uint64_t)round;
            test_case test;
            case_create(&test, 1 + random_below(round % 3 == 0 ? 40 : 5));
            backend_kv_pool *pool = case_pool(&test, device, 1, 77);
            float *out = random_floats((size_t)test.rows * test.shape.heads * test.shape.head_dim);
            /* twice: the second call finds its angles computed */
            for (int repeat = 0; repeat < 2; repeat++) {
                run_attention(&test, device, pool, 1, out);
                expect_attention(&test, device, out);
            }
            free(out);
            device->ops->kv_pool_free(device, pool);
            device->ops->destroy(device);
            case_free(&test);
        }
}

static void a_row_attends_the_same_alone_and_on_any_number_of_threads(void **state) {
    (void)state;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int round = 0; round < 16; round++) {
            float *first = NULL, *out = NULL;
            for (uint32_t threads = 1; threads <= 3; threads++) {
                backend *device = backend_for(reference_isas[i], (cento_dtype)(round % 2), threads);
                if (device == NULL)
                    break;
                random_state = 5000u + (uint64_t)round;
                test_case test;
                case_create(&test, 1 + random_below(30));
                backend_kv_pool *pool = case_pool(&test, device, 0, 78);
                size_t width = (size_t)test.shape.heads * test.shape.head_dim;
                out = random_floats(test.rows * width);
                run_attention(&test, device, pool, 0, out);
                if (first == NULL)
                    first = out;
                else
                    assert_memory_equal(first, out, test.rows * width * sizeof(float));
                for (uint32_t row = 0; row < test.rows && threads == 3; row++) {
                    kv_span seen[SPANS_MAX];
                    uint32_t count = 0;
                    for (uint32_t s = 0; s < test.span_count; s++)
                        if (row >= test.spans[s].row_begin &&
                            row < test.spans[s].row_begin + test.spans[s].row_count) {
                            seen[count] = test.spans[s];
                            seen[count].row_begin = 0;
                            seen[count++].row_count = 1;
                        }
                    test_case alone = test;
                    alone.rows = 1;
                    alone.qkv = test.qkv + row * qkv_width(&test);
                    alone.positions = test.positions + row;
                    alone.span_count = count;
                    memcpy(alone.spans, seen, sizeof seen);
                    float *single = random_floats(width);
                    run_attention(&alone, device, pool, 0, single);
                    assert_memory_equal(single, first + row * width, width * sizeof(float));
                    free(single);
                }
                if (out != first)
                    free(out);
                device->ops->kv_pool_free(device, pool);
                device->ops->destroy(device);
                case_free(&test);
            }
            free(first);
        }
}

static void rows_that_see_nothing_get_zeros(void **state) {
    (void)state;
    for (size_t i = 0; i < REFERENCE_ISAS; i++) {
        backend *device = backend_for(reference_isas[i], CENTO_DTYPE_BF16, 2);
        if (device == NULL)
            continue;
        random_state = 9;
        test_case test;
        case_create(&test, 3);
        test.span_count = 1;
        test.spans[0] = (kv_span){.pages = test.pages[0], .token_end = 20, .position = 100, .row_count = 3};
        for (uint32_t page = 0; page < POOL_PAGES; page++)
            test.pages[0][page] = page;
        test.positions[0] = 99;
        test.positions[1] = 0;
        test.positions[2] = 100;
        backend_kv_pool *pool = case_pool(&test, device, 0, 3);
        size_t width = (size_t)test.shape.heads * test.shape.head_dim;
        float *out = random_floats(3 * width);
        run_attention(&test, device, pool, 0, out);
        for (size_t k = 0; k < 2 * width; k++)
            assert_true(out[k] == 0.0f);
        expect_attention(&test, device, out);
        test.span_count = 0;
        run_attention(&test, device, pool, 0, out);
        for (size_t k = 0; k < 3 * width; k++)
            assert_true(out[k] == 0.0f);
        free(out);
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
        case_free(&test);
    }
}

static void kv_is_normalised_rotated_and_written_to_its_slot(void **state) {
    (void)state;
    cento_error error;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int round = 0; round < 24; round++) {
            cento_dtype dtype = (cento_dtype)(round % 2);
            backend *device = backend_for(reference_isas[i], dtype, 2);
            if (device == NULL)
                break;
            random_state = 300u + (uint64_t)round;
            test_case test;
            case_create(&test, 1 + random_below(40));
            bool norm = round % 3 == 0;
            uint32_t head_dim = test.shape.head_dim, heads = test.shape.heads, kv_heads = test.shape.kv_heads;
            size_t width = qkv_width(&test), slot_width = slot_floats(&test);
            float *q_norm = random_floats(head_dim), *k_norm = random_floats(head_dim);
            float *qkv = malloc(test.rows * width * sizeof *qkv), *kv = malloc(slot_width * sizeof *kv);
            memcpy(qkv, test.qkv, test.rows * width * sizeof *qkv);
            uint32_t *slots = malloc(test.rows * sizeof *slots);
            for (uint32_t row = 0; row < test.rows; row++) {
                slots[row] = (row * 37 + 5) % (POOL_PAGES * test.pool_shape.page_tokens);
                test.positions[row] = random_below(100000);
            }
            backend_kv_pool *pool;
            ASSERT_OK(device->ops->kv_pool_create(device, &test.pool_shape, &pool, &error));
            ASSERT_OK(device->ops->write_kv(device, &test.shape, &test.rope, qkv, test.rows, test.positions,
                                            slots, norm ? q_norm : NULL, norm ? k_norm : NULL, pool, 1,
                                            &error));
            double tolerance = dtype == CENTO_DTYPE_BF16 ? 1.0 / 256 : 3e-6, head[512], rotated[512];
            for (uint32_t row = 0; row < test.rows; row++) {
                device->ops->kv_read(device, pool, 1, slots[row], kv);
                for (uint32_t h = 0; h < heads + 2 * kv_heads; h++) {
                    const float *before = test.qkv + row * width + (size_t)h * head_dim;
                    const float *weight = h < heads ? q_norm : k_norm;
                    for (uint32_t k = 0; k < head_dim; k++)
                        head[k] = before[k];
                    if (norm && h < heads + kv_heads)
                        reference_rmsnorm(before, head_dim, weight, (double)test.shape.norm_epsilon, head);
                    for (uint32_t k = 0; k < head_dim && h < heads; k++) /* q: normalised, unrotated */
                        assert_true(fabs(qkv[row * width + (size_t)h * head_dim + k] - head[k]) <=
                                    3e-6 * (1.0 + fabs(head[k])));
                    if (h < heads)
                        continue;
                    const double *expected = head;
                    if (h < heads + kv_heads) {
                        reference_rotate(head, head_dim, &test.rope, test.positions[row], rotated);
                        expected = rotated;
                    }
                    for (uint32_t k = 0; k < head_dim; k++) {
                        double got = kv[(size_t)(h - heads) * head_dim + k];
                        if (!(fabs(got - expected[k]) <= tolerance * fabs(expected[k]) + 3e-6))
                            fail_msg("%s: row %u, head %u, element %u: %.9g, expected %.9g",
                                     device->ops->describe(device), row, h, k, got, expected[k]);
                    }
                }
            }
            slots[0] = POOL_PAGES * test.pool_shape.page_tokens;
            ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "slot",
                         device->ops->write_kv(device, &test.shape, &test.rope, qkv, test.rows,
                                               test.positions, slots, NULL, NULL, pool, 1, &error));
            device->ops->kv_pool_free(device, pool);
            device->ops->destroy(device);
            free(q_norm);
            free(k_norm);
            free(qkv);
            free(kv);
            free(slots);
            case_free(&test);
        }
}

static void bf16_pages_round_to_nearest_even(void **state) {
    (void)state;
    cento_error error;
    for (size_t i = 0; i < REFERENCE_ISAS; i++) {
        backend *device = backend_for(reference_isas[i], CENTO_DTYPE_BF16, 1);
        if (device == NULL)
            continue;
        kv_pool_shape shape = {.layers = 1, .kv_heads = 1, .head_dim = 64, .pages = 1, .page_tokens = 16};
        backend_kv_pool *pool;
        ASSERT_OK(device->ops->kv_pool_create(device, &shape, &pool, &error));
        float kv[128], got[128];
        for (int round = 0; round < 2000; round++) {
            for (int k = 0; k < 128; k++) {
                uint32_t bits = (uint32_t)random_bits();
                if (k % 4 == 0)
                    bits = (bits & 0xFFFF0000u) | 0x8000u; /* a tie */
                if ((bits & 0x7F800000u) == 0x7F800000u || (bits & 0x7F800000u) == 0x7F000000u)
                    bits &= 0x80FFFFFFu;
                memcpy(&kv[k], &bits, 4);
            }
            device->ops->kv_write(device, pool, 0, 3, kv);
            device->ops->kv_read(device, pool, 0, 3, got);
            for (int k = 0; k < 128; k++)
                assert_true(got[k] == reference_bf16_round(kv[k]));
        }
        kv[0] = NAN;
        kv[1] = INFINITY;
        kv[2] = -INFINITY;
        device->ops->kv_write(device, pool, 0, 3, kv);
        device->ops->kv_read(device, pool, 0, 3, got);
        assert_true(isnan(got[0]) && got[1] == INFINITY && got[2] == -INFINITY);
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
    }
}

static void bytes_read_are_counted_once_for_rows_of_a_tile(void **state) {
    (void)state;
    backend *device = backend_for(NULL, CENTO_DTYPE_BF16, 2);
    random_state = 12;
    test_case test;
    case_create(&test, 4);
    test.shape = (attention_shape){.heads = 4, .kv_heads = 2, .head_dim = 32, .scale = 0.2f};
    test.pool_shape.kv_heads = 2;
    test.pool_shape.head_dim = 32;
    case_free(&test);
    test.positions = malloc(4 * sizeof *test.positions);
    test.qkv = random_floats(4 * qkv_width(&test));
    test.kv = malloc((size_t)POOL_PAGES * 64 * slot_floats(&test) * sizeof(float));
    test.span_count = 1;
    test.spans[0] = (kv_span){.pages = test.pages[0], .token_end = 100, .row_count = 4};
    for (uint32_t i = 0; i < POOL_PAGES; i++)
        test.pages[0][i] = i;
    for (uint32_t i = 0; i < 4; i++)
        test.positions[i] = 99 + i;
    backend_kv_pool *pool = case_pool(&test, device, 0, 5);
    float *out = random_floats((size_t)4 * 4 * 32);
    run_attention(&test, device, pool, 0, out);
    expect_attention(&test, device, out);
    assert_int_equal(device->ops->counters(device)->kv_bytes_read, 100 * 2 * 2 * 32 * 2);
    free(out);
    device->ops->kv_pool_free(device, pool);
    device->ops->destroy(device);
    case_free(&test);
}

static void bad_spans_are_refused_and_failed_allocations_reported(void **state) {
    (void)state;
    cento_error error;
    backend *device = backend_for(NULL, CENTO_DTYPE_F32, 2);
    random_state = 10;
    test_case test;
    case_create(&test, 3);
    test.span_count = 1;
    test.spans[0] = (kv_span){.pages = test.pages[0], .token_end = 20, .row_count = 3};
    for (uint32_t page = 0; page < POOL_PAGES; page++)
        test.pages[0][page] = page;
    backend_kv_pool *pool = case_pool(&test, device, 0, 3);
    float *out = random_floats((size_t)3 * test.shape.heads * test.shape.head_dim);
#define ATTENTION()                                                                                          \
    device->ops->attention(device, &test.shape, &test.rope, test.qkv, 3, test.positions, test.spans, 1,      \
                           pool, 0, out, &error)
    for (int countdown = 0; countdown < 8; countdown++) {
        mem_fail_after(countdown);
        cento_status status = ATTENTION();
        mem_fail_after(-1);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_int_not_equal(countdown, 7);
    }
    ASSERT_OK(ATTENTION());
    test.spans[0].row_count = 4;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "span 0", ATTENTION());
    test.spans[0].row_count = 3;
    test.pages[0][0] = POOL_PAGES;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "page", ATTENTION());
    free(out);
    device->ops->kv_pool_free(device, pool);

    kv_pool_shape absurd = {
        .layers = 1000000, .kv_heads = 60000, .head_dim = 60000, .pages = 4000000000u, .page_tokens = 64};
    assert_int_equal(device->ops->kv_pool_bytes(device, &absurd), UINT64_MAX);
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "4000000000",
                 device->ops->kv_pool_create(device, &absurd, &pool, &error));
    device->ops->destroy(device);
    case_free(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_dense_f64_and_reads_no_other_slot),
        cmocka_unit_test(a_row_attends_the_same_alone_and_on_any_number_of_threads),
        cmocka_unit_test(rows_that_see_nothing_get_zeros),
        cmocka_unit_test(kv_is_normalised_rotated_and_written_to_its_slot),
        cmocka_unit_test(bf16_pages_round_to_nearest_even),
        cmocka_unit_test(bytes_read_are_counted_once_for_rows_of_a_tile),
        cmocka_unit_test(bad_spans_are_refused_and_failed_allocations_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

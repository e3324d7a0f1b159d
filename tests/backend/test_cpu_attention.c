/*
 * Promises of the CPU backend's KV pages and attention, for every instruction set this CPU has: against dense
 * f64 attention over random steps (random_step.h), with NaN in every slot that no group's spans name and in
 * every output before; bit for bit the same at every level of sharing, on any number of threads, and alone.
 * On a GPU that holds for deterministic backends; what others may run instead is as near to f64 as bf16 lets
 * it.
 */
#include "plan_fixture.h"

#include "base/mem.h"
#include "random_step.h"
#include "reference.h"

/* On a GPU a deterministic one, whatever the number of threads. */
static backend *attention_backend(const char *isa, cento_dtype dtype, uint32_t threads) {
    return backend_for(isa, dtype, test_on_gpu() && threads > 2 ? 2 : threads);
}

/* 20, or CENTO_TEST_ROUNDS */
static uint32_t round_count(void) {
    const char *wanted = getenv("CENTO_TEST_ROUNDS");
    return wanted == NULL ? 20 : (uint32_t)strtoul(wanted, NULL, 10);
}

enum { LAYERS = 2, ROWS_CHECKED = 4, VALUES = 65521 /* prime: no two tokens are the same */ };

/* One random step over one random pool. */
typedef struct test_case {
    attention_shape shape;
    rope_table rope;
    double inv_freq[256];
    kv_pool_shape pool_shape;
    random_step step;
    float *qkv;
    float *kv; /* by slot, what the pool holds */
} test_case;

static uint32_t case_rows(const test_case *test) {
    return test->step.input.row_count;
}

static size_t slot_floats(const test_case *test) {
    return (size_t)2 * test->shape.kv_heads * test->shape.head_dim;
}

static size_t out_width(const test_case *test) {
    return (size_t)test->shape.heads * test->shape.head_dim;
}

static size_t qkv_width(const test_case *test) {
    return out_width(test) + slot_floats(test);
}

static size_t slot_count(const test_case *test) {
    return (size_t)test->step.page_count * test->step.page_tokens;
}

static void case_shape(test_case *test, cento_dtype dtype) {
    static const uint32_t head_dims[] = {32, 64, 128, 256, 16, 80, 96, 2, 34};
    static const uint32_t heads[][2] = {{8, 8}, {8, 2}, {4, 1}, {1, 1}, {12, 4}, {14, 2}, {7, 1}};
    const uint32_t *pair = heads[random_below(7)];
    uint32_t head_dim = head_dims[random_below(9)];
    test->shape = (attention_shape){
        .heads = pair[0],
        .kv_heads = pair[1],
        .head_dim = head_dim,
        .scale = 1.0f / sqrtf((float)head_dim),
        .window = random_below(3) == 0 ? 1 + random_below(900) : 0,
        .norm_epsilon = 1e-6f,
    };
    for (uint32_t i = 0; i < head_dim / 2; i++)
        test->inv_freq[i] = pow(10000.0, -2.0 * i / head_dim);
    test->rope = (rope_table){test->inv_freq, random_below(2) ? 1.0 : 1.2};
    test->pool_shape = (kv_pool_shape){
        .layers = LAYERS,
        .kv_heads = pair[1],
        .head_dim = head_dim,
        .pages = test->step.page_count,
        .page_tokens = test->step.page_tokens,
        .dtype = dtype,
    };
    test->step.input.heads_per_kv = pair[0] / pair[1];
    test->step.input.window = test->shape.window;
}

static void case_allocate(test_case *test) {
    test->qkv = random_floats(case_rows(test) * qkv_width(test));
    test->kv = malloc(slot_count(test) * slot_floats(test) * sizeof(float));
}

static void case_create(test_case *test, cento_dtype dtype, uint64_t seed) {
    memset(test, 0, sizeof *test);
    random_state = seed;
    random_step_create(&test->step, STEP_GROUPS_MAX);
    case_shape(test, dtype);
    case_allocate(test);
}

/* One group of rows at these positions that sees tokens [0, tokens) of one run at position `position`. */
static void case_create_small(test_case *test, const uint32_t *positions, uint32_t rows, uint32_t tokens,
                              uint32_t position) {
    memset(test, 0, sizeof *test);
    random_step *step = &test->step;
    step->page_tokens = 16;
    step->page_count = STEP_PAGES_MAX;
    for (uint32_t i = 0; i < STEP_PAGES_MAX; i++)
        step->pages[i] = STEP_PAGES_MAX - 1 - i;
    step->groups[0] = (row_group){.row_count = rows, .span_count = 1};
    step->spans[0] = (kv_span){.pages = step->pages, .token_end = tokens, .position = position};
    memcpy(step->positions, positions, rows * sizeof *positions);
    step->input = (plan_input){.groups = step->groups,
                               .group_count = 1,
                               .spans = step->spans,
                               .span_count = 1,
                               .positions = step->positions,
                               .row_count = rows};
    case_shape(test, CENTO_DTYPE_BF16);
    test->shape = (attention_shape){.heads = 4, .kv_heads = 2, .head_dim = 32, .scale = 0.2f};
    test->pool_shape.kv_heads = 2;
    test->pool_shape.head_dim = 32;
    step->input.heads_per_kv = 2;
    step->input.window = 0;
    case_allocate(test);
}

static void case_free(test_case *test) {
    free(test->qkv);
    free(test->kv);
}

/* Fills the slots that spans of the group name (UINT32_MAX: of any group) with the values that `kv` has for
 * them, and everything else with NaN. */
static void fill_pool(const test_case *test, backend *device, backend_kv_pool *pool, uint32_t layer,
                      uint32_t group) {
    size_t width = slot_floats(test);
    float *token = malloc(width * sizeof *token);
    for (size_t i = 0; i < width; i++)
        token[i] = NAN;
    for (uint32_t slot = 0; slot < slot_count(test); slot++)
        for (uint32_t l = 0; l < LAYERS; l++)
            device->ops->kv_write(device, pool, l, slot, token);
    free(token);
    for (uint32_t g = 0; g < test->step.input.group_count; g++) {
        const row_group *seen = &test->step.groups[g];
        for (uint32_t s = seen->span_begin; s < seen->span_begin + seen->span_count; s++) {
            const kv_span *span = &test->step.spans[s];
            for (uint32_t t = span->token_begin; t < span->token_end && (group == UINT32_MAX || g == group);
                 t++) {
                uint32_t page_tokens = test->step.page_tokens;
                uint32_t slot = span->pages[t / page_tokens] * page_tokens + t % page_tokens;
                device->ops->kv_write(device, pool, layer, slot, test->kv + slot * width);
                device->ops->kv_read(device, pool, layer, slot, test->kv + slot * width);
            }
        }
    }
}

static backend_kv_pool *case_pool(test_case *test, backend *device, uint32_t layer, uint64_t seed) {
    cento_error error;
    backend_kv_pool *pool = NULL;
    ASSERT_OK(device->ops->kv_pool_create(device, &test->pool_shape, &pool, &error));
    static float normal[VALUES];
    random_state = seed;
    for (size_t i = 0; i < VALUES; i++)
        normal[i] = random_normal();
    for (size_t i = 0; i < slot_count(test) * slot_floats(test); i++)
        test->kv[i] = normal[i % VALUES];
    fill_pool(test, device, pool, layer, UINT32_MAX);
    return pool;
}

static cascade_plan *case_plan(const test_case *test, const plan_input *input, uint32_t levels,
                               uint32_t workers) {
    cento_error error;
    const plan_options options = {
        .levels_max = levels,
        .page_count = test->step.page_count,
        .page_tokens = test->step.page_tokens,
        .rows_max = STEP_ROWS_MAX,
        .spans_max = STEP_SPANS_MAX,
        .tile_rows = 96,
        .workers = workers,
    };
    cascade_plan *plan = NULL;
    ASSERT_OK(cascade_plan_create(&options, &plan, &error));
    ASSERT_OK(cascade_plan_build(plan, input, &error));
    ASSERT_OK(cascade_plan_check(plan, input, &error));
    return plan;
}

/* Into a poisoned array, which the caller frees. */
static float *run_attention(const test_case *test, backend *device, const backend_kv_pool *pool,
                            uint32_t layer, const cascade_plan *plan) {
    cento_error error;
    size_t count = case_rows(test) * out_width(test);
    float *out = malloc((count + 1) * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = NAN;
    ASSERT_OK(device->ops->attention(device, &test->shape, &test->rope, test->qkv, case_rows(test),
                                     test->step.positions, plan, pool, layer, out, &error));
    return out;
}

/* Where queries and weights are rounded to bf16 (AMX), they are off by 2^-9, scores by as much of |q| |k|. */
static double tolerance_of(const test_case *test, const backend *device) {
    bool rounded = strstr(device->ops->describe(device), "AMX") != NULL &&
                   test->pool_shape.dtype == CENTO_DTYPE_BF16 && test->shape.head_dim % 32 == 0;
    return rounded ? 2e-2 : 2e-5;
}

static void expect_row(const test_case *test, const backend *device, const row_group *group, uint32_t row,
                       const float *out) {
    double expected[512];
    uint32_t head_dim = test->shape.head_dim;
    for (uint32_t head = 0; head < test->shape.heads; head += 1 + random_below(3)) {
        reference_attention(&test->shape, &test->rope,
                            test->qkv + row * qkv_width(test) + (size_t)head * head_dim,
                            test->step.positions[row], head, test->step.spans + group->span_begin,
                            group->span_count, test->step.page_tokens, test->kv, expected);
        for (uint32_t i = 0; i < head_dim; i++) {
            double got = out[row * out_width(test) + (size_t)head * head_dim + i];
            if (!(fabs(got - expected[i]) <= tolerance_of(test, device)))
                fail_msg("%s: %u rows, %u/%u heads of %u, window %u, row %u head %u: %.9g, expected %.9g",
                         device->ops->describe(device), case_rows(test), test->shape.heads,
                         test->shape.kv_heads, head_dim, test->shape.window, row, head, got, expected[i]);
        }
    }
}

/* Rows of all groups are checked, but not all rows of a long one; rows of no group are zero. */
static void expect_attention(const test_case *test, const backend *device, const float *out) {
    uint32_t row = 0;
    for (uint32_t g = 0; g <= test->step.input.group_count; g++) {
        const row_group *group = &test->step.groups[g];
        uint32_t begin = g < test->step.input.group_count ? group->row_begin : case_rows(test);
        for (size_t i = row * out_width(test); i < begin * out_width(test); i++)
            assert_true(out[i] == 0.0f);
        if (g == test->step.input.group_count)
            break;
        expect_row(test, device, group, begin, out);
        expect_row(test, device, group, begin + group->row_count - 1, out);
        for (uint32_t i = 0; group->row_count > 2 && i < ROWS_CHECKED; i++)
            expect_row(test, device, group, begin + random_below(group->row_count), out);
        row = begin + group->row_count;
    }
}

static void attention_matches_dense_f64_and_reads_no_other_slot(void **state) {
    (void)state;
    static test_case test;
    uint32_t shared = 0, plans = 0;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (uint32_t round = 0; round < round_count(); round++) {
            cento_dtype dtype = (cento_dtype)(round % 2);
            backend *device = attention_backend(reference_isas[i], CENTO_DTYPE_BF16, 1 + round % 3);
            if (device == NULL)
                break;
            case_create(&test, dtype, 1000u + round);
            backend_kv_pool *pool = case_pool(&test, device, 1, 77);
            cascade_plan *plan = case_plan(&test, &test.step.input, 3, 1 + round % 4);
            shared += plan->stats.keys_read < plan->stats.keys_read_unshared;
            plans++;
            /* twice: the second call finds its angles computed */
            for (int repeat = 0; repeat < 2; repeat++) {
                float *out = run_attention(&test, device, pool, 1, plan);
                expect_attention(&test, device, out);
                free(out);
            }
            cascade_plan_free(plan);
            device->ops->kv_pool_free(device, pool);
            device->ops->destroy(device);
            case_free(&test);
        }
    assert_true(shared > plans / 4 && plans >= round_count());
}

/* |out - expected| / |expected| of each head of a row. */
static void expect_row_in_bf16(const test_case *test, const row_group *group, uint32_t row,
                               const float *out) {
    double expected[512];
    uint32_t head_dim = test->shape.head_dim;
    for (uint32_t head = 0; head < test->shape.heads; head++) {
        double difference = 0.0, norm = 0.0;
        reference_attention(&test->shape, &test->rope,
                            test->qkv + row * qkv_width(test) + (size_t)head * head_dim,
                            test->step.positions[row], head, test->step.spans + group->span_begin,
                            group->span_count, test->step.page_tokens, test->kv, expected);
        const float *got = out + row * out_width(test) + (size_t)head * head_dim;
        for (uint32_t i = 0; i < head_dim; i++) {
            difference += (got[i] - expected[i]) * (got[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        if (!(difference <= 1e-4 * norm)) /* 0.01; a rounding to bf16 is at most 0.004 */
            fail_msg("%u rows, %u/%u heads of %u, window %u, row %u head %u: error %g of %g", case_rows(test),
                     test->shape.heads, test->shape.kv_heads, head_dim, test->shape.window, row, head,
                     sqrt(difference), sqrt(norm));
    }
}

/* Tensor cores of a GPU: the same plans, and layers with a window under a plan without one. */
static void attention_that_is_not_deterministic_is_exact_to_bf16(void **state) {
    (void)state;
    cento_error error;
    static test_case test;
    if (!test_on_gpu()) {
        print_message("skipped: on a CPU attention is the same with and without it\n");
        skip();
    }
    test_device_needed();
    const backend_options options = {.compute_dtype = CENTO_DTYPE_BF16};
    backend *made;
    ASSERT_OK(backend_create(test_device(), &options, &made, &error));
    backend *device = host_backend_over(made);
    for (uint32_t round = 0; round < 2 * round_count(); round++) {
        case_create(&test, CENTO_DTYPE_BF16, 11000u + round);
        case_free(&test);
        test.shape.head_dim = test.pool_shape.head_dim = round % 2 ? 64 : 128;
        test.shape.scale = 1.0f / sqrtf((float)test.shape.head_dim);
        case_allocate(&test);
        for (uint32_t i = 0; i < test.shape.head_dim / 2; i++)
            test.inv_freq[i] = pow(10000.0, -2.0 * i / test.shape.head_dim);
        if (round % 4 >= 2)
            test.step.input.window = 0;
        backend_kv_pool *pool = case_pool(&test, device, 1, 77);
        cascade_plan *plan = case_plan(&test, &test.step.input, 1 + round % 3, 1 + round % 4);
        float *out = run_attention(&test, device, pool, 1, plan);
        uint32_t row = 0;
        for (uint32_t g = 0; g < test.step.input.group_count; g++) {
            const row_group *group = &test.step.groups[g];
            for (; row < group->row_begin; row++)
                for (size_t i = 0; i < out_width(&test); i++)
                    assert_true(out[row * out_width(&test) + i] == 0.0f);
            expect_row_in_bf16(&test, group, row, out);
            row += group->row_count;
            expect_row_in_bf16(&test, group, row - 1, out);
        }
        for (int i = 0; i < 3; i++) {
            float *again = run_attention(&test, device, pool, 1, plan);
            assert_memory_equal(out, again, case_rows(&test) * out_width(&test) * sizeof *out);
            free(again);
        }
        free(out);
        cascade_plan_free(plan);
        device->ops->kv_pool_free(device, pool);
        case_free(&test);
    }
    device->ops->destroy(device);
}

static void sharing_levels_workers_and_threads_change_no_bit(void **state) {
    (void)state;
    static test_case test;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (uint32_t round = 0; round < 6; round++) {
            float *first = NULL;
            for (uint32_t threads = 1; threads <= 4; threads++) {
                backend *device = attention_backend(reference_isas[i], CENTO_DTYPE_BF16, threads);
                if (device == NULL)
                    break;
                case_create(&test, (cento_dtype)(round % 2), 5000u + round);
                backend_kv_pool *pool = case_pool(&test, device, 0, 78);
                for (uint32_t levels = 1; levels <= 3; levels++) {
                    /* one worker: private cells are folded in place; many: they are tasks */
                    cascade_plan *plan =
                        case_plan(&test, &test.step.input, levels, threads == 2 ? 64 : threads);
                    float *out = run_attention(&test, device, pool, 0, plan);
                    if (first == NULL)
                        first = out;
                    else
                        assert_memory_equal(first, out, case_rows(&test) * out_width(&test) * sizeof *out);
                    if (out != first)
                        free(out);
                    cascade_plan_free(plan);
                }
                device->ops->kv_pool_free(device, pool);
                device->ops->destroy(device);
                case_free(&test);
            }
            free(first);
        }
}

/* Each group alone, over a pool in which everything that is not its own is NaN. */
static void a_group_attends_the_same_alone_and_reads_only_its_own_segments(void **state) {
    (void)state;
    static test_case test;
    for (uint32_t round = 0; round < 10; round++) {
        backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 2);
        case_create(&test, (cento_dtype)(round % 2), 9000u + round);
        backend_kv_pool *pool = case_pool(&test, device, 0, 79);
        cascade_plan *plan = case_plan(&test, &test.step.input, 3, 2);
        float *together = run_attention(&test, device, pool, 0, plan);
        cascade_plan_free(plan);
        for (uint32_t g = 0; g < test.step.input.group_count; g++) {
            const row_group *group = &test.step.groups[g];
            plan_input input = test.step.input;
            input.groups = group;
            input.group_count = 1;
            fill_pool(&test, device, pool, 0, g);
            plan = case_plan(&test, &input, 3, 2);
            float *alone = run_attention(&test, device, pool, 0, plan);
            size_t begin = group->row_begin * out_width(&test), count = group->row_count * out_width(&test);
            assert_memory_equal(alone + begin, together + begin, count * sizeof *alone);
            free(alone);
            cascade_plan_free(plan);
        }
        free(together);
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
        case_free(&test);
    }
}

static void attention_is_the_same_bits_every_time(void **state) {
    (void)state;
    static test_case test;
    int repetitions = test_on_gpu() ? 100 : 5;
    for (uint32_t round = 0; round < 3; round++) {
        backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 2);
        case_create(&test, (cento_dtype)(round % 2), 7000u + round);
        backend_kv_pool *pool = case_pool(&test, device, 0, 81);
        cascade_plan *plan = case_plan(&test, &test.step.input, 3, 16);
        float *first = run_attention(&test, device, pool, 0, plan);
        expect_attention(&test, device, first);
        for (int i = 1; i < repetitions; i++) {
            float *again = run_attention(&test, device, pool, 0, plan);
            assert_memory_equal(first, again, case_rows(&test) * out_width(&test) * sizeof *first);
            free(again);
        }
        free(first);
        cascade_plan_free(plan);
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
        case_free(&test);
    }
}

static void a_path_cut_into_runs_otherwise_gives_the_same_bits(void **state) {
    (void)state;
    cento_error error;
    static test_case test;
    const uint32_t positions[] = {999, 1000};
    backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 2);
    case_create_small(&test, positions, 2, 1001, 0);
    backend_kv_pool *pool = case_pool(&test, device, 0, 80);
    cascade_plan *plan = case_plan(&test, &test.step.input, 3, 1);
    float *whole = run_attention(&test, device, pool, 0, plan);
    cascade_plan_free(plan);
    /* the same tokens copied to runs of 203, 40 and 758 tokens, which begin at pages 100, 200 and 300 */
    const uint32_t lengths[] = {203, 40, 758}, first_pages[] = {100, 200, 300};
    for (uint32_t run = 0, token = 0; run < 3; run++) {
        for (uint32_t i = 0; i < lengths[run]; i++, token++) {
            uint32_t from = test.step.pages[token / 16] * 16 + token % 16;
            uint32_t to = test.step.pages[first_pages[run] + i / 16] * 16 + i % 16;
            ASSERT_OK(device->ops->kv_copy(device, pool, from, to, 1, &error));
        }
        test.step.spans[run] = (kv_span){.pages = test.step.pages + first_pages[run],
                                         .token_end = lengths[run],
                                         .position = token - lengths[run],
                                         .continues = run > 0};
    }
    test.step.groups[0].span_count = test.step.input.span_count = 3;
    plan = case_plan(&test, &test.step.input, 3, 1);
    float *cut = run_attention(&test, device, pool, 0, plan);
    assert_memory_equal(whole, cut, case_rows(&test) * out_width(&test) * sizeof *cut);
    cascade_plan_free(plan);
    free(whole);
    free(cut);
    device->ops->kv_pool_free(device, pool);
    device->ops->destroy(device);
    case_free(&test);
}

static void rows_that_see_nothing_get_zeros(void **state) {
    (void)state;
    static test_case test;
    const uint32_t positions[] = {0, 99, 100};
    for (size_t i = 0; i < REFERENCE_ISAS; i++) {
        backend *device = attention_backend(reference_isas[i], CENTO_DTYPE_BF16, 2);
        if (device == NULL)
            continue;
        case_create_small(&test, positions, 3, 20, 100);
        backend_kv_pool *pool = case_pool(&test, device, 0, 3);
        cascade_plan *plan = case_plan(&test, &test.step.input, 3, 2);
        float *out = run_attention(&test, device, pool, 0, plan);
        for (size_t k = 0; k < 2 * out_width(&test); k++)
            assert_true(out[k] == 0.0f);
        expect_attention(&test, device, out);
        cascade_plan_free(plan);
        free(out);
        test.step.groups[0].span_count = 0;
        plan = case_plan(&test, &test.step.input, 3, 2);
        out = run_attention(&test, device, pool, 0, plan);
        for (size_t k = 0; k < 3 * out_width(&test); k++)
            assert_true(out[k] == 0.0f);
        cascade_plan_free(plan);
        free(out);
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
        case_free(&test);
    }
}

/* The workspace holds the partial states of a few KV heads at a time: here of one. */
static void partial_states_beyond_the_workspace_are_made_a_few_heads_at_a_time(void **state) {
    (void)state;
    enum { ROWS = 160, TOKENS = 8192 };
    static test_case test;
    uint32_t positions[ROWS];
    for (uint32_t i = 0; i < ROWS; i++)
        positions[i] = TOKENS - ROWS + i;
    backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 2);
    case_create_small(&test, positions, ROWS, TOKENS, 0);
    free(test.qkv);
    free(test.kv);
    test.shape = (attention_shape){.heads = 50, .kv_heads = 2, .head_dim = 64, .scale = 0.1f};
    test.pool_shape.head_dim = 64;
    test.step.input.heads_per_kv = 25;
    case_allocate(&test);
    backend_kv_pool *pool = case_pool(&test, device, 0, 81);
    cascade_plan *tasks = case_plan(&test, &test.step.input, 1, 1000);
    cascade_plan *folds = case_plan(&test, &test.step.input, 1, 1);
    assert_true(tasks->slot_count == ROWS * (TOKENS / PLAN_CELL_TOKENS) && folds->slot_count == 0);
    float *first = run_attention(&test, device, pool, 0, tasks);
    float *second = run_attention(&test, device, pool, 0, folds);
    assert_memory_equal(first, second, case_rows(&test) * out_width(&test) * sizeof *first);
    expect_row(&test, device, &test.step.groups[0], ROWS / 2, first);
    free(first);
    free(second);
    cascade_plan_free(tasks);
    cascade_plan_free(folds);
    device->ops->kv_pool_free(device, pool);
    device->ops->destroy(device);
    case_free(&test);
}

static void kv_is_normalised_rotated_and_written_to_its_slot(void **state) {
    (void)state;
    cento_error error;
    static test_case test;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int round = 0; round < 24; round++) {
            cento_dtype dtype = (cento_dtype)(round % 2);
            backend *device = attention_backend(reference_isas[i], dtype, 2);
            if (device == NULL)
                break;
            case_create(&test, dtype, 300u + (uint64_t)round);
            bool norm = round % 3 == 0;
            uint32_t rows = case_rows(&test) < 40 ? case_rows(&test) : 40;
            uint32_t head_dim = test.shape.head_dim, heads = test.shape.heads, kv_heads = test.shape.kv_heads;
            size_t width = qkv_width(&test), slot_width = slot_floats(&test);
            float *q_norm = random_floats(head_dim), *k_norm = random_floats(head_dim);
            float *qkv = malloc(rows * width * sizeof *qkv), *kv = malloc(slot_width * sizeof *kv);
            memcpy(qkv, test.qkv, rows * width * sizeof *qkv);
            uint32_t *slots = malloc(rows * sizeof *slots);
            for (uint32_t row = 0; row < rows; row++) {
                slots[row] = (row * 37 + 5) % (uint32_t)slot_count(&test);
                test.step.positions[row] = random_below(100000);
            }
            backend_kv_pool *pool;
            ASSERT_OK(device->ops->kv_pool_create(device, &test.pool_shape, &pool, &error));
            ASSERT_OK(device->ops->write_kv(device, &test.shape, &test.rope, qkv, rows, test.step.positions,
                                            slots, norm ? q_norm : NULL, norm ? k_norm : NULL, pool, 1,
                                            &error));
            double tolerance = dtype == CENTO_DTYPE_BF16 ? 1.0 / 256 : 3e-6, head[512], rotated[512];
            for (uint32_t row = 0; row < rows; row++) {
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
                        reference_rotate(head, head_dim, &test.rope, test.step.positions[row], rotated);
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
            slots[0] = (uint32_t)slot_count(&test);
            ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "slot",
                         device->ops->write_kv(device, &test.shape, &test.rope, qkv, rows,
                                               test.step.positions, slots, NULL, NULL, pool, 1, &error));
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
        backend *device = attention_backend(reference_isas[i], CENTO_DTYPE_BF16, 1);
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
    static test_case test;
    const uint32_t positions[] = {99, 100, 101, 102};
    backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 2);
    case_create_small(&test, positions, 4, 100, 0);
    backend_kv_pool *pool = case_pool(&test, device, 0, 5);
    cascade_plan *plan = case_plan(&test, &test.step.input, 3, 2);
    float *out = run_attention(&test, device, pool, 0, plan);
    expect_attention(&test, device, out);
    assert_int_equal(device->ops->counters(device)->kv_bytes_read, 100 * 2 * 2 * 32 * 2);
    assert_int_equal(plan->stats.keys_read, 100);
    cascade_plan_free(plan);
    free(out);
    device->ops->kv_pool_free(device, pool);
    device->ops->destroy(device);
    case_free(&test);
}

static void tokens_are_copied_in_all_layers_within_pages(void **state) {
    (void)state;
    cento_error error;
    for (int dtype = 0; dtype < 2; dtype++) {
        backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 1);
        const kv_pool_shape shape = {.layers = 3,
                                     .kv_heads = 2,
                                     .head_dim = 16,
                                     .pages = 4,
                                     .page_tokens = 16,
                                     .dtype = (cento_dtype)dtype};
        backend_kv_pool *pool;
        ASSERT_OK(device->ops->kv_pool_create(device, &shape, &pool, &error));
        float kv[64], expected[64];
        for (uint32_t layer = 0; layer < 3; layer++)
            for (uint32_t slot = 0; slot < 64; slot++) {
                for (uint32_t i = 0; i < 64; i++)
                    kv[i] = (float)(layer * 64 + slot); /* exact in bf16 */
                device->ops->kv_write(device, pool, layer, slot, kv);
            }
        ASSERT_OK(device->ops->kv_copy(device, pool, 5, 32 + 9, 7, &error));
        for (uint32_t layer = 0; layer < 3; layer++)
            for (uint32_t slot = 0; slot < 64; slot++) {
                uint32_t from = slot >= 41 && slot < 48 ? slot - 41 + 5 : slot;
                for (uint32_t i = 0; i < 64; i++)
                    expected[i] = (float)(layer * 64 + from);
                device->ops->kv_read(device, pool, layer, slot, kv);
                assert_memory_equal(kv, expected, sizeof kv);
            }
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "copying 7 tokens from slot 10 to 32",
                     device->ops->kv_copy(device, pool, 10, 32, 7, &error));
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "copying 8 tokens",
                     device->ops->kv_copy(device, pool, 0, 41, 8, &error));
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "copying 1 tokens",
                     device->ops->kv_copy(device, pool, 0, 64, 1, &error));
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
    }
}

static void costs_are_measured_once_and_are_plausible(void **state) {
    (void)state;
    cento_error error;
    backend *device = attention_backend(NULL, CENTO_DTYPE_BF16, 2);
    const kv_pool_shape pool_shape = {
        .layers = 1, .kv_heads = 2, .head_dim = 64, .pages = 1, .page_tokens = 16};
    backend_kv_pool *pool;
    ASSERT_OK(device->ops->kv_pool_create(device, &pool_shape, &pool, &error));
    attention_shape shape = {.heads = 8, .kv_heads = 2, .head_dim = 64, .scale = 0.125f};
    plan_costs first, second;
    ASSERT_OK(device->ops->plan_costs(device, &shape, pool, &first, &error));
    ASSERT_OK(device->ops->plan_costs(device, &shape, pool, &second, &error));
    assert_memory_equal(&first, &second, sizeof first);
    assert_true(first.key_read_ns >= 0 && first.key_read_ns < 1e6);
    assert_true(first.state_ns > 0 && first.state_ns < 1e6);
    assert_true(first.task_ns > 0 && first.task_ns < 1e8);
    shape.heads = 7;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "7 query heads over 2 KV heads",
                 device->ops->plan_costs(device, &shape, pool, &first, &error));
    shape.heads = 4;
    if (!test_on_gpu()) { /* where nothing is allocated */
        mem_fail_after(0);
        cento_status status = device->ops->plan_costs(device, &shape, pool, &first, &error);
        mem_fail_after(-1);
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
    }
    device->ops->kv_pool_free(device, pool);
    device->ops->destroy(device);
}

static void plans_that_do_not_fit_are_refused_and_failed_allocations_reported(void **state) {
    (void)state;
    cento_error error;
    static test_case test;
    const uint32_t positions[] = {18, 19, 20};
    backend *device = attention_backend(NULL, CENTO_DTYPE_F32, 2);
    case_create_small(&test, positions, 3, 20, 0);
    backend_kv_pool *pool = case_pool(&test, device, 0, 3), *small = NULL;
    kv_pool_shape small_shape = test.pool_shape;
    small_shape.pages--;
    ASSERT_OK(device->ops->kv_pool_create(device, &small_shape, &small, &error));
    float *out = random_floats(3 * out_width(&test));
    cascade_plan *plan = case_plan(&test, &test.step.input, 3, 2);
#define ATTENTION(rows, pool)                                                                                \
    device->ops->attention(device, &test.shape, &test.rope, test.qkv, rows, test.step.positions, plan, pool, \
                           0, out, &error)
    for (int countdown = 0; countdown < 8; countdown++) {
        mem_fail_after(countdown);
        cento_status status = ATTENTION(3, pool);
        mem_fail_after(-1);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_int_not_equal(countdown, 7);
    }
    ASSERT_OK(ATTENTION(3, pool));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the plan is for 3 rows, the batch has 2", ATTENTION(2, pool));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the plan is for 512 pages of 16 tokens, the pool has 511 of 16",
                 ATTENTION(3, small));
    cascade_plan_free(plan);
    plan_input input = test.step.input;
    input.window = 5;
    plan = case_plan(&test, &input, 3, 2);
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the plan's window is 5, the layer's 0", ATTENTION(3, pool));
    test.shape.window = 5;
    ASSERT_OK(ATTENTION(3, pool));
    cascade_plan_free(plan);
    free(out);
    device->ops->kv_pool_free(device, small);
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
        cmocka_unit_test(attention_that_is_not_deterministic_is_exact_to_bf16),
        cmocka_unit_test(sharing_levels_workers_and_threads_change_no_bit),
        cmocka_unit_test(a_group_attends_the_same_alone_and_reads_only_its_own_segments),
        cmocka_unit_test(attention_is_the_same_bits_every_time),
        cmocka_unit_test(a_path_cut_into_runs_otherwise_gives_the_same_bits),
        cmocka_unit_test(rows_that_see_nothing_get_zeros),
        cmocka_unit_test(partial_states_beyond_the_workspace_are_made_a_few_heads_at_a_time),
        cmocka_unit_test(kv_is_normalised_rotated_and_written_to_its_slot),
        cmocka_unit_test(bf16_pages_round_to_nearest_even),
        cmocka_unit_test(bytes_read_are_counted_once_for_rows_of_a_tile),
        cmocka_unit_test(tokens_are_copied_in_all_layers_within_pages),
        cmocka_unit_test(costs_are_measured_once_and_are_plausible),
        cmocka_unit_test(plans_that_do_not_fit_are_refused_and_failed_allocations_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

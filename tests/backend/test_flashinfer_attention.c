/*
 * Promises of attention by FlashInfer's kernels (CENTO_FLASHINFER, a GPU; else skipped): against dense f64
 * attention over random steps, and against the backend's own kernels, whose second oracle it is. Both take
 * bf16 keys; FlashInfer's queries, probabilities and states are bf16 as well, which is what the tolerance
 * allows for.
 */
#include "plan_fixture.h"

#include "random_step.h"
#include "reference.h"

enum { ROWS_CHECKED = 3, VALUES = 65521 /* prime: no two tokens are the same */ };

typedef struct test_case {
    attention_shape shape;
    rope_table rope;
    double inv_freq[64];
    random_step step;
    float *qkv, *kv; /* by slot */
} test_case;

static uint32_t round_count(void) {
    const char *wanted = getenv("CENTO_TEST_ROUNDS");
    return wanted == NULL ? 20 : (uint32_t)strtoul(wanted, NULL, 10);
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

static void case_create(test_case *test, uint64_t seed) {
    static const uint32_t heads[][2] = {{8, 8}, {8, 2}, {8, 1}, {1, 1}, {12, 4}, {14, 2}, {7, 1}};
    memset(test, 0, sizeof *test);
    random_state = seed;
    random_step_create(&test->step, STEP_GROUPS_MAX);
    const uint32_t *pair = heads[random_below(7)], head_dim = 64 + 64 * random_below(2);
    test->shape = (attention_shape){.heads = pair[0],
                                    .kv_heads = pair[1],
                                    .head_dim = head_dim,
                                    .scale = 1.0f / sqrtf((float)head_dim),
                                    .window = random_below(3) == 0 ? 1 + random_below(900) : 0};
    for (uint32_t i = 0; i < head_dim / 2; i++)
        test->inv_freq[i] = pow(10000.0, -2.0 * i / head_dim);
    test->rope = (rope_table){test->inv_freq, 1.0};
    test->step.input.heads_per_kv = pair[0] / pair[1];
    test->step.input.window = test->shape.window;
    test->qkv = random_floats(test->step.input.row_count * qkv_width(test));
    test->kv =
        calloc((size_t)test->step.page_count * test->step.page_tokens * slot_floats(test), sizeof(float));
}

static void case_free(test_case *test) {
    free(test->qkv);
    free(test->kv);
}

/* Slots of runs up to the end of what is seen of them get numbers, all others NaN: FlashInfer masks what
 * stands before a span in its first page, but reads it. */
static backend_kv_pool *case_pool(test_case *test, backend *device) {
    cento_error error;
    backend_kv_pool *pool = NULL;
    const random_step *step = &test->step;
    size_t width = slot_floats(test), slots = (size_t)step->page_count * step->page_tokens;
    const kv_pool_shape shape = {.layers = 1,
                                 .kv_heads = test->shape.kv_heads,
                                 .head_dim = test->shape.head_dim,
                                 .pages = step->page_count,
                                 .page_tokens = step->page_tokens,
                                 .dtype = CENTO_DTYPE_BF16};
    ASSERT_OK(device->ops->kv_pool_create(device, &shape, &pool, &error));
    for (size_t i = 0; i < slots * width; i++)
        test->kv[i] = NAN;
    for (uint32_t s = 0; s < step->input.span_count; s++)
        for (uint32_t t = 0; t < step->spans[s].token_end; t++) {
            uint32_t page_tokens = step->page_tokens;
            size_t slot = (size_t)step->spans[s].pages[t / page_tokens] * page_tokens + t % page_tokens;
            for (size_t i = 0; i < width; i++) {
                random_state = (slot * width + i) % VALUES;
                test->kv[slot * width + i] = reference_bf16_round(random_normal());
            }
        }
    for (uint32_t slot = 0; slot < slots; slot++)
        device->ops->kv_write(device, pool, 0, slot, test->kv + slot * width);
    return pool;
}

static float *run(const test_case *test, backend *device, const backend_kv_pool *pool,
                  const cascade_plan *plan) {
    cento_error error;
    size_t count = test->step.input.row_count * out_width(test);
    float *out = malloc((count + 1) * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = NAN;
    ASSERT_OK(device->ops->attention(device, &test->shape, &test->rope, test->qkv, test->step.input.row_count,
                                     test->step.positions, plan, pool, 0, out, &error));
    return out;
}

/* bf16 has 8 bits: of a query, of each probability, of a state. */
static void expect_close(const test_case *test, uint32_t row, uint32_t head, double got, double wanted) {
    if (!(fabs(got - wanted) <= 0.02 + 0.01 * fabs(wanted)))
        fail_msg("%u/%u heads of %u, window %u, row %u head %u: %.6g, expected %.6g", test->shape.heads,
                 test->shape.kv_heads, test->shape.head_dim, test->shape.window, row, head, got, wanted);
}

static void expect_row(const test_case *test, const row_group *group, uint32_t row, const float *out) {
    double expected[128];
    for (uint32_t head = 0; head < test->shape.heads; head += 1 + random_below(3)) {
        size_t at = (size_t)head * test->shape.head_dim;
        reference_attention(&test->shape, &test->rope, test->qkv + row * qkv_width(test) + at,
                            test->step.positions[row], head, test->step.spans + group->span_begin,
                            group->span_count, test->step.page_tokens, test->kv, expected);
        for (uint32_t i = 0; i < test->shape.head_dim; i++)
            expect_close(test, row, head, out[row * out_width(test) + at + i], expected[i]);
    }
}

static backend *open_backend(const char *attention) {
    cento_error error;
    backend *device = NULL;
    const backend_options options = {.compute_dtype = CENTO_DTYPE_BF16, .threads = 1, .attention = attention};
    cento_status status = backend_create("cuda", &options, &device, &error);
    if (status == CENTO_UNSUPPORTED) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    ASSERT_OK(status);
    return host_backend_over(device);
}

static cascade_plan *case_plan(const test_case *test, uint32_t levels) {
    cento_error error;
    cascade_plan *plan = NULL;
    const plan_options options = {.levels_max = levels,
                                  .page_count = test->step.page_count,
                                  .page_tokens = test->step.page_tokens,
                                  .rows_max = STEP_ROWS_MAX,
                                  .spans_max = STEP_SPANS_MAX,
                                  .tile_rows = 96,
                                  .workers = 4};
    ASSERT_OK(cascade_plan_create(&options, &plan, &error));
    ASSERT_OK(cascade_plan_build(plan, &test->step.input, &error));
    return plan;
}

static void random_steps_match_dense_f64(void **state) {
    (void)state;
    static test_case test;
    uint32_t shared = 0;
    for (uint32_t round = 0; round < round_count(); round++) {
        backend *device = open_backend("flashinfer");
        case_create(&test, 300 + round);
        backend_kv_pool *pool = case_pool(&test, device);
        cascade_plan *plan = case_plan(&test, 1 + round % 3);
        shared += plan->task_count > 0;
        float *out = run(&test, device, pool, plan);
        random_state = round;
        for (uint32_t g = 0; g < test.step.input.group_count; g++) {
            const row_group *group = &test.step.groups[g];
            expect_row(&test, group, group->row_begin, out);
            expect_row(&test, group, group->row_begin + group->row_count - 1, out);
            for (uint32_t i = 0; i < ROWS_CHECKED; i++)
                expect_row(&test, group, group->row_begin + random_below(group->row_count), out);
        }
        free(out);
        cascade_plan_free(plan);
        device->ops->kv_pool_free(device, pool);
        device->ops->destroy(device);
        case_free(&test);
    }
    assert_true(shared > 0);
}

/* All rows and heads, those of no group as well. */
static void the_backends_own_kernels_say_the_same(void **state) {
    (void)state;
    static test_case test;
    for (uint32_t round = 0; round < round_count(); round++) {
        float *out[2];
        for (int own = 0; own < 2; own++) {
            backend *device = open_backend(own ? "auto" : "flashinfer");
            case_create(&test, 900 + round);
            backend_kv_pool *pool = case_pool(&test, device);
            cascade_plan *plan = case_plan(&test, 3);
            out[own] = run(&test, device, pool, plan);
            cascade_plan_free(plan);
            device->ops->kv_pool_free(device, pool);
            device->ops->destroy(device);
            if (own == 0)
                case_free(&test);
        }
        for (size_t i = 0; i < test.step.input.row_count * out_width(&test); i++)
            expect_close(&test, (uint32_t)(i / out_width(&test)),
                         (uint32_t)(i % out_width(&test) / test.shape.head_dim), (double)out[0][i],
                         (double)out[1][i]);
        free(out[0]);
        free(out[1]);
        case_free(&test);
    }
}

static void what_it_has_no_kernel_for_is_refused(void **state) {
    (void)state;
    static test_case test;
    cento_error error;
    backend *device = open_backend("flashinfer");
    case_create(&test, 1);
    backend_kv_pool *pool = case_pool(&test, device);
    cascade_plan *plan = case_plan(&test, 3);
    float *out = run(&test, device, pool, plan);
    device->ops->kv_pool_free(device, pool);
    const kv_pool_shape wide = {.layers = 1,
                                .kv_heads = test.shape.kv_heads,
                                .head_dim = test.shape.head_dim,
                                .pages = test.step.page_count,
                                .page_tokens = test.step.page_tokens,
                                .dtype = CENTO_DTYPE_F32};
    ASSERT_OK(device->ops->kv_pool_create(device, &wide, &pool, &error));
    ASSERT_FAILS(CENTO_UNSUPPORTED, "bf16",
                 device->ops->attention(device, &test.shape, &test.rope, test.qkv, test.step.input.row_count,
                                        test.step.positions, plan, pool, 0, out, &error));
    free(out);
    cascade_plan_free(plan);
    device->ops->kv_pool_free(device, pool);
    device->ops->destroy(device);
    case_free(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_match_dense_f64),
        cmocka_unit_test(the_backends_own_kernels_say_the_same),
        cmocka_unit_test(what_it_has_no_kernel_for_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

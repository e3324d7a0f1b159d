/*
 * Attention over many random plans against dense f64 attention: on a GPU ten thousand, half of them with
 * `deterministic`, elsewhere a few (CENTO_TEST_PLANS: how many; CENTO_TEST_PLANS_SEED: others). What the
 * steps are is random_step.h's; here also heads, head size, page size, window, level, costs, tile and
 * workers. And the same plan a hundred times: the same bits, with `deterministic` and without.
 *
 * To be quick, many steps share a pool. Half of its pages are NaN and belong to no step, in random order
 * between the others; behind the end of each of a step's runs stands NaN as well, and in every output before.
 */
#include "support.h"

#include "random_step.h"
#include "reference.h"

enum {
    PLANS_ON_GPU = 10000,
    PLANS_HERE = 100,
    PLANS_PER_POOL = 25,
    GROUPS_MAX = 6,
    ROWS_MAX = 256,         /* of a step */
    STEP_TOKENS_MAX = 4096, /* of its runs, in whole pages */
    PROBES_MAX = 64,        /* (row, head) pairs compared in a step */
    WRITTEN_ROWS = 256,
    VALUES = 65521, /* prime: no two tokens are the same */
    REPETITIONS = 100,
};

typedef struct plan_pool {
    backend *device;
    bool deterministic;
    attention_shape shape;
    double inv_freq[128];
    rope_table rope;
    kv_pool_shape pool_shape;
    backend_kv_pool *pool;
    uint32_t pages[STEP_TOKENS_MAX / 16]; /* that steps take, in the order in which they take them */
    float *kv;                            /* by slot, what the pool holds */
    float *qkv, *out;                     /* host */
    float *device_qkv, *device_out;
    cascade_plan *plan;
    random_step step;
} plan_pool;

static float normal[VALUES];

static void make_values(void) {
    random_state = 99;
    for (size_t i = 0; i < VALUES; i++)
        normal[i] = random_normal();
}

static uint32_t number_from(const char *variable, uint32_t otherwise) {
    const char *wanted = getenv(variable);
    return wanted == NULL ? otherwise : (uint32_t)strtoul(wanted, NULL, 10);
}

static size_t slot_floats(const plan_pool *self) {
    return (size_t)2 * self->shape.kv_heads * self->shape.head_dim;
}

static size_t out_width(const plan_pool *self) {
    return (size_t)self->shape.heads * self->shape.head_dim;
}

static size_t qkv_width(const plan_pool *self) {
    return out_width(self) + slot_floats(self);
}

/* ----------------------------------------------------------------------- a pool -------- */

static void choose_shape(plan_pool *self) {
    static const uint32_t head_dims[] = {128, 64, 128, 64, 32, 256, 96, 80};
    static const uint32_t heads[][2] = {{8, 2}, {8, 1}, {4, 4}, {14, 2}, {12, 4}, {16, 1}, {1, 1}};
    const uint32_t *pair = heads[random_below(7)];
    uint32_t head_dim = head_dims[random_below(8)], page_tokens = 16u << random_below(3);
    self->shape = (attention_shape){.heads = pair[0],
                                    .kv_heads = pair[1],
                                    .head_dim = head_dim,
                                    .scale = 1.0f / sqrtf((float)head_dim),
                                    .window = random_below(3) == 0 ? 1 + random_below(900) : 0,
                                    .norm_epsilon = 1e-6f};
    for (uint32_t i = 0; i < head_dim / 2; i++)
        self->inv_freq[i] = pow(10000.0, -2.0 * i / head_dim);
    self->rope = (rope_table){self->inv_freq, random_below(2) ? 1.0 : 1.2};
    self->pool_shape = (kv_pool_shape){.layers = 1,
                                       .kv_heads = pair[1],
                                       .head_dim = head_dim,
                                       .pages = 2 * STEP_TOKENS_MAX / page_tokens,
                                       .page_tokens = page_tokens,
                                       .dtype = random_below(3) == 0 ? CENTO_DTYPE_F32 : CENTO_DTYPE_BF16};
}

/* Steps get every other page of a random order; the rest is NaN. */
static void choose_pages(plan_pool *self) {
    uint32_t count = self->pool_shape.pages, pages[2 * STEP_TOKENS_MAX / 16];
    size_t width = slot_floats(self), page_floats = width * self->pool_shape.page_tokens;
    for (uint32_t i = 0; i < count; i++)
        pages[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = random_below(i + 1), page = pages[i];
        pages[i] = pages[j];
        pages[j] = page;
    }
    self->kv = malloc(count * page_floats * sizeof(float));
    for (uint32_t i = 0; i < count; i++) {
        float *page = self->kv + pages[i] * page_floats;
        for (size_t k = 0; k < page_floats; k++) {
            float value = normal[(i * page_floats + k) % VALUES];
            page[k] = i % 2 != 0                                   ? NAN
                      : self->pool_shape.dtype == CENTO_DTYPE_BF16 ? reference_bf16_round(value)
                                                                   : value;
        }
        if (i % 2 == 0)
            self->pages[i / 2] = pages[i];
    }
}

/* As rows of keys that are rotated by nothing. */
static void fill_pool(plan_pool *self) {
    cento_error error;
    const double still[128] = {0};
    const rope_table no_rope = {still, 1.0};
    size_t width = qkv_width(self), kv_width = slot_floats(self);
    uint32_t slots = self->pool_shape.pages * self->pool_shape.page_tokens, positions[WRITTEN_ROWS] = {0};
    backend *device = self->device;
    for (uint32_t first = 0; first < slots; first += WRITTEN_ROWS) {
        uint32_t ids[WRITTEN_ROWS];
        for (uint32_t r = 0; r < WRITTEN_ROWS; r++) {
            ids[r] = first + r;
            memset(self->qkv + r * width, 0, out_width(self) * sizeof(float));
            memcpy(self->qkv + r * width + out_width(self), self->kv + (first + r) * kv_width,
                   kv_width * sizeof(float));
        }
        ASSERT_OK(device->ops->write(device, self->device_qkv, WRITTEN_ROWS * width, self->qkv, &error));
        ASSERT_OK(device->ops->write_kv(device, &self->shape, &no_rope, self->device_qkv, WRITTEN_ROWS,
                                        positions, ids, NULL, NULL, self->pool, 0, &error));
    }
    float *held = malloc(kv_width * sizeof *held);
    for (int i = 0; i < 8; i++) {
        uint32_t slot = self->pages[random_below(8)] * self->pool_shape.page_tokens;
        device->ops->kv_read(device, self->pool, 0, slot, held);
        assert_memory_equal(held, self->kv + slot * kv_width, kv_width * sizeof *held);
    }
    free(held);
}

static void pool_create(plan_pool *self, backend *device, bool deterministic, uint64_t seed) {
    cento_error error;
    memset(self, 0, sizeof *self);
    random_state = seed;
    self->device = device;
    self->deterministic = deterministic;
    choose_shape(self);
    choose_pages(self);
    ASSERT_OK(device->ops->kv_pool_create(device, &self->pool_shape, &self->pool, &error));
    self->qkv = malloc(ROWS_MAX * qkv_width(self) * sizeof(float));
    self->out = malloc(ROWS_MAX * out_width(self) * sizeof(float));
    self->device_qkv = device->ops->alloc(device, ROWS_MAX * qkv_width(self));
    self->device_out = device->ops->alloc(device, ROWS_MAX * out_width(self));
    assert_true(self->device_qkv != NULL && self->device_out != NULL);
    fill_pool(self);
    plan_options options = {
        .levels_max = random_below(4) == 0 ? 1 + random_below(2) : 3,
        .page_count = self->pool_shape.pages,
        .page_tokens = self->pool_shape.page_tokens,
        .rows_max = STEP_ROWS_MAX,
        .spans_max = STEP_SPANS_MAX,
        .tile_rows = random_below(2) ? device->ops->plan_tile_rows(device) : 1 + random_below(100),
        .workers = random_below(2) ? device->ops->plan_workers(device) : 1 + random_below(8),
    };
    if (random_below(2))
        ASSERT_OK(device->ops->plan_costs(device, &self->shape, self->pool, &options.costs, &error));
    ASSERT_OK(cascade_plan_create(&options, &self->plan, &error));
}

static void pool_free(plan_pool *self) {
    self->device->ops->release(self->device, self->device_qkv);
    self->device->ops->release(self->device, self->device_out);
    self->device->ops->kv_pool_free(self->device, self->pool);
    cascade_plan_free(self->plan);
    free(self->kv);
    free(self->qkv);
    free(self->out);
}

/* ----------------------------------------------------------------------- a step -------- */

/* NaN, or what is there again, in the slot behind the end of each run. */
static void write_behind_runs(const plan_pool *self, bool poison) {
    const random_step *step = &self->step;
    float *nans = malloc(slot_floats(self) * sizeof *nans);
    for (size_t i = 0; i < slot_floats(self); i++)
        nans[i] = NAN;
    for (uint32_t r = 0; r < step->run_count; r++) {
        const step_run *run = &step->runs[r];
        if (run->tokens % step->page_tokens == 0)
            continue;
        uint32_t page = step->pages[run->page_begin + run->tokens / step->page_tokens];
        uint32_t slot = page * step->page_tokens + run->tokens % step->page_tokens;
        self->device->ops->kv_write(self->device, self->pool, 0, slot,
                                    poison ? nans : self->kv + slot * slot_floats(self));
    }
    free(nans);
}

static void step_create(plan_pool *self) {
    random_step *step = &self->step;
    do {
        random_step_create(step, GROUPS_MAX);
    } while (step->page_tokens != self->pool_shape.page_tokens || step->input.row_count > ROWS_MAX ||
             step->pages_used * step->page_tokens > STEP_TOKENS_MAX);
    memcpy(step->pages, self->pages, step->pages_used * sizeof *step->pages);
    step->input.heads_per_kv = self->shape.heads / self->shape.kv_heads;
    step->input.window = self->shape.window;
    uint32_t first = random_below(VALUES);
    for (size_t i = 0; i < step->input.row_count * qkv_width(self); i++)
        self->qkv[i] = normal[(first + i) % VALUES];
}

static void plan_and_upload(plan_pool *self) {
    cento_error error;
    backend *device = self->device;
    ASSERT_OK(cascade_plan_build(self->plan, &self->step.input, &error));
    ASSERT_OK(cascade_plan_check(self->plan, &self->step.input, &error));
    ASSERT_OK(device->ops->write(device, self->device_qkv, self->step.input.row_count * qkv_width(self),
                                 self->qkv, &error));
}

/* Into `out`, over poison. */
static void attend(plan_pool *self, float *out) {
    cento_error error;
    backend *device = self->device;
    uint32_t rows = self->step.input.row_count;
    size_t count = rows * out_width(self);
    for (size_t i = 0; i < count; i++)
        out[i] = NAN;
    ASSERT_OK(device->ops->write(device, self->device_out, count, out, &error));
    ASSERT_OK(device->ops->attention(device, &self->shape, &self->rope, self->device_qkv, rows,
                                     self->step.positions, self->plan, self->pool, 0, self->device_out,
                                     &error));
    ASSERT_OK(device->ops->read(device, self->device_out, count, out, &error));
}

/* ------------------------------------------------------------------- comparing -------- */

typedef struct probe {
    const row_group *group;
    uint32_t row, head;
    double worst; /* difference over what is allowed */
} probe;

/* The first and the last row of a group and one between, each for one head. */
static uint32_t choose_probes(const plan_pool *self, probe *probes) {
    uint32_t count = 0;
    for (uint32_t g = 0; g < self->step.input.group_count; g++) {
        const row_group *group = &self->step.groups[g];
        const uint32_t rows[] = {0, random_below(group->row_count), group->row_count - 1};
        for (int i = 0; i < 3; i++)
            probes[count++] = (probe){group, group->row_begin + rows[i], random_below(self->shape.heads), 0};
    }
    return count;
}

/* To f32, or, where keys are bf16 and bits may differ with the batch, to bf16: 0.01 of the head's length (a
 * rounding is at most 0.004). */
static void compare(const plan_pool *self, probe *at) {
    double expected[512], difference = 0.0, norm = 0.0, largest = 0.0;
    uint32_t head_dim = self->shape.head_dim;
    reference_attention(&self->shape, &self->rope,
                        self->qkv + at->row * qkv_width(self) + (size_t)at->head * head_dim,
                        self->step.positions[at->row], at->head, self->step.spans + at->group->span_begin,
                        at->group->span_count, self->step.page_tokens, self->kv, expected);
    const float *got = self->out + at->row * out_width(self) + (size_t)at->head * head_dim;
    for (uint32_t i = 0; i < head_dim; i++) {
        difference += (got[i] - expected[i]) * (got[i] - expected[i]);
        norm += expected[i] * expected[i];
        largest = fmax(largest, fabs(got[i] - expected[i]));
    }
    bool coarse = test_on_gpu() && !self->deterministic && self->pool_shape.dtype == CENTO_DTYPE_BF16;
    at->worst = coarse && norm > 0 ? sqrt(difference / norm) / 0.01 : largest / 2e-5;
}

/* Everything is a number, rows of no group are zero, and the probes are near. Returns the worst of them. */
static double expect_step(const plan_pool *self, uint32_t number) {
    const random_step *step = &self->step;
    uint32_t row = 0;
    for (uint32_t g = 0; g <= step->input.group_count; g++) {
        uint32_t begin = g < step->input.group_count ? step->groups[g].row_begin : step->input.row_count;
        for (size_t i = row * out_width(self); i < begin * out_width(self); i++)
            if (!(self->out[i] == 0.0f))
                fail_msg("plan %u: a row of no group has %g", number, (double)self->out[i]);
        row = g < step->input.group_count ? begin + step->groups[g].row_count : begin;
    }
    for (size_t i = 0; i < step->input.row_count * out_width(self); i++)
        if (!isfinite(self->out[i]))
            fail_msg("plan %u: row %zu has %g", number, i / out_width(self), (double)self->out[i]);
    probe probes[3 * GROUPS_MAX];
    uint32_t count = choose_probes(self, probes);
    double worst = 0.0;
#pragma omp parallel for schedule(dynamic)
    for (uint32_t i = 0; i < count; i++)
        compare(self, &probes[i]);
    for (uint32_t i = 0; i < count; i++) {
        if (!(probes[i].worst <= 1.0))
            fail_msg("plan %u (%s, %s KV): %u rows, %u/%u heads of %u, window %u, row %u head %u: %g times "
                     "what is allowed",
                     number, self->deterministic ? "deterministic" : "not deterministic",
                     self->pool_shape.dtype == CENTO_DTYPE_BF16 ? "bf16" : "f32", step->input.row_count,
                     self->shape.heads, self->shape.kv_heads, self->shape.head_dim, self->shape.window,
                     probes[i].row, probes[i].head, probes[i].worst);
        worst = fmax(worst, probes[i].worst);
    }
    return worst;
}

/* ------------------------------------------------------------------- the tests -------- */

static backend *device_new(bool deterministic) {
    cento_error error;
    backend *device = NULL;
    const backend_options options = {
        .compute_dtype = CENTO_DTYPE_BF16, .threads = 2, .deterministic = deterministic};
    test_device_needed();
    ASSERT_OK(backend_create(test_device(), &options, &device, &error));
    return device;
}

static void random_plans(bool deterministic) {
    static plan_pool pool;
    uint32_t plans = number_from("CENTO_TEST_PLANS", test_on_gpu() ? PLANS_ON_GPU : PLANS_HERE) / 2;
    uint32_t seed = number_from("CENTO_TEST_PLANS_SEED", 1), shared = 0, number = 0;
    double worst = 0.0;
    if (test_on_gpu())
        print_message("%u random plans\n", plans);
    backend *device = device_new(deterministic);
    make_values();
    for (uint32_t p = 0; number < plans; p++) {
        pool_create(&pool, device, deterministic, ((uint64_t)seed << 32) + 2 * p + deterministic);
        for (uint32_t i = 0; i < PLANS_PER_POOL && number < plans; i++, number++) {
            step_create(&pool);
            plan_and_upload(&pool);
            shared += pool.plan->stats.keys_read < pool.plan->stats.keys_read_unshared;
            write_behind_runs(&pool, true);
            attend(&pool, pool.out);
            write_behind_runs(&pool, false);
            worst = fmax(worst, expect_step(&pool, number));
        }
        pool_free(&pool);
    }
    device->ops->destroy(device);
    if (test_on_gpu())
        print_message("%u shared something; the worst head %.2f of what is allowed\n", shared, worst);
    assert_true(plans < PLANS_HERE / 2 || shared > plans / 8);
}

static void attention_over_random_plans_is_as_in_f64(void **state) {
    (void)state;
    random_plans(false);
}

static void deterministic_attention_over_random_plans_is_as_in_f64(void **state) {
    (void)state;
    random_plans(true);
}

static void the_same_plan_gives_the_same_bits_a_hundred_times(void **state) {
    (void)state;
    static plan_pool pool;
    uint32_t repetitions = number_from("CENTO_TEST_REPETITIONS", test_on_gpu() ? REPETITIONS : 5);
    make_values();
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        backend *device = device_new(deterministic != 0);
        for (uint32_t p = 0; p < (repetitions < 5 ? 2 : 12); p++) {
            pool_create(&pool, device, deterministic != 0, 500 + p);
            step_create(&pool);
            plan_and_upload(&pool);
            attend(&pool, pool.out);
            size_t bytes = pool.step.input.row_count * out_width(&pool) * sizeof(float);
            float *again = malloc(bytes);
            for (uint32_t i = 1; i < repetitions; i++) {
                if (i % 10 == 0) /* another number, the same tables */
                    plan_and_upload(&pool);
                attend(&pool, again);
                assert_memory_equal(pool.out, again, bytes);
            }
            free(again);
            pool_free(&pool);
        }
        device->ops->destroy(device);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_over_random_plans_is_as_in_f64),
        cmocka_unit_test(deterministic_attention_over_random_plans_is_as_in_f64),
        cmocka_unit_test(the_same_plan_gives_the_same_bits_a_hundred_times),
    };
    return cmocka_run_group_tests_name("attention plans", tests, NULL, NULL);
}

/* bench_attention: see bench_attention.h. */
#include "bench/bench_attention.h"
#include "bench/bench_median.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "base/mem.h"

#define PAGE_TOKENS 32
#define POOL_BYTES  ((size_t)96 << 20) /* at least: beyond the last-level cache */
#define READ_BYTES  ((size_t)256 << 20)
#define LAYERS_MIN  2
#define LAYERS_MAX  64
#define CALLS_MIN   61
#define CALLS_MAX   4096
#define TOKENS_MAX  (1u << 20)
#define TOLERANCE   1e-4
#define ROUNDED     2e-3 /* with queries and weights in bf16 */

enum { SHARED, UNSHARED, VARIANTS };

static const bench_attention_case usual_cases[] = {
    {"16 share 4096, 32/8 d64", 32, 8, 64, 16, 4096, 64},
    {"16 share 4096, 32/8 d128", 32, 8, 128, 16, 4096, 64},
    {"16 share 4096, 32/32 d128", 32, 32, 128, 16, 4096, 64},
    {"16 share 4096, 8/1 d128", 8, 1, 128, 16, 4096, 64},
    {"1 sequence, 32/8 d64", 32, 8, 64, 1, 4096, 64},
    {"4 share 4096, 32/8 d64", 32, 8, 64, 4, 4096, 64},
    {"8 share 4096, 32/8 d64", 32, 8, 64, 8, 4096, 64},
    {"64 share 4096, 32/8 d64", 32, 8, 64, 64, 4096, 64},
    {"16 share 512, 32/8 d64", 32, 8, 64, 16, 512, 64},
    {"16, nothing shared, 32/8 d64", 32, 8, 64, 16, 0, 1024},
    {"16, nothing shared, 32/32 d128", 32, 32, 128, 16, 0, 256},
};

/* What the machine can do. */
typedef struct machine_limits {
    double read_bytes_s, flop_s;
} machine_limits;

typedef struct attention_bench {
    const bench_attention_case *what;
    backend *device;
    backend_kv_pool *pool;
    kv_pool_shape pool_shape;
    attention_shape shape;
    rope_table rope;
    double *inv_freq;
    uint32_t *pages, *positions;
    row_group *groups;
    kv_span *spans;
    plan_input input;
    cascade_plan *plans[VARIANTS];
    float *qkv, *out[VARIANTS];
    double us[VARIANTS];
    double *samples[VARIANTS]; /* (CALLS_MAX) us */
    double *ratios;            /* (CALLS_MAX) unshared over shared, of calls that followed one another */
    double speedup, speedup_low, speedup_high; /* median and quartiles of the ratios */
    uint32_t calls;
} attention_bench;

/* ------------------------------------------------------------------------- the machine ----- */

static double seconds_since(uint64_t start_ns) {
    return (double)(clock_now_ns() - start_ns) * 1e-9;
}

static cento_status measure_machine(backend *device, machine_limits *limits, cento_error *error) {
    const cpu_backend *self = cpu_of(device);
    const size_t piece = (size_t)1 << 18, rounds = 2000000; /* words: 1 MB */
    uint32_t *memory = large_alloc(READ_BYTES);
    if (memory == NULL)
        return error_memory(error, READ_BYTES);
    uint32_t words = 0;
    double sum = 0.0;
#pragma omp parallel for num_threads(self->threads)
    for (size_t i = 0; i < READ_BYTES / 4; i++)
        memory[i] = (uint32_t)i;
    for (int repeat = 0; repeat < 5; repeat++) {
        uint64_t start = clock_now_ns();
#pragma omp parallel for schedule(dynamic, 1) reduction(+ : words) num_threads(self->threads)
        for (size_t i = 0; i < READ_BYTES / 4 / piece; i++)
            words += self->kernels->read(memory + i * piece, piece);
        limits->read_bytes_s = fmax(limits->read_bytes_s, (double)READ_BYTES / seconds_since(start));
        uint64_t flop = 0;
        start = clock_now_ns();
#pragma omp parallel num_threads(self->threads) reduction(+ : sum, flop)
        {
            float result;
            flop += self->kernels->multiply(rounds, &result);
            sum += (double)result;
        }
        limits->flop_s = fmax(limits->flop_s, (double)flop / seconds_since(start));
    }
    mem_free(memory);
    /* the sums are used, so that the work is done */
    return words == 1 && sum == 1.0 ? error_set(error, CENTO_INTERNAL, "unlikely sums") : CENTO_OK;
}

/* --------------------------------------------------------------------------- one case ------ */

static uint32_t pages_of(uint32_t tokens) {
    return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static cento_status check_case(const bench_attention_case *what, cento_error *error) {
    uint64_t tokens = what->shared_tokens + (uint64_t)what->sequences * what->own_tokens;
    if (what->kv_heads == 0 || what->heads == 0 || what->heads % what->kv_heads != 0 || what->heads > 1024 ||
        what->head_dim < 2 || what->head_dim > 256 || what->head_dim % 2 != 0)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%u query heads over %u KV heads of %u; expected a multiple, and an even size of at "
                         "most 256",
                         what->heads, what->kv_heads, what->head_dim);
    if (what->sequences == 0 || what->sequences > 4096 || what->own_tokens == 0 || tokens > TOKENS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%u sequences that share %u tokens and have %u of their own; expected 1 to 4096, at "
                         "least one own token and %u tokens in all",
                         what->sequences, what->shared_tokens, what->own_tokens, TOKENS_MAX);
    return CENTO_OK;
}

static cento_status allocate(void *memory, size_t count, size_t size, cento_error *error) {
    void **target = memory;
    *target = mem_alloc_aligned(count * size);
    return *target == NULL ? error_memory(error, count * size) : CENTO_OK;
}

static float random_value(uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (float)(*random >> 40) * 0x1p-22f - 2.0f;
}

/* All slots of all layers; a prime number of values, so that no two tokens are alike. */
static cento_status fill_pool(attention_bench *bench, uint64_t *random, cento_error *error) {
    enum { VALUES = 65521 };
    size_t width = (size_t)2 * bench->shape.kv_heads * bench->shape.head_dim, at = 0;
    float *values;
    TRY(allocate(&values, VALUES + width, sizeof *values, error));
    for (size_t i = 0; i < VALUES + width; i++)
        values[i] = i < VALUES ? random_value(random) : values[i - VALUES];
    for (uint32_t layer = 0; layer < bench->pool_shape.layers; layer++)
        for (uint32_t slot = 0; slot < bench->pool_shape.pages * PAGE_TOKENS; slot++) {
            bench->device->ops->kv_write(bench->device, bench->pool, layer, slot, values + at);
            at = (at + width) % VALUES;
        }
    mem_free(values);
    return CENTO_OK;
}

static void lay_out(attention_bench *bench) {
    const bench_attention_case *what = bench->what;
    uint32_t own_pages = pages_of(what->own_tokens), first_own = pages_of(what->shared_tokens);
    bench->input = (plan_input){
        .groups = bench->groups,
        .group_count = what->sequences,
        .spans = bench->spans,
        .span_count = 2 * what->sequences,
        .positions = bench->positions,
        .row_count = what->sequences,
        .heads_per_kv = what->heads / what->kv_heads,
    };
    for (uint32_t i = 0; i < bench->pool_shape.pages; i++)
        bench->pages[i] = i;
    for (uint32_t s = 0; s < what->sequences; s++) {
        bench->groups[s] = (row_group){s, 1, 2 * s, 2};
        bench->spans[2 * s] = (kv_span){.pages = bench->pages, .token_end = what->shared_tokens};
        bench->spans[2 * s + 1] = (kv_span){.pages = bench->pages + first_own + s * own_pages,
                                            .token_end = what->own_tokens,
                                            .position = what->shared_tokens};
        bench->positions[s] = what->shared_tokens + what->own_tokens - 1;
    }
}

static cento_status make_plans(attention_bench *bench, cento_error *error) {
    const backend_ops *ops = bench->device->ops;
    plan_options options = {
        .page_count = bench->pool_shape.pages,
        .page_tokens = PAGE_TOKENS,
        .rows_max = bench->what->sequences,
        .spans_max = bench->input.span_count,
        .tile_rows = ops->plan_tile_rows(bench->device),
        .workers = ops->plan_workers(bench->device),
    };
    TRY(ops->plan_costs(bench->device, &bench->shape, bench->pool, &options.costs, error));
    for (int variant = 0; variant < VARIANTS; variant++) {
        options.levels_max = variant == SHARED ? 3 : 1;
        TRY(cascade_plan_create(&options, &bench->plans[variant], error));
        TRY(cascade_plan_build(bench->plans[variant], &bench->input, error));
    }
    return CENTO_OK;
}

static cento_status prepare(attention_bench *bench, cento_dtype kv_dtype, cento_error *error) {
    const bench_attention_case *what = bench->what;
    TRY(check_case(what, error));
    bench->shape = (attention_shape){
        .heads = what->heads,
        .kv_heads = what->kv_heads,
        .head_dim = what->head_dim,
        .scale = 1.0f / sqrtf((float)what->head_dim),
    };
    bench->pool_shape = (kv_pool_shape){
        .layers = 1,
        .kv_heads = what->kv_heads,
        .head_dim = what->head_dim,
        .pages = pages_of(what->shared_tokens) + what->sequences * pages_of(what->own_tokens),
        .page_tokens = PAGE_TOKENS,
        .dtype = kv_dtype,
    };
    size_t layer_bytes = bench->device->ops->kv_pool_bytes(bench->device, &bench->pool_shape);
    size_t layers = (POOL_BYTES + layer_bytes - 1) / layer_bytes;
    bench->pool_shape.layers = (uint32_t)(layers < LAYERS_MIN   ? LAYERS_MIN
                                          : layers > LAYERS_MAX ? LAYERS_MAX
                                                                : layers);
    uint32_t sequences = what->sequences, half = what->head_dim / 2;
    size_t out_count = (size_t)sequences * what->heads * what->head_dim;
    size_t qkv_count = out_count + (size_t)2 * sequences * what->kv_heads * what->head_dim;
    TRY(bench->device->ops->kv_pool_create(bench->device, &bench->pool_shape, &bench->pool, error));
    TRY(allocate(&bench->inv_freq, half, sizeof *bench->inv_freq, error));
    TRY(allocate(&bench->pages, bench->pool_shape.pages, sizeof *bench->pages, error));
    TRY(allocate(&bench->positions, sequences, sizeof *bench->positions, error));
    TRY(allocate(&bench->groups, sequences, sizeof *bench->groups, error));
    TRY(allocate(&bench->spans, (size_t)2 * sequences, sizeof *bench->spans, error));
    TRY(allocate(&bench->qkv, qkv_count, sizeof *bench->qkv, error));
    for (int variant = 0; variant < VARIANTS; variant++) {
        TRY(allocate(&bench->out[variant], out_count, sizeof(float), error));
        TRY(allocate(&bench->samples[variant], CALLS_MAX, sizeof(double), error));
    }
    for (uint32_t i = 0; i < half; i++)
        bench->inv_freq[i] = pow(500000.0, -2.0 * i / what->head_dim);
    bench->rope = (rope_table){bench->inv_freq, 1.0};
    uint64_t random = 7;
    for (size_t i = 0; i < qkv_count; i++)
        bench->qkv[i] = random_value(&random);
    TRY(allocate(&bench->ratios, CALLS_MAX, sizeof(double), error));
    TRY(fill_pool(bench, &random, error));
    lay_out(bench);
    return make_plans(bench, error);
}

static void release(attention_bench *bench) {
    for (int variant = 0; variant < VARIANTS; variant++) {
        cascade_plan_free(bench->plans[variant]);
        mem_free(bench->out[variant]);
        mem_free(bench->samples[variant]);
    }
    bench->device->ops->kv_pool_free(bench->device, bench->pool);
    mem_free(bench->ratios);
    mem_free(bench->inv_freq);
    mem_free(bench->pages);
    mem_free(bench->positions);
    mem_free(bench->groups);
    mem_free(bench->spans);
    mem_free(bench->qkv);
}

/* ------------------------------------------------------------------------- measuring ------- */

static cento_status attend(attention_bench *bench, int variant, uint32_t layer, double *us,
                           cento_error *error) {
    uint64_t start = clock_now_ns();
    TRY(bench->device->ops->attention(bench->device, &bench->shape, &bench->rope, bench->qkv,
                                      bench->input.row_count, bench->positions, bench->plans[variant],
                                      bench->pool, layer, bench->out[variant], error));
    *us = (double)(clock_now_ns() - start) * 1e-3;
    return CENTO_OK;
}

/* The variants take turns, and are half of the layers apart, so that neither finds what the other one read.
 * Each pair of calls gives a ratio: what else the machine does meets both alike. */
static cento_status measure(attention_bench *bench, uint32_t repetitions, cento_error *error) {
    uint32_t layers = bench->pool_shape.layers, calls = repetitions * layers;
    calls = calls < CALLS_MIN ? CALLS_MIN : calls > CALLS_MAX ? CALLS_MAX : calls;
    double unused;
    for (int variant = 0; variant < VARIANTS; variant++)
        TRY(attend(bench, variant, 0, &unused, error));
    for (uint32_t call = 0; call < calls; call++) {
        for (int turn = 0; turn < VARIANTS; turn++) {
            int variant = (int)(call + (uint32_t)turn) % VARIANTS;
            uint32_t layer = (call + (variant == SHARED ? 0 : layers / 2)) % layers;
            TRY(attend(bench, variant, layer, &bench->samples[variant][call], error));
        }
        bench->ratios[call] = bench->samples[UNSHARED][call] / bench->samples[SHARED][call];
    }
    bench->calls = calls;
    for (int variant = 0; variant < VARIANTS; variant++)
        bench->us[variant] = median(bench->samples[variant], calls);
    bench->speedup = median(bench->ratios, calls); /* sorts them */
    bench->speedup_low = bench->ratios[calls / 4];
    bench->speedup_high = bench->ratios[calls - 1 - calls / 4];
    return CENTO_OK;
}

/* One query head of one sequence in f64; the largest difference. */
static cento_status compare_f64(const attention_bench *bench, uint32_t sequence, uint32_t head, double *worst,
                                cento_error *error) {
    const bench_attention_case *what = bench->what;
    uint32_t dim = what->head_dim, half = dim / 2, keys = what->shared_tokens + what->own_tokens;
    size_t token_floats = (size_t)2 * what->kv_heads * dim;
    double *memory;
    float *kv;
    TRY(allocate(&memory, keys + 2 * (size_t)dim, sizeof *memory, error));
    cento_status status = allocate(&kv, token_floats, sizeof *kv, error);
    if (status != CENTO_OK) {
        mem_free(memory);
        return status;
    }
    double *query = memory + keys, *sum = query + dim, largest = -INFINITY, total = 0.0;
    const float *raw = bench->qkv + sequence * (what->heads * (size_t)dim + token_floats) + head * dim;
    for (uint32_t i = 0; i < half; i++) {
        double angle = bench->positions[sequence] * bench->inv_freq[i];
        query[i] = raw[i] * cos(angle) - raw[half + i] * sin(angle);
        query[half + i] = raw[half + i] * cos(angle) + raw[i] * sin(angle);
    }
    memset(sum, 0, dim * sizeof *sum);
    uint32_t kv_head = head / (what->heads / what->kv_heads);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < keys; k++) {
            const kv_span *span = &bench->spans[2 * sequence + (k >= what->shared_tokens)];
            uint32_t token = k >= what->shared_tokens ? k - what->shared_tokens : k;
            uint32_t slot = span->pages[token / PAGE_TOKENS] * PAGE_TOKENS + token % PAGE_TOKENS;
            bench->device->ops->kv_read(bench->device, bench->pool, 0, slot, kv);
            const float *key = kv + (size_t)kv_head * dim, *value = key + (size_t)what->kv_heads * dim;
            double score = 0.0;
            for (uint32_t i = 0; pass == 0 && i < dim; i++)
                score += query[i] * (double)key[i];
            if (pass == 0) {
                memory[k] = score * (double)bench->shape.scale;
                largest = fmax(largest, memory[k]);
                continue;
            }
            double weight = exp(memory[k] - largest);
            total += weight;
            for (uint32_t i = 0; i < dim; i++)
                sum[i] += weight * (double)value[i];
        }
    const float *out = bench->out[SHARED] + ((size_t)sequence * what->heads + head) * dim;
    *worst = 0.0;
    for (uint32_t i = 0; i < dim; i++)
        *worst = fmax(*worst, fabs(sum[i] / total - (double)out[i]));
    mem_free(memory);
    mem_free(kv);
    return CENTO_OK;
}

static cento_status check(attention_bench *bench, cento_error *error) {
    const bench_attention_case *what = bench->what;
    double unused, worst;
    for (int variant = 0; variant < VARIANTS; variant++)
        TRY(attend(bench, variant, 0, &unused, error));
    size_t bytes = (size_t)what->sequences * what->heads * what->head_dim * sizeof(float);
    if (memcmp(bench->out[SHARED], bench->out[UNSHARED], bytes) != 0)
        return error_set(error, CENTO_INTERNAL, "the results with and without sharing differ");
    TRY(compare_f64(bench, what->sequences - 1, what->heads - 1, &worst, error));
    const cpu_backend *device = cpu_of(bench->device);
    bool bf16 = bench->pool_shape.dtype == CENTO_DTYPE_BF16;
    bool rounded = attention_kernels_of(device, &bench->shape, bf16) != &device->kernels->attention;
    double tolerance = rounded ? ROUNDED : TOLERANCE;
    return worst <= tolerance
               ? CENTO_OK
               : error_set(error, CENTO_INTERNAL, "%g from f64 attention, expected %g", worst, tolerance);
}

/* --------------------------------------------------------------------------- report -------- */

static cento_status add_report(const attention_bench *bench, const char *name, const machine_limits *limits,
                               json_t *list, cento_error *error) {
    const bench_attention_case *what = bench->what;
    double element_bytes = bench->pool_shape.dtype == CENTO_DTYPE_BF16 ? 2 : 4;
    double key_bytes = 2.0 * what->kv_heads * what->head_dim * element_bytes;
    double keys = what->shared_tokens + (double)what->sequences * what->own_tokens;
    double products = 4.0 * what->heads * what->head_dim * what->sequences *
                      ((double)what->shared_tokens + what->own_tokens);
    double us = bench->us[SHARED], us_unshared = bench->us[UNSHARED];
    double bytes_s = keys * key_bytes / us * 1e6, flop_s = products / us * 1e6;
    double flop_s_unshared = products / us_unshared * 1e6;
    json_t *object = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:f, s:i}",
        "name", name, "heads", (int)what->heads, "kv_heads", (int)what->kv_heads, "head_dim",
        (int)what->head_dim, "sequences", (int)what->sequences, "shared_tokens", (int)what->shared_tokens,
        "own_tokens", (int)what->own_tokens, "layers", (int)bench->pool_shape.layers, "tasks",
        (int)bench->plans[SHARED]->task_count, "us", us, "us_unshared", us_unshared, "speedup_vs_unshared",
        bench->speedup, "speedup_low", bench->speedup_low, "speedup_high", bench->speedup_high, "kv_gb_s",
        bytes_s * 1e-9, "kv_read_fraction", bytes_s / limits->read_bytes_s, "gflop_s", flop_s * 1e-9,
        "fma_fraction", flop_s / limits->flop_s, "gflop_s_unshared", flop_s_unshared * 1e-9,
        "fma_fraction_unshared", flop_s_unshared / limits->flop_s, "calls", (int)bench->calls);
    if (object == NULL)
        return error_set(error, CENTO_INTERNAL, "a figure is not a number");
    json_array_append_new(list, object);
    return CENTO_OK;
}

static cento_status run_case(const bench_attention_options *options, backend *device,
                             const bench_attention_case *what, const machine_limits *limits, json_t *list,
                             cento_error *error) {
    attention_bench bench = {.what = what, .device = device};
    char name[128];
    snprintf(name, sizeof name, "%u share %u, %u/%u d%u", what->sequences, what->shared_tokens, what->heads,
             what->kv_heads, what->head_dim);
    cento_status status = prepare(&bench, options->kv_dtype, error);
    if (status == CENTO_OK)
        status = measure(&bench, options->repetitions, error);
    if (status == CENTO_OK)
        status = check(&bench, error);
    if (status == CENTO_OK)
        status = add_report(&bench, what->name == NULL ? name : what->name, limits, list, error);
    release(&bench);
    return status;
}

cento_status bench_attention(const bench_attention_options *options, json_t **report, cento_error *error) {
    const backend_options device_options = {.threads = options->threads, .isa = options->isa};
    const bench_attention_case *cases = options->cases == NULL ? usual_cases : options->cases;
    size_t count = options->cases == NULL ? sizeof usual_cases / sizeof usual_cases[0] : options->case_count;
    backend *device = NULL;
    machine_limits limits = {0};
    TRY(backend_cpu_create(&device_options, &device, error));
    json_t *list = json_array();
    cento_status status = list == NULL ? error_memory(error, sizeof *list) : CENTO_OK;
    if (status == CENTO_OK)
        status = measure_machine(device, &limits, error);
    for (size_t i = 0; i < count && status == CENTO_OK; i++) {
        if (options->on_case != NULL && !options->on_case(options->user, "cases", i, count))
            break;
        status = run_case(options, device, &cases[i], &limits, list, error);
    }
    if (status == CENTO_OK) {
        *report = json_pack("{s:s, s:s, s:f, s:f, s:O}", "backend", device->ops->describe(device), "kv_dtype",
                            options->kv_dtype == CENTO_DTYPE_BF16 ? "bf16" : "f32", "read_gb_s",
                            limits.read_bytes_s * 1e-9, "fma_gflop_s", limits.flop_s * 1e-9, "cases", list);
        if (*report == NULL)
            status = error_set(error, CENTO_INTERNAL, "a figure is not a number");
    }
    json_decref(list);
    device->ops->destroy(device);
    return status;
}

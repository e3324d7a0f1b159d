/*
 * Loading: weights that contradict config.json are refused before anything is packed; failures leak nothing;
 * the fingerprint changes with every byte that matters; peak memory stays within 1.1 times what is held.
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "model_fixture.h"

/* ------------------------------------------------------------------ files made here ------ */

typedef struct tensor_spec {
    char name[96];
    uint32_t rows, columns; /* columns 0: a vector */
} tensor_spec;

typedef struct model_spec {
    tensor_spec tensors[256];
    size_t count;
} model_spec;

static void spec_add(model_spec *spec, uint32_t rows, uint32_t columns, const char *format, uint32_t layer) {
    tensor_spec *tensor = &spec->tensors[spec->count++];
    tensor->rows = rows;
    tensor->columns = columns;
    snprintf(tensor->name, sizeof tensor->name, format, layer);
}

/* The tensors of a Llama with these sizes, as transformers names them. */
static model_spec llama_spec(const model_config *config) {
    model_spec spec = {0};
    uint32_t hidden = config->hidden_size, inner = config->intermediate_size;
    uint32_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    spec_add(&spec, config->vocab_size, hidden, "model.embed_tokens.weight", 0);
    if (!config->tied_embeddings)
        spec_add(&spec, config->vocab_size, hidden, "lm_head.weight", 0);
    spec_add(&spec, hidden, 0, "model.norm.weight", 0);
    for (uint32_t i = 0; i < config->layers; i++) {
        spec_add(&spec, hidden, 0, "model.layers.%u.input_layernorm.weight", i);
        spec_add(&spec, hidden, 0, "model.layers.%u.post_attention_layernorm.weight", i);
        spec_add(&spec, q, hidden, "model.layers.%u.self_attn.q_proj.weight", i);
        spec_add(&spec, kv, hidden, "model.layers.%u.self_attn.k_proj.weight", i);
        spec_add(&spec, kv, hidden, "model.layers.%u.self_attn.v_proj.weight", i);
        spec_add(&spec, hidden, q, "model.layers.%u.self_attn.o_proj.weight", i);
        spec_add(&spec, inner, hidden, "model.layers.%u.mlp.gate_proj.weight", i);
        spec_add(&spec, inner, hidden, "model.layers.%u.mlp.up_proj.weight", i);
        spec_add(&spec, hidden, inner, "model.layers.%u.mlp.down_proj.weight", i);
    }
    return spec;
}

static size_t tensor_bytes(const tensor_spec *tensor) {
    return (size_t)tensor->rows * (tensor->columns == 0 ? 1 : tensor->columns) * 2;
}

/* Writes model.safetensors in bf16 with arbitrary small values; flip: one bit of the last tensor is
 * different. dtype is what the header says; odd: its data begins at an odd place of the file, else at an even
 * one. */
static void write_model_at(const char *folder, const model_spec *spec, const char *dtype, bool flip,
                           bool odd) {
    strbuf header = {0};
    size_t offset = 0;
    for (size_t i = 0; i < spec->count; i++) {
        const tensor_spec *tensor = &spec->tensors[i];
        strbuf_printf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%u", i == 0 ? "{" : ",", tensor->name,
                      dtype, tensor->rows);
        if (tensor->columns > 0)
            strbuf_printf(&header, ",%u", tensor->columns);
        strbuf_printf(&header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + tensor_bytes(tensor));
        offset += tensor_bytes(tensor);
    }
    strbuf_putc(&header, '}');
    if (header.bytes % 2 != odd)
        strbuf_putc(&header, ' ');
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    uint64_t length = header.bytes;
    assert_int_equal(fwrite(&length, 8, 1, file), 1);
    assert_int_equal(fwrite(header.data, 1, header.bytes, file), header.bytes);
    uint16_t block[32768];
    uint32_t random = 1;
    for (size_t left = offset; left > 0;) {
        size_t bytes = left < sizeof block ? left : sizeof block;
        for (size_t i = 0; i < bytes / 2; i++) {
            random = random * 1664525u + 1013904223u;
            block[i] = (uint16_t)(0x3C00u | (random >> 16 & 0x81FFu)); /* ±0.008 … 0.03 */
        }
        if (flip && bytes == left)
            block[bytes / 2 - 1] ^= 1;
        assert_int_equal(fwrite(block, 1, bytes, file), bytes);
        left -= bytes;
    }
    assert_int_equal(fclose(file), 0);
    strbuf_free(&header);
}

static void write_model(const char *folder, const model_spec *spec, const char *dtype, bool flip) {
    write_model_at(folder, spec, dtype, flip, false);
}

static model_config small_config(void) {
    const char *text = "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":50,\"hidden_size\":32,"
                       "\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
                       "\"num_key_value_heads\":2,\"max_position_embeddings\":128}";
    cento_error error = {0};
    model_config config;
    ASSERT_OK(model_config_parse("config.json", text, strlen(text), &config, &error));
    return config;
}

static backend *new_backend(cento_dtype dtype) {
    cento_error error = {0};
    backend *device = NULL;
    const backend_options options = {.compute_dtype = dtype, .threads = 2};
    ASSERT_OK(backend_cpu_create(&options, &device, &error));
    return device;
}

/* Loads and frees; fingerprint may be NULL. */
static cento_status try_load(backend *device, const model_config *config, uint8_t *fingerprint,
                             cento_error *error) {
    decoder *model = NULL;
    cento_status status = decoder_load(temporary_folder(), config, device, 4, NULL, NULL, &model, error);
    if (status == CENTO_OK && fingerprint != NULL)
        memcpy(fingerprint, decoder_fingerprint(model), SHA256_BYTES);
    decoder_free(model);
    return status;
}

/* ------------------------------------------------------------------ tests ---------------- */

static void weights_that_contradict_the_config_are_refused(void **state) {
    (void)state;
    cento_error error = {0};
    backend *device = new_backend(CENTO_DTYPE_F32);
    model_config config = small_config();
    model_spec spec = llama_spec(&config);

    write_model(temporary_folder(), &spec, "BF16", false);
    ASSERT_OK(try_load(device, &config, NULL, &error));

    struct {
        uint32_t *field;
        uint32_t value;
        const char *message;
    } changes[] = {
        {&config.vocab_size, 51,
         "model.safetensors: tensor 'model.embed_tokens.weight' is [50, 32], config.json implies [51, 32]"},
        {&config.hidden_size, 64, "'model.embed_tokens.weight' is [50, 32], config.json implies [50, 64]"},
        {&config.intermediate_size, 40,
         "'model.layers.0.mlp.gate_proj.weight' is [48, 32], config.json implies [40, 32]"},
        {&config.heads, 8,
         "'model.layers.0.self_attn.q_proj.weight' is [32, 32], config.json implies [64, 32]"},
        {&config.kv_heads, 4,
         "'model.layers.0.self_attn.k_proj.weight' is [16, 32], config.json implies [32, 32]"},
        {&config.layers, 3, "tensor 'model.layers.2.input_layernorm.weight' is missing"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint32_t old = *changes[i].field;
        *changes[i].field = changes[i].value;
        ASSERT_FAILS(CENTO_INVALID_MODEL, changes[i].message, try_load(device, &config, NULL, &error));
        *changes[i].field = old;
    }
    bool *features[] = {&config.qk_norm, &config.attention_bias, &config.output_bias, &config.mlp_bias};
    const char *missing[] = {"'model.layers.0.self_attn.q_norm.weight' is missing",
                             "'model.layers.0.self_attn.q_proj.bias' is missing",
                             "'model.layers.0.self_attn.o_proj.bias' is missing",
                             "'model.layers.0.mlp.gate_proj.bias' is missing"};
    for (size_t i = 0; i < 4; i++) {
        *features[i] = true;
        ASSERT_FAILS(CENTO_INVALID_MODEL, missing[i], try_load(device, &config, NULL, &error));
        *features[i] = false;
    }
    /* each tensor in turn is missing */
    for (size_t i = 0; i < spec.count; i++) {
        model_spec without = spec;
        memmove(&without.tensors[i], &without.tensors[i + 1], (spec.count - i - 1) * sizeof spec.tensors[0]);
        without.count--;
        write_model(temporary_folder(), &without, "BF16", false);
        char message[160];
        snprintf(message, sizeof message, "tensor '%s' is missing", spec.tensors[i].name);
        ASSERT_FAILS(CENTO_INVALID_MODEL, message, try_load(device, &config, NULL, &error));
    }
    /* a vector where a matrix is expected, and the other way round */
    model_spec flat = spec;
    flat.tensors[0].rows *= flat.tensors[0].columns;
    flat.tensors[0].columns = 0;
    write_model(temporary_folder(), &flat, "BF16", false);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "is [1600], config.json implies [50, 32]",
                 try_load(device, &config, NULL, &error));
    write_model(temporary_folder(), &spec, "I16", false);
    ASSERT_FAILS(CENTO_UNSUPPORTED, "'model.embed_tokens.weight' is I16, supported are BF16, F16 and F32",
                 try_load(device, &config, NULL, &error));
    device->ops->destroy(device);
}

static void extra_tensors_and_a_tied_head_are_ignored(void **state) {
    (void)state;
    cento_error error = {0};
    backend *device = new_backend(CENTO_DTYPE_F32);
    model_config config = small_config();
    model_spec spec = llama_spec(&config);
    spec_add(&spec, 4, 0, "model.layers.%u.self_attn.rotary_emb.inv_freq", 0);
    write_model(temporary_folder(), &spec, "BF16", false);
    ASSERT_OK(try_load(device, &config, NULL, &error));
    config.tied_embeddings = true; /* lm_head.weight is in the file, and not needed */
    ASSERT_OK(try_load(device, &config, NULL, &error));
    device->ops->destroy(device);
}

/* Logits of one token; released with free. */
static float *first_logits(cento_dtype dtype, const model_config *config) {
    cento_error error = {0};
    backend *device = new_backend(dtype);
    decoder *model = NULL;
    backend_kv_pool *pool = NULL;
    ASSERT_OK(decoder_load(temporary_folder(), config, device, 1, NULL, NULL, &model, &error));
    ASSERT_OK(decoder_kv_pool_create(model, 1, 16, dtype, &pool, &error));
    const int32_t token = 7;
    const uint32_t zero = 0;
    const kv_span span = {.pages = &zero, .token_end = 1};
    cascade_plan *plan = test_plan_new(1, 16, 1);
    test_plan_one_group(plan, &span, 1, &zero, 1, config->heads / config->kv_heads);
    const decoder_batch batch = {.token_count = 1,
                                 .tokens = &token,
                                 .positions = &zero,
                                 .kv_slots = &zero,
                                 .plan = plan,
                                 .logit_rows = &zero,
                                 .logit_row_count = 1};
    float *logits = malloc(config->vocab_size * sizeof *logits);
    ASSERT_OK(decoder_forward(model, &batch, pool, logits, &error));
    cascade_plan_free(plan);
    device->ops->kv_pool_free(device, pool);
    decoder_free(model);
    device->ops->destroy(device);
    return logits;
}

static void misaligned_data_gives_the_same_logits(void **state) {
    (void)state;
    model_config config = small_config();
    model_spec spec = llama_spec(&config);
    for (int dtype = CENTO_DTYPE_BF16; dtype <= CENTO_DTYPE_F32; dtype++) {
        write_model_at(temporary_folder(), &spec, "BF16", false, false);
        float *aligned = first_logits((cento_dtype)dtype, &config);
        write_model_at(temporary_folder(), &spec, "BF16", false, true);
        float *misaligned = first_logits((cento_dtype)dtype, &config);
        assert_memory_equal(aligned, misaligned, config.vocab_size * sizeof *aligned);
        free(aligned);
        free(misaligned);
    }
}

static void the_fingerprint_changes_with_every_byte_that_matters(void **state) {
    (void)state;
    cento_error error = {0};
    backend *f32 = new_backend(CENTO_DTYPE_F32), *bf16 = new_backend(CENTO_DTYPE_BF16);
    model_config config = small_config();
    model_spec spec = llama_spec(&config);
    uint8_t first[SHA256_BYTES], other[SHA256_BYTES];
    write_model(temporary_folder(), &spec, "BF16", false);
    ASSERT_OK(try_load(f32, &config, first, &error));

    /* the same model again, on another compute dtype, with another answer length: same */
    model_config same = config;
    same.eos_count = 0;
    same.sampling.temperature = 1;
    ASSERT_OK(try_load(bf16, &same, other, &error));
    assert_memory_equal(first, other, SHA256_BYTES);

    model_config changed = config;
    changed.rope_theta = 20000;
    ASSERT_OK(try_load(f32, &changed, other, &error));
    assert_memory_not_equal(first, other, SHA256_BYTES);
    changed = config;
    changed.norm_epsilon = 1e-5f;
    ASSERT_OK(try_load(f32, &changed, other, &error));
    assert_memory_not_equal(first, other, SHA256_BYTES);

    write_model(temporary_folder(), &spec, "F16", false); /* same bytes, other meaning */
    ASSERT_OK(try_load(f32, &config, other, &error));
    assert_memory_not_equal(first, other, SHA256_BYTES);
    write_model(temporary_folder(), &spec, "BF16", true);
    ASSERT_OK(try_load(f32, &config, other, &error));
    assert_memory_not_equal(first, other, SHA256_BYTES);
    f32->ops->destroy(f32);
    bf16->ops->destroy(bf16);
}

static void a_failing_allocation_at_any_place_leaks_nothing(void **state) {
    (void)state;
    cento_error error = {0};
    backend *device = new_backend(CENTO_DTYPE_BF16);
    model_config config = small_config();
    model_spec spec = llama_spec(&config);
    write_model(temporary_folder(), &spec, "BF16", false);
    int64_t failures = 0;
    for (;; failures++) {
        mem_fail_after(failures);
        cento_status status = try_load(device, &config, NULL, &error);
        mem_fail_after(-1);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
    }
    assert_true(failures > 30);
    device->ops->destroy(device);
}

typedef struct progress_log {
    uint64_t calls, done, total;
} progress_log;

static void log_progress(void *user, const cento_progress *progress) {
    progress_log *log = user;
    assert_string_equal(progress->stage, "load");
    assert_true(progress->done >= log->done && progress->done <= progress->total);
    log->calls++;
    log->done = progress->done;
    log->total = progress->total;
}

static void progress_counts_the_bytes_of_all_tensors(void **state) {
    (void)state;
    cento_error error = {0};
    backend *device = new_backend(CENTO_DTYPE_F32);
    model_config config = small_config();
    model_spec spec = llama_spec(&config);
    write_model(temporary_folder(), &spec, "BF16", false);
    uint64_t bytes = 0;
    for (size_t i = 0; i < spec.count; i++)
        bytes += tensor_bytes(&spec.tensors[i]);
    assert_int_equal(bytes, 2 * model_config_parameters(&config));
    progress_log log = {0};
    decoder *model = NULL;
    ASSERT_OK(decoder_load(temporary_folder(), &config, device, 4, log_progress, &log, &model, &error));
    assert_true(log.calls > 10);
    assert_int_equal(log.done, bytes);
    assert_int_equal(log.total, bytes);
    decoder_free(model);
    device->ops->destroy(device);
}

static void batches_that_make_no_sense_are_refused(void **state) {
    (void)state;
    cento_error error = {0};
    fixture test = fixture_open("qwen3", CENTO_DTYPE_F32);
    const int32_t good_token = 5, negative = -1, beyond = 100;
    const uint32_t zero = 0, late = 4096, far_slot = FIXTURE_PAGES * FIXTURE_PAGE_TOKENS;
    const kv_span span = {.pages = test.pages, .token_end = 1};
    fixture_plan(&test, (plan_input){.groups = &(row_group){.row_count = 1, .span_count = 1},
                                     .group_count = 1,
                                     .spans = &span,
                                     .span_count = 1,
                                     .positions = &zero,
                                     .row_count = 1});
    const decoder_batch good = {.token_count = 1,
                                .tokens = &good_token,
                                .positions = &zero,
                                .kv_slots = &zero,
                                .plan = test.plan,
                                .logit_rows = &zero,
                                .logit_row_count = 1};
    float logits[100];
    ASSERT_OK(decoder_forward(test.model, &good, test.pool, logits, &error));
    decoder_batch bad = good;
    bad.tokens = &negative;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "has the id -1, expected 0 to 99",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad.tokens = &beyond;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "has the id 100",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad = good;
    bad.token_count = 0;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the batch has 0 tokens, expected 1 to 128",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad.token_count = FIXTURE_TOKENS_MAX + 1;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the batch has 129 tokens",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad = good;
    bad.positions = &late;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the position 4096, the model's context is 4096 tokens",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad = good;
    bad.kv_slots = &far_slot;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "slot",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad = good;
    bad.logit_rows = &late;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "logits of row 4096 are wanted",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    bad = good;
    bad.plan = NULL;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the plan is for 0 rows, the batch has 1",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    const plan_input empty = {.heads_per_kv = 1};
    ASSERT_OK(cascade_plan_build(test.window_plan, &empty, &error));
    bad = good;
    bad.window_plan = test.window_plan;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "the plan is for 0 rows, the batch has 1",
                 decoder_forward(test.model, &bad, test.pool, logits, &error));
    fixture_close(&test);
}

static void random_weights_give_finite_logits(void **state) {
    (void)state;
    cento_error error = {0};
    backend *device = new_backend(CENTO_DTYPE_BF16);
    model_config config;
    decoder *model = NULL;
    backend_kv_pool *pool = NULL;
    ASSERT_OK(model_config_geometry("tiny", &config, &error));
    ASSERT_OK(decoder_random(&config, device, 4, &model, &error));
    ASSERT_OK(decoder_kv_pool_create(model, 1, 16, CENTO_DTYPE_BF16, &pool, &error));
    const uint32_t page = 0, positions[] = {0, 1, 2}, last = 2;
    const kv_span span = {.pages = &page, .token_end = 3};
    cascade_plan *plan = test_plan_new(1, 16, 4);
    test_plan_one_group(plan, &span, 1, positions, 3, config.heads / config.kv_heads);
    const decoder_batch batch = {.token_count = 3,
                                 .tokens = (int32_t[]){1, 2, 3},
                                 .positions = positions,
                                 .kv_slots = positions,
                                 .plan = plan,
                                 .logit_rows = &last,
                                 .logit_row_count = 1};
    float *logits = malloc(config.vocab_size * sizeof *logits);
    ASSERT_OK(decoder_forward(model, &batch, pool, logits, &error));
    bool differ = false;
    for (uint32_t i = 0; i < config.vocab_size; i++) {
        assert_true(isfinite(logits[i]));
        differ = differ || logits[i] != logits[0];
    }
    assert_true(differ);
    free(logits);
    cascade_plan_free(plan);
    device->ops->kv_pool_free(device, pool);
    decoder_free(model);
    device->ops->destroy(device);
}

/* ------------------------------------------------------------------ memory --------------- */

static uint64_t status_bytes(const char *key) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    uint64_t kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            kilobytes = strtoull(line + strlen(key), NULL, 10);
    }
    if (file != NULL)
        fclose(file);
    return kilobytes * 1024;
}

typedef struct memory_report {
    uint64_t peak_bytes, held_bytes;
    double load_ms;
    cento_error error;
} memory_report;

/* In a child process, so that what other tests used does not count. The pool is touched to its end. */
static memory_report measure_load(const model_config *config) {
    memory_report report = {0};
    backend *device = NULL;
    decoder *model = NULL;
    backend_kv_pool *pool = NULL;
    const backend_options options = {.compute_dtype = CENTO_DTYPE_BF16, .threads = 2};
    uint64_t start = clock_now_ns();
    if (backend_cpu_create(&options, &device, &report.error) != CENTO_OK ||
        decoder_load(temporary_folder(), config, device, 64, NULL, NULL, &model, &report.error) != CENTO_OK ||
        decoder_kv_pool_create(model, 64, 32, CENTO_DTYPE_BF16, &pool, &report.error) != CENTO_OK)
        return report;
    report.load_ms = clock_ms_since(start);
    const kv_pool_shape shape = {.layers = config->layers,
                                 .kv_heads = config->kv_heads,
                                 .head_dim = config->head_dim,
                                 .pages = 64,
                                 .page_tokens = 32};
    float *zeros = calloc((size_t)2 * config->kv_heads * config->head_dim, sizeof *zeros);
    for (uint32_t layer = 0; layer < config->layers; layer++)
        for (uint32_t slot = 0; slot < 64 * 32; slot++)
            device->ops->kv_write(device, pool, layer, slot, zeros);
    free(zeros);
    report.held_bytes =
        device->ops->counters(device)->weight_bytes + device->ops->kv_pool_bytes(device, &shape);
    report.peak_bytes = status_bytes("VmHWM:");
    device->ops->kv_pool_free(device, pool);
    decoder_free(model);
    device->ops->destroy(device);
    return report;
}

static void peak_memory_is_at_most_1_1_times_what_is_held(void **state) {
    (void)state;
    if (SANITIZED) {
        printf("skipped: sanitizers keep memory of their own\n");
        skip();
    }
    const char *text = "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":32000,\"hidden_size\":1024,"
                       "\"intermediate_size\":3584,\"num_hidden_layers\":8,\"num_attention_heads\":16,"
                       "\"num_key_value_heads\":8,\"head_dim\":64,\"max_position_embeddings\":4096,"
                       "\"tie_word_embeddings\":true}";
    cento_error error = {0};
    model_config config;
    ASSERT_OK(model_config_parse("config.json", text, strlen(text), &config, &error));
    model_spec spec = llama_spec(&config);
    write_model(temporary_folder(), &spec, "BF16", false);

    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        memory_report report = measure_load(&config);
        bool sent = write(ends[1], &report, sizeof report) == (ssize_t)sizeof report;
        _exit(sent ? 0 : 1);
    }
    memory_report report = {0};
    close(ends[1]);
    assert_int_equal(read(ends[0], &report, sizeof report), sizeof report);
    close(ends[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    if (report.held_bytes == 0)
        fail_msg("%s", report.error.message);
    printf("peak %.1f MB for %.1f MB of weights and KV pool: %.3f; loaded in %.0f ms\n",
           (double)report.peak_bytes * 1e-6, (double)report.held_bytes * 1e-6,
           (double)report.peak_bytes / (double)report.held_bytes, report.load_ms);
    assert_true(report.held_bytes > 250000000);
    assert_true((double)report.peak_bytes <= 1.1 * (double)report.held_bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        /* first: a child of a process in which OpenMP already has threads would hang */
        cmocka_unit_test(peak_memory_is_at_most_1_1_times_what_is_held),
        cmocka_unit_test(weights_that_contradict_the_config_are_refused),
        cmocka_unit_test(extra_tensors_and_a_tied_head_are_ignored),
        cmocka_unit_test(misaligned_data_gives_the_same_logits),
        cmocka_unit_test(the_fingerprint_changes_with_every_byte_that_matters),
        cmocka_unit_test(a_failing_allocation_at_any_place_leaks_nothing),
        cmocka_unit_test(progress_counts_the_bytes_of_all_tensors),
        cmocka_unit_test(batches_that_make_no_sense_are_refused),
        cmocka_unit_test(random_weights_give_finite_logits),
    };
    return cmocka_run_group_tests_name("loading a decoder", tests, NULL, NULL);
}

/*
 * decoder: the forward pass of all architectures; see decoder.h. Owns weights and activations. Everything is
 * sized when the decoder is made; a call of decoder_forward allocates nothing.
 *
 * One layer, for `rows` tokens; x is the residual stream:
 *
 *   x ─ rmsnorm ─ Q|K|V ─ (norm of heads) ─ K, V to pages ─ attention over plan ── output ─ + ─ x
 *   x ─ rmsnorm ─ gate|up ─ silu(gate)·up ─ down ─ + ─ x
 *
 * After the last layer only the rows whose logits are wanted go on to the norm and the output head. A row of
 * its result is as wide as the vocabulary: where the host samples, it is made and read a few rows at a time.
 */
#include "decoder.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "weights.h"

enum { LOGIT_BUFFER_BYTES = 4 << 20 };

struct decoder {
    model_config config;
    backend *device; /* borrowed */
    weights held;
    double *inv_freq; /* (head_dim / 2), owned */
    rope_table rope;
    attention_shape shape;
    uint32_t tokens_max;
    uint32_t logit_rows_max; /* rows of `logits` */

    /* activations on the device; `rows` is tokens_max */
    float *residual;  /* (rows, hidden_size) */
    float *normed;    /* (rows, hidden_size) */
    float *qkv;       /* (rows, (heads + 2 kv_heads) · head_dim) */
    float *attention; /* (rows, heads · head_dim) */
    float *gate_up;   /* (rows, 2 intermediate_size) */
    float *inner;     /* (rows, intermediate_size) */
    float *logits;    /* (logit_rows_max, vocab_size) */
};

/* ------------------------------------------------------------------ making one ----------- */

static cento_status allocate(decoder *model, float **memory, uint32_t rows, uint64_t width,
                             cento_error *error) {
    const backend_ops *ops = model->device->ops;
    float nothing;
    *memory = ops->alloc(model->device, (size_t)(rows * width));
    if (*memory != NULL)
        return CENTO_OK;
    TRY(ops->read(model->device, &nothing, 0, &nothing, error)); /* a device says what it has */
    return error_memory(error, (size_t)(rows * width * sizeof **memory));
}

static cento_status allocate_activations(decoder *model, cento_error *error) {
    const model_config *config = &model->config;
    uint32_t rows = model->tokens_max;
    uint64_t q_width = (uint64_t)config->heads * config->head_dim;
    uint64_t kv_width = (uint64_t)config->kv_heads * config->head_dim;
    TRY(allocate(model, &model->residual, rows, config->hidden_size, error));
    TRY(allocate(model, &model->normed, rows, config->hidden_size, error));
    TRY(allocate(model, &model->qkv, rows, q_width + 2 * kv_width, error));
    TRY(allocate(model, &model->attention, rows, q_width, error));
    TRY(allocate(model, &model->gate_up, rows, 2ull * config->intermediate_size, error));
    TRY(allocate(model, &model->inner, rows, config->intermediate_size, error));

    uint64_t logit_bytes = config->vocab_size * sizeof(float);
    uint64_t fitting = LOGIT_BUFFER_BYTES / logit_bytes;
    model->logit_rows_max = fitting < 1 ? 1 : fitting > rows ? rows : (uint32_t)fitting;
    return allocate(model, &model->logits, model->logit_rows_max, config->vocab_size, error);
}

/* All but the weights. */
static cento_status decoder_create(const model_config *config, backend *device, uint32_t tokens_max,
                                   decoder **result, cento_error *error) {
    if (tokens_max == 0 || tokens_max > 1u << 20)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "tokens of the largest batch are %u, expected 1 to %u", tokens_max, 1u << 20);
    decoder *model = mem_zalloc(1, sizeof *model);
    if (model == NULL)
        return error_memory(error, sizeof *model);
    model->config = *config;
    model->device = device;
    model->tokens_max = tokens_max;
    model->shape = (attention_shape){
        .heads = config->heads,
        .kv_heads = config->kv_heads,
        .head_dim = config->head_dim,
        .scale = 1.0f / sqrtf((float)config->head_dim),
        .norm_epsilon = config->norm_epsilon,
    };
    cento_status status = CENTO_OK;
    model->inv_freq = mem_alloc(config->head_dim / 2, sizeof *model->inv_freq);
    if (model->inv_freq == NULL)
        status = error_memory(error, config->head_dim / 2 * sizeof *model->inv_freq);
    if (status == CENTO_OK) {
        model_config_rope(config, model->inv_freq, &model->rope.attention_factor);
        model->rope.inv_freq = model->inv_freq;
        status = allocate_activations(model, error);
    }
    if (status == CENTO_OK)
        *result = model;
    else
        decoder_free(model);
    return status;
}

static cento_status decoder_fill(const safetensors *tensors, const model_config *config, backend *device,
                                 uint32_t tokens_max, cento_progress_fn on_progress, void *user,
                                 decoder **result, cento_error *error) {
    decoder *model = NULL;
    TRY(decoder_create(config, device, tokens_max, &model, error));
    cento_status status = weights_load(tensors, config, device, on_progress, user, &model->held, error);
    if (status == CENTO_OK)
        *result = model;
    else
        decoder_free(model);
    return status;
}

cento_status decoder_load(const char *folder, const model_config *config, backend *device,
                          uint32_t tokens_max, cento_progress_fn on_progress, void *user, decoder **result,
                          cento_error *error) {
    safetensors *tensors = NULL;
    TRY(safetensors_open(folder, &tensors, error));
    cento_status status = decoder_fill(tensors, config, device, tokens_max, on_progress, user, result, error);
    safetensors_close(tensors);
    return status;
}

cento_status decoder_random(const model_config *config, backend *device, uint32_t tokens_max,
                            decoder **result, cento_error *error) {
    return decoder_fill(NULL, config, device, tokens_max, NULL, NULL, result, error);
}

cento_status decoder_reserve_logits(decoder *model, uint32_t rows, cento_error *error) {
    if (rows <= model->logit_rows_max)
        return CENTO_OK;
    float *logits = NULL;
    TRY(allocate(model, &logits, rows, model->config.vocab_size, error));
    model->device->ops->release(model->device, model->logits);
    model->logits = logits;
    model->logit_rows_max = rows;
    return CENTO_OK;
}

float *decoder_logits(const decoder *model) {
    return model->logits;
}

void decoder_free(decoder *model) {
    if (model == NULL)
        return;
    weights_free(&model->held, model->device);
    float *activations[] = {model->residual, model->normed, model->qkv,   model->attention,
                            model->gate_up,  model->inner,  model->logits};
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        if (activations[i] != NULL)
            model->device->ops->release(model->device, activations[i]);
    }
    mem_free(model->inv_freq);
    mem_free(model);
}

const model_config *decoder_config(const decoder *model) {
    return &model->config;
}

const uint8_t *decoder_fingerprint(const decoder *model) {
    return model->held.fingerprint;
}

kv_pool_shape decoder_kv_pool_shape(const decoder *model, uint32_t pages, uint32_t page_tokens,
                                    cento_dtype dtype) {
    return (kv_pool_shape){
        .layers = model->config.layers,
        .kv_heads = model->config.kv_heads,
        .head_dim = model->config.head_dim,
        .pages = pages,
        .page_tokens = page_tokens,
        .dtype = dtype,
    };
}

cento_status decoder_kv_pool_create(decoder *model, uint32_t pages, uint32_t page_tokens, cento_dtype dtype,
                                    backend_kv_pool **pool, cento_error *error) {
    const kv_pool_shape shape = decoder_kv_pool_shape(model, pages, page_tokens, dtype);
    return model->device->ops->kv_pool_create(model->device, &shape, pool, error);
}

attention_shape decoder_attention_shape(const decoder *model) {
    return model->shape;
}

/* ------------------------------------------------------------------ forward -------------- */

static cento_status check_plan(const decoder_batch *batch, const cascade_plan *plan, cento_error *error) {
    if (plan == NULL || plan->row_count != batch->token_count)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the plan is for %u rows, the batch has %u",
                         plan == NULL ? 0 : plan->row_count, batch->token_count);
    return CENTO_OK;
}

static cento_status check_batch(const decoder *model, const decoder_batch *batch, cento_error *error) {
    if (batch->token_count == 0 || batch->token_count > model->tokens_max)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the batch has %u tokens, expected 1 to %u",
                         batch->token_count, model->tokens_max);
    for (uint32_t i = 0; i < batch->token_count; i++) {
        if (batch->tokens[i] < 0 || (uint32_t)batch->tokens[i] >= model->config.vocab_size)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "token %u of the batch has the id %d, expected 0 to %u", i,
                             (int)batch->tokens[i], model->config.vocab_size - 1);
        if (batch->positions[i] >= model->config.context_tokens_max)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "token %u of the batch has the position %u, the model's context is %u tokens", i,
                             batch->positions[i], model->config.context_tokens_max);
    }
    if (batch->logit_row_count > batch->token_count)
        return error_set(error, CENTO_INVALID_ARGUMENT, "logits of %u rows are wanted, the batch has %u",
                         batch->logit_row_count, batch->token_count);
    for (uint32_t i = 0; i < batch->logit_row_count; i++) {
        if (batch->logit_rows[i] >= batch->token_count)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "logits of row %u are wanted, the batch has %u rows", batch->logit_rows[i],
                             batch->token_count);
    }
    TRY(check_plan(batch, batch->plan, error));
    return batch->window_plan == NULL ? CENTO_OK : check_plan(batch, batch->window_plan, error);
}

/* rows: the batch's, or what the backend wants instead. */
static cento_status forward_layer(decoder *model, const decoder_batch *batch, uint32_t rows, uint32_t index,
                                  backend_kv_pool *pool, cento_error *error) {
    const model_config *config = &model->config;
    const weights_layer *layer = &model->held.layers[index];
    backend *device = model->device;
    const backend_ops *ops = device->ops;
    uint32_t hidden = config->hidden_size;
    attention_shape shape = model->shape;
    shape.window = index >= config->window_layer_begin ? config->window : 0;
    bool windowed = shape.window != 0 && batch->window_plan != NULL;

    ops->rmsnorm(device, model->residual, rows, hidden, layer->attention_norm, config->norm_epsilon,
                 model->normed);
    TRY(ops->matmul(device, layer->qkv, model->normed, rows, layer->qkv_bias, false, model->qkv, error));
    TRY(ops->write_kv(device, &shape, &model->rope, model->qkv, rows, batch->positions, batch->kv_slots,
                      layer->q_norm, layer->k_norm, pool, index, error));
    TRY(ops->attention(device, &shape, &model->rope, model->qkv, rows, batch->positions,
                       windowed ? batch->window_plan : batch->plan, pool, index, model->attention, error));
    TRY(ops->matmul(device, layer->output, model->attention, rows, layer->output_bias, true, model->residual,
                    error));

    ops->rmsnorm(device, model->residual, rows, hidden, layer->mlp_norm, config->norm_epsilon, model->normed);
    if (ops->matmul_silu != NULL) {
        TRY(ops->matmul_silu(device, layer->gate_up, model->normed, rows, layer->gate_up_bias, model->gate_up,
                             model->inner, error));
    } else {
        TRY(ops->matmul(device, layer->gate_up, model->normed, rows, layer->gate_up_bias, false,
                        model->gate_up, error));
        ops->silu_mul(device, model->gate_up, rows, config->intermediate_size, model->inner);
    }
    return ops->matmul(device, layer->down, model->inner, rows, layer->down_bias, true, model->residual,
                       error);
}

static cento_status forward_layers(decoder *model, const decoder_batch *batch, uint32_t rows,
                                   backend_kv_pool *pool, cento_error *error) {
    TRY(model->device->ops->embed(model->device, model->held.embedding, batch->tokens, rows, model->residual,
                                  error));
    for (uint32_t i = 0; i < model->config.layers; i++)
        TRY(forward_layer(model, batch, rows, i, pool, error));
    return CENTO_OK;
}

/* From tokens to the residual stream behind the last layer. */
static cento_status forward_pass(decoder *model, const decoder_batch *batch, backend_kv_pool *pool,
                                 cento_error *error) {
    backend *device = model->device;
    const backend_batch whole = {
        .model = model,
        .rows = batch->token_count,
        .rows_max = model->tokens_max,
        .ids = batch->tokens,
        .positions = batch->positions,
        .kv_slots = batch->kv_slots,
        .plan = batch->plan,
        .window_plan = batch->window_plan,
        .pool = pool,
    };
    if (device->ops->batch_begin == NULL)
        return forward_layers(model, batch, batch->token_count, pool, error);
    for (;;) {
        uint32_t rows;
        bool done, again;
        TRY(device->ops->batch_begin(device, &whole, &rows, &done, error));
        cento_status status = done ? CENTO_OK : forward_layers(model, batch, rows, pool, error);
        status = device->ops->batch_end(device, status, &again, error);
        if (!again)
            return status;
    }
}

/* Uses up the residual stream. */
static cento_status forward_logits(decoder *model, const decoder_batch *batch, float *logits,
                                   cento_error *error) {
    backend *device = model->device;
    const backend_ops *ops = device->ops;
    uint32_t hidden = model->config.hidden_size, count = batch->logit_row_count;
    size_t vocab = model->config.vocab_size;
    ops->gather(device, model->residual, hidden, batch->logit_rows, count, model->normed);
    ops->rmsnorm(device, model->normed, count, hidden, model->held.norm, model->config.norm_epsilon,
                 model->residual);
    for (uint32_t done = 0; done < count;) {
        uint32_t rows = count - done < model->logit_rows_max ? count - done : model->logit_rows_max;
        TRY(ops->matmul(device, model->held.head, model->residual + (size_t)done * hidden, rows, NULL, false,
                        model->logits, error));
        if (logits != NULL)
            TRY(ops->read(device, model->logits, rows * vocab, logits + done * vocab, error));
        done += rows;
    }
    return CENTO_OK;
}

cento_status decoder_forward(decoder *model, const decoder_batch *batch, backend_kv_pool *pool, float *logits,
                             cento_error *error) {
    TRY(check_batch(model, batch, error));
    if (logits == NULL && batch->logit_row_count > model->logit_rows_max)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "logits of %u rows are to stay on the device, at most %u", batch->logit_row_count,
                         model->logit_rows_max);
    TRY(forward_pass(model, batch, pool, error));
    return batch->logit_row_count == 0 ? CENTO_OK : forward_logits(model, batch, logits, error);
}

/*
 * decoder: a model's weights on a backend and its forward pass. One pass for all architectures, driven by
 * model_config. It owns weights and activations, not the KV pool; it knows nothing of chunks or sequences: a
 * batch says for each token its position and KV slot, and a plan says which keys its rows attend to.
 * Engine thread only.
 */
#ifndef CENTO_MODEL_DECODER_H
#define CENTO_MODEL_DECODER_H

#include "base/sha256.h"
#include "model_config.h"

typedef struct decoder decoder;

/* Loads the safetensors of a folder: mapped, validated against config, packed tensor by tensor (each mapping
 * is dropped as soon as it is packed). tokens_max: rows of the largest batch. */
cento_status decoder_load(const char *folder, const model_config *config, backend *device,
                          uint32_t tokens_max, cento_progress_fn on_progress, void *user, decoder **result,
                          cento_error *error);
/* The same geometry with random weights, no file (bench model). */
cento_status decoder_random(const model_config *config, backend *device, uint32_t tokens_max,
                            decoder **result, cento_error *error);
void decoder_free(decoder *model);
/* Room on the device for the logits of so many rows of a batch, which then are made in one go and may be left
 * there. Before: for a few rows at a time, on their way to the host. */
cento_status decoder_reserve_logits(decoder *model, uint32_t rows, cento_error *error);

const model_config *decoder_config(const decoder *model);
/* SHA-256 over config and weights' names, shapes and bytes' digest; part of every kv id. */
const uint8_t *decoder_fingerprint(const decoder *model);

/* The shape of a pool for `pages` pages of this model's KV. */
kv_pool_shape decoder_kv_pool_shape(const decoder *model, uint32_t pages, uint32_t page_tokens,
                                    cento_dtype dtype);
cento_status decoder_kv_pool_create(decoder *model, uint32_t pages, uint32_t page_tokens, cento_dtype dtype,
                                    backend_kv_pool **pool, cento_error *error);
/* What attention has for a shape in layers without a window: for plans and their costs. */
attention_shape decoder_attention_shape(const decoder *model);

typedef struct decoder_batch {
    uint32_t token_count;      /* 1 … tokens_max */
    const int32_t *tokens;     /* (token_count) */
    const uint32_t *positions; /* (token_count): for masks and rotation; keys are stored rotated by these */
    const uint32_t *kv_slots;  /* (token_count) page · page_tokens + index */
    const cascade_plan *plan;  /* must include the batch's own new tokens where rows are to see them */
    const cascade_plan *window_plan; /* of layers with a sliding window; NULL: `plan` serves them, too */
    const uint32_t *logit_rows;      /* rows whose logits are wanted */
    uint32_t logit_row_count;        /* may be 0 */
} decoder_batch;

/* logits: host memory (logit_row_count, vocab_size); NULL: they stay on the device, for which there must be
 * room (decoder_reserve_logits). On failure the KV slots of the batch are undefined, all others untouched. */
cento_status decoder_forward(decoder *model, const decoder_batch *batch, backend_kv_pool *pool, float *logits,
                             cento_error *error);
/* Device memory: the logits that the last decoder_forward has left there. */
float *decoder_logits(const decoder *model);

#endif

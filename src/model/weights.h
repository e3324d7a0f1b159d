/*
 * weights: a model's matrices and vectors on a backend. Owns which tensors an architecture has, what they
 * are called and what shape config.json implies for them; packs them one at a time from safetensors (or
 * fills them with random values) and computes the model's fingerprint on the way, while a tensor's pages
 * are in memory anyway. Engine thread only.
 *
 * Packing order is embeddings, output head, then layer by layer: the two large matrices come while nothing
 * else is held, so that a tensor's mapped pages never add much to the peak.
 */
#ifndef CENTO_MODEL_WEIGHTS_H
#define CENTO_MODEL_WEIGHTS_H

#include "base/sha256.h"
#include "model_config.h"
#include "safetensors.h"

/* One transformer block. Vectors are f32; those that the architecture does not have are NULL. */
typedef struct weights_layer {
    float *attention_norm; /* (hidden_size) */
    float *q_norm;         /* (head_dim) */
    float *k_norm;         /* (head_dim) */
    backend_matrix *qkv;   /* ((heads + 2 kv_heads) · head_dim, hidden_size) */
    float *qkv_bias;
    backend_matrix *output; /* (hidden_size, heads · head_dim) */
    float *output_bias;
    float *mlp_norm;         /* (hidden_size) */
    backend_matrix *gate_up; /* (2 intermediate_size, hidden_size) */
    float *gate_up_bias;
    backend_matrix *down; /* (hidden_size, intermediate_size) */
    float *down_bias;
} weights_layer;

typedef struct weights {
    backend_matrix *embedding; /* (vocab_size, hidden_size) */
    backend_matrix *head;      /* (vocab_size, hidden_size); the same matrix as embedding if tied */
    float *norm;               /* (hidden_size) */
    weights_layer *layers;     /* (layer_count), owned */
    uint32_t layer_count;
    uint8_t fingerprint[SHA256_BYTES];
} weights;

/* Packs every tensor; tensors NULL: random values. On failure nothing is left to free. */
cento_status weights_load(const safetensors *tensors, const model_config *config, backend *device,
                          cento_progress_fn on_progress, void *user, weights *result, cento_error *error);
void weights_free(weights *held, backend *device);

/* Checks that every tensor of the architecture is there with the shape that config implies and a dtype that
 * can be used. *bytes: what they occupy in the files; *dtype: that of the matrices ("BF16"), "mixed" if they
 * differ. */
cento_status weights_check(const safetensors *tensors, const model_config *config, uint64_t *bytes,
                           const char **dtype, cento_error *error);

#endif

/*
 * model_config: what config.json (and generation_config.json) say of a decoder-only transformer, validated.
 * One description serves all architectures: Qwen3, Qwen2/2.5, Llama 2/3.x, Mistral.
 */
#ifndef CENTO_MODEL_MODEL_CONFIG_H
#define CENTO_MODEL_MODEL_CONFIG_H

#include "backend/backend.h"

typedef enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN, ROPE_DYNAMIC } rope_kind;

#define MODEL_EOS_MAX 16

typedef struct model_config {
    char architecture[64]; /* "Qwen3ForCausalLM" */
    uint32_t vocab_size, hidden_size, intermediate_size, layers;
    uint32_t heads, kv_heads, head_dim;
    uint32_t context_tokens_max; /* max_position_embeddings */
    float norm_epsilon;
    bool qk_norm;        /* Qwen3 */
    bool attention_bias; /* q, k, v have biases (Qwen2: always; Llama: attention_bias) */
    bool output_bias;    /* o_proj too (Llama's attention_bias) */
    bool mlp_bias;
    bool tied_embeddings;
    uint32_t window;             /* sliding window in tokens, 0: none */
    uint32_t window_layer_begin; /* layers >= this one use the window (Qwen2 max_window_layers); 0: all */

    rope_kind rope;
    double rope_theta;
    double rope_factor;
    double rope_low_freq_factor, rope_high_freq_factor; /* llama3 */
    uint32_t rope_original_context;                     /* llama3, yarn */
    double rope_beta_fast, rope_beta_slow;              /* yarn */
    double rope_attention_factor;                       /* yarn; 0: computed from the factor */
    double rope_mscale, rope_mscale_all_dim;            /* yarn (DeepSeek); 0: absent */
    bool rope_truncate;                                 /* yarn: whole dimensions as the ramp's ends */

    int32_t eos_tokens[MODEL_EOS_MAX]; /* generation_config.json, else config.json */
    uint32_t eos_count;
    int32_t bos_token;       /* -1: none */
    cento_sampling sampling; /* generation_config.json; greedy where it says nothing */
} model_config;

/* Reads folder/config.json and, if present, folder/generation_config.json. */
cento_status model_config_load(const char *folder, model_config *config, cento_error *error);
cento_status model_config_parse(const char *where, const char *text, size_t bytes, model_config *config,
                                cento_error *error);
/* generation_config.json's part of it: eos_tokens and sampling. */
cento_status model_config_parse_generation(const char *where, const char *text, size_t bytes,
                                           model_config *config, cento_error *error);
/* "llama-3.2-1b", "qwen3-0.6b", "tiny": a published geometry, for benches. NOT_FOUND lists the names. */
cento_status model_config_geometry(const char *name, model_config *config, cento_error *error);

/* inv_freq (head_dim / 2) in f64 and the factor on cos and sin; follows transformers' modeling_rope_utils. */
void model_config_rope(const model_config *config, double *inv_freq, double *attention_factor);

uint64_t model_config_parameters(const model_config *config);
uint64_t model_config_kv_bytes_per_token(const model_config *config, cento_dtype dtype);

#endif

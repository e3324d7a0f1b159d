/*
 * A small model with random weights, written as a Hugging Face folder, and the same forward pass as a scalar
 * f64 program that attends by an arbitrary rule: what the engine is tested against. It shares nothing with
 * src/ but the file formats.
 *
 * The tokenizer is bytes: token b is byte b; 256 <|end|>, 257 <|im_start|>, 258 <|im_end|>. Included by one
 * test program each, hence static inline.
 */
#ifndef CENTO_TESTS_ENGINE_TINY_MODEL_H
#define CENTO_TESTS_ENGINE_TINY_MODEL_H

#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifndef TINY_HEAD_SIZE /* a program may want heads that a GPU's fast kernels take */
#define TINY_HEAD_SIZE 16
#endif

enum {
    TINY_VOCAB = 259,
    TINY_HIDDEN = 32,
    TINY_INNER = 48,
    TINY_LAYERS = 3,
    TINY_HEADS = 4,
    TINY_KV_HEADS = 2,
    TINY_HEAD_DIM = TINY_HEAD_SIZE,
    TINY_CONTEXT = 512,
    TINY_END = 256,
    TINY_IM_START = 257,
    TINY_IM_END = 258,
};

#define TINY_CHAT_TEMPLATE                                                                                   \
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + "            \
    "'<|im_end|>' + '\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"     \
    "{%- endif %}"

typedef struct tiny_layer {
    float *input_norm, *q, *k, *v, *o, *q_norm, *k_norm, *post_norm, *gate, *up, *down;
} tiny_layer;

typedef struct tiny_model {
    char folder[256];
    uint32_t window; /* 0: none */
    float *embedding, *norm, *head;
    tiny_layer layers[TINY_LAYERS];
} tiny_model;

/* ------------------------------------------------------------- the folder ---- */

static inline float tiny_random(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(*state >> 40) / (double)(1 << 24) - 0.5;
    }
    return (float)(sum * 1.7320508);
}

typedef struct tiny_writer {
    strbuf header, data;
    uint64_t random;
} tiny_writer;

/* A tensor of random values around `mean`, as it will be in the file; the test keeps it. */
static inline float *tiny_tensor(tiny_writer *writer, const char *name, uint32_t rows, uint32_t columns,
                                 double mean, double spread) {
    size_t count = (size_t)(rows == 0 ? 1 : rows) * columns;
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(mean + spread * (double)tiny_random(&writer->random));
    strbuf_printf(&writer->header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[",
                  writer->header.bytes ? "," : "{", name);
    if (rows > 0)
        strbuf_printf(&writer->header, "%u,", rows);
    strbuf_printf(&writer->header, "%u],\"data_offsets\":[%zu,%zu]}", columns, writer->data.bytes,
                  writer->data.bytes + count * sizeof *values);
    strbuf_append(&writer->data, values, count * sizeof *values);
    return values;
}

static inline void tiny_write_file(const tiny_model *model, const char *name, const void *data,
                                   size_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", model->folder, name);
    write_file(path, data, bytes);
}

static inline void tiny_write_weights(tiny_model *model, uint64_t seed) {
    tiny_writer writer = {.random = seed};
    double spread = 1.6 / sqrt(TINY_HIDDEN); /* sharp enough attention that every key matters */
    char name[128];
    model->embedding = tiny_tensor(&writer, "model.embed_tokens.weight", TINY_VOCAB, TINY_HIDDEN, 0, 1);
    for (int i = 0; i < TINY_LAYERS; i++) {
        tiny_layer *layer = &model->layers[i];
#define TENSOR(field, path, rows, columns, mean, deviation)                                                  \
    snprintf(name, sizeof name, "model.layers.%d." path ".weight", i);                                       \
    layer->field = tiny_tensor(&writer, name, rows, columns, mean, deviation)
        TENSOR(input_norm, "input_layernorm", 0, TINY_HIDDEN, 1, 0.1);
        TENSOR(q, "self_attn.q_proj", TINY_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, 0, spread);
        TENSOR(k, "self_attn.k_proj", TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, 0, spread);
        TENSOR(v, "self_attn.v_proj", TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN, 0, spread);
        TENSOR(o, "self_attn.o_proj", TINY_HIDDEN, TINY_HEADS * TINY_HEAD_DIM, 0, spread);
        if (model->window == 0) { /* Qwen3; Mistral has no norm of heads */
            TENSOR(q_norm, "self_attn.q_norm", 0, TINY_HEAD_DIM, 1, 0.2);
            TENSOR(k_norm, "self_attn.k_norm", 0, TINY_HEAD_DIM, 1, 0.2);
        }
        TENSOR(post_norm, "post_attention_layernorm", 0, TINY_HIDDEN, 1, 0.1);
        TENSOR(gate, "mlp.gate_proj", TINY_INNER, TINY_HIDDEN, 0, spread);
        TENSOR(up, "mlp.up_proj", TINY_INNER, TINY_HIDDEN, 0, spread);
        TENSOR(down, "mlp.down_proj", TINY_HIDDEN, TINY_INNER, 0, spread);
#undef TENSOR
    }
    model->norm = tiny_tensor(&writer, "model.norm.weight", 0, TINY_HIDDEN, 1, 0.1);
    model->head = tiny_tensor(&writer, "lm_head.weight", TINY_VOCAB, TINY_HIDDEN, 0, spread);
    strbuf_putc(&writer.header, '}');
    while (writer.header.bytes % 8 != 0)
        strbuf_putc(&writer.header, ' ');
    strbuf file = {0};
    uint64_t header_bytes = writer.header.bytes; /* the machine is little-endian, as the format */
    strbuf_append(&file, &header_bytes, 8);
    strbuf_append(&file, writer.header.data, writer.header.bytes);
    strbuf_append(&file, writer.data.data, writer.data.bytes);
    tiny_write_file(model, "model.safetensors", file.data, file.bytes);
    strbuf_free(&file);
    strbuf_free(&writer.header);
    strbuf_free(&writer.data);
}

static inline void tiny_write_config(const tiny_model *model) {
    strbuf config = {0};
    strbuf_printf(&config,
                  "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"vocab_size\":%d,\"hidden_size\":%d,"
                  "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
                  "\"num_key_value_heads\":%d,\"head_dim\":%d,\"max_position_embeddings\":%d,"
                  "\"rms_norm_eps\":1e-06,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
                  "\"attention_bias\":false,\"tie_word_embeddings\":false,\"eos_token_id\":%d,",
                  model->window == 0 ? "Qwen3ForCausalLM" : "MistralForCausalLM",
                  model->window == 0 ? "qwen3" : "mistral", TINY_VOCAB, TINY_HIDDEN, TINY_INNER, TINY_LAYERS,
                  TINY_HEADS, TINY_KV_HEADS, TINY_HEAD_DIM, TINY_CONTEXT, TINY_END);
    if (model->window > 0)
        strbuf_printf(&config, "\"sliding_window\":%u}", model->window);
    else
        strbuf_puts(&config, "\"use_sliding_window\":false,\"sliding_window\":null}");
    tiny_write_file(model, "config.json", config.data, config.bytes);
    strbuf_free(&config);
}

/* GPT-2's spelling of bytes: printable ones stand for themselves, the rest follow from U+0100 on. */
static inline void tiny_write_tokenizer(const tiny_model *model) {
    static const char *const special[] = {"<|end|>", "<|im_start|>", "<|im_end|>"};
    strbuf json = {0};
    strbuf_puts(&json, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int i = 0; i < 3; i++)
        strbuf_printf(&json,
                      "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                      "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                      i ? "," : "", TINY_END + i, special[i]);
    strbuf_puts(&json,
                "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false},"
                "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
                "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
                "\"ignore_merges\":false,\"vocab\":{");
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        strbuf_puts(&json, byte ? ",\"" : "\"");
        if (byte == '"' || byte == '\\')
            strbuf_putc(&json, '\\');
        strbuf_put_codepoint(&json, printable ? byte : next++);
        strbuf_printf(&json, "\":%u", byte);
    }
    strbuf_puts(&json, "},\"merges\":[]}}");
    tiny_write_file(model, "tokenizer.json", json.data, json.bytes);
    strbuf_free(&json);
    static const char config[] = "{\"eos_token\":\"<|end|>\",\"bos_token\":null}";
    tiny_write_file(model, "tokenizer_config.json", config, strlen(config));
}

static inline void tiny_write_template(const tiny_model *model, const char *source) {
    tiny_write_file(model, "chat_template.jinja", source, strlen(source));
}

/* window 0: like Qwen3, full attention; else like Mistral. */
static inline void tiny_create(tiny_model *model, const char *name, uint32_t window, uint64_t seed) {
    *model = (tiny_model){.window = window};
    snprintf(model->folder, sizeof model->folder, "%s/%s", temporary_folder(), name);
    mkdir(model->folder, 0700);
    tiny_write_config(model);
    tiny_write_tokenizer(model);
    tiny_write_template(model, TINY_CHAT_TEMPLATE);
    tiny_write_weights(model, seed);
}

static inline void tiny_free(tiny_model *model) {
    for (int i = 0; i < TINY_LAYERS; i++) {
        tiny_layer *layer = &model->layers[i];
        float *const tensors[] = {layer->input_norm, layer->q,      layer->k,      layer->v,
                                  layer->o,          layer->q_norm, layer->k_norm, layer->post_norm,
                                  layer->gate,       layer->up,     layer->down};
        for (size_t j = 0; j < sizeof tensors / sizeof *tensors; j++)
            free(tensors[j]);
    }
    free(model->embedding);
    free(model->norm);
    free(model->head);
}

/* ------------------------------------------------------------- the reference ---- */

/*
 * A token as the reference sees it. Tokens with chunk < 0 are computed in place: they see, by position, the
 * tokens in place before them and what `shown` chunks' tokens stand before them. A token of a chunk computed
 * apart sees the tokens of its chunk up to itself, and in place ones before position `anchor`; at distances
 * as if the chunk followed the anchor.
 */
typedef struct reference_token {
    int32_t token;
    int32_t position; /* where it stands in the prompt */
    int32_t chunk;    /* -1: in place */
    int32_t index;    /* in its chunk */
    int32_t shown;    /* in a chunk: 1: tokens in place see it */
} reference_token;

#define REFERENCE_TOKENS_MAX TINY_CONTEXT

static inline bool reference_sees(const reference_token *row, const reference_token *key, int32_t anchor,
                                  uint32_t window, int32_t *distance) {
    bool visible;
    if (row->chunk < 0) {
        visible = key->position <= row->position && (key->chunk < 0 || key->shown);
        *distance = row->position - key->position;
    } else if (key->chunk < 0) {
        visible = key->position < anchor;
        *distance = anchor + row->index - key->position;
    } else {
        visible = key->chunk == row->chunk && key->index <= row->index;
        *distance = row->index - key->index;
    }
    return visible && (window == 0 || *distance < (int32_t)window);
}

static inline void reference_norm(const double *x, const float *weight, int width, double *y) {
    double sum = 0;
    for (int i = 0; i < width; i++)
        sum += x[i] * x[i];
    double scale = 1 / sqrt(sum / width + 1e-6);
    for (int i = 0; i < width; i++)
        y[i] = x[i] * scale * (weight == NULL ? 1 : (double)weight[i]);
}

static inline void reference_product(const float *matrix, const double *x, int rows, int columns, double *y) {
    for (int r = 0; r < rows; r++) {
        y[r] = 0;
        for (int c = 0; c < columns; c++)
            y[r] += (double)matrix[r * columns + c] * x[c];
    }
}

/* cos and sin of distance · 10000^(-2i/d), filled as needed */
static inline const double *reference_angle(int32_t distance, int i) {
    static double table[2 * REFERENCE_TOKENS_MAX + 1][TINY_HEAD_DIM / 2][2];
    double *pair = table[distance + REFERENCE_TOKENS_MAX][i];
    if (pair[0] == 0 && pair[1] == 0) {
        double angle = distance * pow(10000.0, -2.0 * i / TINY_HEAD_DIM);
        pair[0] = cos(angle);
        pair[1] = sin(angle);
    }
    return pair;
}

/* q·(k rotated back by `distance`), pairs (i, i + d/2) */
static inline double reference_score(const double *q, const double *k, int32_t distance) {
    double sum = 0;
    for (int i = 0; i < TINY_HEAD_DIM / 2; i++) {
        const double *angle = reference_angle(-distance, i);
        double a = k[i], b = k[i + TINY_HEAD_DIM / 2];
        sum +=
            q[i] * (a * angle[0] - b * angle[1]) + q[i + TINY_HEAD_DIM / 2] * (b * angle[0] + a * angle[1]);
    }
    return sum / sqrt(TINY_HEAD_DIM);
}

static inline void reference_attention(const tiny_model *model, const reference_token *tokens, int count,
                                       int32_t anchor, int row, int head, const double *q, const double *k,
                                       const double *v, double *out) {
    enum { Q = TINY_HEADS * TINY_HEAD_DIM, KV = TINY_KV_HEADS * TINY_HEAD_DIM };
    int kv_head = head / (TINY_HEADS / TINY_KV_HEADS);
    static double scores[REFERENCE_TOKENS_MAX];
    double largest = -INFINITY, sum = 0;
    for (int key = 0; key < count; key++) {
        int32_t distance;
        scores[key] = -INFINITY;
        if (reference_sees(&tokens[row], &tokens[key], anchor, model->window, &distance))
            scores[key] = reference_score(q + row * Q + head * TINY_HEAD_DIM,
                                          k + key * KV + kv_head * TINY_HEAD_DIM, distance);
        largest = fmax(largest, scores[key]);
    }
    for (int i = 0; i < TINY_HEAD_DIM; i++)
        out[i] = 0;
    for (int key = 0; key < count; key++) {
        double weight = exp(scores[key] - largest);
        sum += weight;
        for (int i = 0; i < TINY_HEAD_DIM; i++)
            out[i] += weight * v[key * KV + kv_head * TINY_HEAD_DIM + i];
    }
    for (int i = 0; i < TINY_HEAD_DIM; i++)
        out[i] /= sum;
}

static inline void reference_layer(const tiny_model *model, const tiny_layer *layer,
                                   const reference_token *tokens, int count, int32_t anchor, double *x) {
    enum { Q = TINY_HEADS * TINY_HEAD_DIM, KV = TINY_KV_HEADS * TINY_HEAD_DIM };
    double *q = malloc(sizeof(double) * (size_t)count * Q), *k = malloc(sizeof(double) * (size_t)count * KV),
           *v = malloc(sizeof(double) * (size_t)count * KV);
    double normed[TINY_HIDDEN], attended[Q], delta[TINY_HIDDEN], gate[TINY_INNER], up[TINY_INNER];
    for (int row = 0; row < count; row++) {
        reference_norm(x + row * TINY_HIDDEN, layer->input_norm, TINY_HIDDEN, normed);
        reference_product(layer->q, normed, Q, TINY_HIDDEN, q + row * Q);
        reference_product(layer->k, normed, KV, TINY_HIDDEN, k + row * KV);
        reference_product(layer->v, normed, KV, TINY_HIDDEN, v + row * KV);
        for (int head = 0; head < TINY_HEADS && layer->q_norm != NULL; head++) {
            double *part = q + row * Q + head * TINY_HEAD_DIM;
            reference_norm(part, layer->q_norm, TINY_HEAD_DIM, part);
        }
        for (int head = 0; head < TINY_KV_HEADS && layer->k_norm != NULL; head++) {
            double *part = k + row * KV + head * TINY_HEAD_DIM;
            reference_norm(part, layer->k_norm, TINY_HEAD_DIM, part);
        }
    }
    for (int row = 0; row < count; row++) {
        double *residual = x + row * TINY_HIDDEN;
        for (int head = 0; head < TINY_HEADS; head++)
            reference_attention(model, tokens, count, anchor, row, head, q, k, v,
                                attended + head * TINY_HEAD_DIM);
        reference_product(layer->o, attended, TINY_HIDDEN, Q, delta);
        for (int i = 0; i < TINY_HIDDEN; i++)
            residual[i] += delta[i];
        reference_norm(residual, layer->post_norm, TINY_HIDDEN, normed);
        reference_product(layer->gate, normed, TINY_INNER, TINY_HIDDEN, gate);
        reference_product(layer->up, normed, TINY_INNER, TINY_HIDDEN, up);
        for (int i = 0; i < TINY_INNER; i++)
            gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
        reference_product(layer->down, gate, TINY_HIDDEN, TINY_INNER, delta);
        for (int i = 0; i < TINY_HIDDEN; i++)
            residual[i] += delta[i];
    }
    free(q);
    free(k);
    free(v);
}

/* Logits (TINY_VOCAB) of the token at index `row`. */
static inline void reference_logits(const tiny_model *model, const reference_token *tokens, int count,
                                    int32_t anchor, int row, double *logits) {
    assert_true(count <= REFERENCE_TOKENS_MAX);
    double *x = malloc(sizeof(double) * (size_t)count * TINY_HIDDEN);
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < TINY_HIDDEN; j++)
            x[i * TINY_HIDDEN + j] = (double)model->embedding[tokens[i].token * TINY_HIDDEN + j];
    }
    for (int i = 0; i < TINY_LAYERS; i++)
        reference_layer(model, &model->layers[i], tokens, count, anchor, x);
    double normed[TINY_HIDDEN];
    reference_norm(x + row * TINY_HIDDEN, model->norm, TINY_HIDDEN, normed);
    reference_product(model->head, normed, TINY_VOCAB, TINY_HIDDEN, logits);
    free(x);
}

/* `model`, and the set-up and tear-down of a group of tests that use it: create_model, free_model. */
#define TINY_MODEL_FIXTURE(name, seed)                                                                       \
    static tiny_model model;                                                                                 \
    static int create_model(void **state) {                                                                  \
        (void)state;                                                                                         \
        tiny_create(&model, name, 0, seed);                                                                  \
        return 0;                                                                                            \
    }                                                                                                        \
    static int free_model(void **state) {                                                                    \
        (void)state;                                                                                         \
        tiny_free(&model);                                                                                   \
        return 0;                                                                                            \
    }

#endif

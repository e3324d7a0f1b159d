/*
 * cento_model_describe(): what a model folder holds and what running it would take, from config.json and the
 * headers of the weight files alone. Callable from any thread; no weight is read, nothing is kept.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_config.h"
#include "model/safetensors.h"
#include "model/weights.h"

static const char *rope_name(rope_kind rope) {
    switch (rope) {
    case ROPE_DEFAULT:
        return "default";
    case ROPE_LINEAR:
        return "linear";
    case ROPE_LLAMA3:
        return "llama3";
    case ROPE_YARN:
        return "yarn";
    case ROPE_DYNAMIC:
        return "dynamic";
    }
    return "unknown";
}

/* Bytes that cento holds for the matrices and vectors in this compute dtype. Weights that are bf16 in the
 * file stay so for products in f32: the products are the same, in half the memory. */
static uint64_t held_bytes(const model_config *config, cento_dtype dtype, const char *file_dtype) {
    bool halves = dtype == CENTO_DTYPE_BF16 || strcmp(file_dtype, "BF16") == 0;
    return model_config_parameters(config) * (halves ? 2 : 4);
}

/* The same for weights, KV of `context_tokens` tokens and their sum. */
static json_t *memory_needed(const model_config *config, uint32_t context_tokens, cento_dtype dtype,
                             const char *file_dtype) {
    uint64_t weight_bytes = held_bytes(config, dtype, file_dtype);
    uint64_t kv_bytes = model_config_kv_bytes_per_token(config, dtype) * context_tokens;
    return json_pack("{s:I, s:I, s:I}", "weight_bytes", (json_int_t)weight_bytes, "kv_bytes",
                     (json_int_t)kv_bytes, "total_bytes", (json_int_t)(weight_bytes + kv_bytes));
}

static json_t *file_list(const safetensors *tensors) {
    json_t *files = json_array();
    for (uint32_t i = 0; i < safetensors_file_count(tensors); i++) {
        const char *path = safetensors_path(tensors, i);
        const char *slash = strrchr(path, '/');
        json_array_append_new(files, json_pack("{s:s, s:I}", "name", slash == NULL ? path : slash + 1,
                                               "bytes", (json_int_t)safetensors_file_bytes(tensors, i)));
    }
    return files;
}

static json_t *eos_list(const model_config *config) {
    json_t *ids = json_array();
    for (uint32_t i = 0; i < config->eos_count; i++)
        json_array_append_new(ids, json_integer(config->eos_tokens[i]));
    return ids;
}

static cento_status describe(const model_config *config, const safetensors *tensors, uint32_t context_tokens,
                             uint64_t weight_bytes, const char *dtype, char **text, cento_error *error) {
    json_t *root = json_object();
    struct {
        const char *key;
        json_t *value;
    } members[] = {
        {"architecture", json_string(config->architecture)},
        {"parameters", json_integer((json_int_t)model_config_parameters(config))},
        {"dtype", json_string(dtype)},
        {"layers", json_integer(config->layers)},
        {"hidden_size", json_integer(config->hidden_size)},
        {"intermediate_size", json_integer(config->intermediate_size)},
        {"heads", json_integer(config->heads)},
        {"kv_heads", json_integer(config->kv_heads)},
        {"head_dim", json_integer(config->head_dim)},
        {"vocab_size", json_integer(config->vocab_size)},
        {"tied_embeddings", json_boolean(config->tied_embeddings)},
        {"context_tokens_max", json_integer(config->context_tokens_max)},
        {"window", json_integer(config->window)},
        {"rope", json_string(rope_name(config->rope))},
        {"rope_theta", json_real(config->rope_theta)},
        {"eos_tokens", eos_list(config)},
        {"files", file_list(tensors)},
        {"tensors", json_integer((json_int_t)safetensors_count(tensors))},
        {"weight_bytes", json_integer((json_int_t)weight_bytes)},
        {"kv_bytes_per_token",
         json_integer((json_int_t)model_config_kv_bytes_per_token(config, CENTO_DTYPE_BF16))},
        {"context_tokens", json_integer(context_tokens)},
        {"memory_bf16", memory_needed(config, context_tokens, CENTO_DTYPE_BF16, dtype)},
        {"memory_f32", memory_needed(config, context_tokens, CENTO_DTYPE_F32, dtype)},
    };
    bool whole = root != NULL;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        whole = json_object_set_new(root, members[i].key, members[i].value) == 0 && whole;
    char *dumped = whole ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    /* jansson's allocator is not ours: the caller's cento_free needs our memory */
    *text = dumped == NULL ? NULL : mem_strdup(dumped);
    free(dumped);
    return *text == NULL ? error_memory(error, 4096) : CENTO_OK;
}

cento_status cento_model_describe(const char *model_path, uint32_t context_tokens, char **json,
                                  cento_error *error) {
    if (model_path == NULL || json == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "model_path and json must not be NULL");
    model_config config;
    safetensors *tensors = NULL;
    uint64_t weight_bytes;
    const char *dtype;
    TRY(model_config_load(model_path, &config, error));
    if (context_tokens > config.context_tokens_max)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%s: %u tokens of context are asked for, the model's limit is %u", model_path,
                         context_tokens, config.context_tokens_max);
    TRY(safetensors_open(model_path, &tensors, error));
    char *text = NULL;
    cento_status status = weights_check(tensors, &config, &weight_bytes, &dtype, error);
    if (status == CENTO_OK)
        status = describe(&config, tensors, context_tokens == 0 ? config.context_tokens_max : context_tokens,
                          weight_bytes, dtype, &text, error);
    safetensors_close(tensors);
    if (status == CENTO_OK)
        *json = text;
    return status;
}

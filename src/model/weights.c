/*
 * weights: see weights.h. The architecture's tensors are one list (describe_layer and the three global
 * ones); checking, packing and hashing all walk it, so that none of them can forget a tensor.
 */
#include "weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { PARTS_MAX = 3, NAME_BYTES = 96 };

/* One tensor of the file as the config describes it. columns 0: a vector of `rows`. */
typedef struct part {
    char name[NAME_BYTES];
    uint32_t rows, columns;
} part;

/* Tensors that become one matrix or one vector on the backend, stacked along their rows. */
typedef struct group {
    part parts[PARTS_MAX];
    size_t part_count;
    bool gather_rows;
    backend_matrix **matrix; /* exactly one of these is set: where the result goes */
    float **vector;
} group;

typedef struct loader {
    const safetensors *tensors; /* NULL: random */
    const model_config *config;
    backend *device; /* NULL: check only */
    cento_progress_fn on_progress;
    void *user;
    uint64_t bytes, bytes_total;
    const char *dtype; /* of the matrices so far */
    sha256 hash;
} loader;

/* ------------------------------------------------------------------ one group ------------ */

static const struct {
    const char *name;
    tensor_dtype dtype;
} usable_dtypes[] = {{"BF16", TENSOR_BF16}, {"F16", TENSOR_F16}, {"F32", TENSOR_F32}};

static cento_status find_tensor(const loader *load, const part *wanted, const safetensor **result,
                                tensor_dtype *dtype, cento_error *error) {
    const safetensor *tensor = safetensors_find(load->tensors, wanted->name);
    if (tensor == NULL) {
        const char *hint = strcmp(wanted->name, "lm_head.weight") == 0
                               ? " ('tie_word_embeddings' is false in config.json)"
                               : "";
        return error_set(
            error, CENTO_INVALID_MODEL, "%s%s: tensor '%s' is missing%s", safetensors_path(load->tensors, 0),
            safetensors_file_count(load->tensors) > 1 ? " and its sister files" : "", wanted->name, hint);
    }
    const char *path = safetensors_path(load->tensors, tensor->file);
    uint64_t shape[2] = {wanted->rows, wanted->columns};
    uint32_t rank = wanted->columns == 0 ? 1 : 2;
    if (tensor->rank != rank || memcmp(tensor->shape, shape, rank * sizeof *shape) != 0) {
        char found[SAFETENSORS_SHAPE_TEXT], expected[SAFETENSORS_SHAPE_TEXT];
        return error_set(error, CENTO_INVALID_MODEL, "%s: tensor '%s' is %s, config.json implies %s", path,
                         wanted->name, safetensors_shape_text(tensor->shape, tensor->rank, found),
                         safetensors_shape_text(shape, rank, expected));
    }
    for (size_t i = 0; i < sizeof usable_dtypes / sizeof usable_dtypes[0]; i++) {
        if (strcmp(usable_dtypes[i].name, tensor->dtype) == 0) {
            *dtype = usable_dtypes[i].dtype;
            *result = tensor;
            return CENTO_OK;
        }
    }
    return error_set(error, CENTO_UNSUPPORTED, "%s: tensor '%s' is %s, supported are BF16, F16 and F32", path,
                     wanted->name, tensor->dtype);
}

static void hash_tensor(sha256 *hash, const safetensor *tensor) {
    sha256_update_string(hash, tensor->name);
    sha256_update_string(hash, tensor->dtype);
    sha256_update_u64(hash, tensor->rank);
    for (uint32_t i = 0; i < tensor->rank; i++)
        sha256_update_u64(hash, tensor->shape[i]);
    sha256_update(hash, tensor->data, tensor->bytes);
}

static void note_dtype(loader *load, const char *dtype) {
    if (load->dtype == NULL)
        load->dtype = dtype;
    else if (strcmp(load->dtype, dtype) != 0)
        load->dtype = "mixed";
}

/* Checks the parts and, with a device, packs them and takes their pages out of memory again. */
static cento_status load_group(loader *load, const group *wanted, cento_error *error) {
    tensor_view views[PARTS_MAX] = {0};
    for (size_t i = 0; i < wanted->part_count; i++) {
        const part *piece = &wanted->parts[i];
        views[i] = (tensor_view){.dtype = TENSOR_F32,
                                 .rows = piece->columns == 0 ? 1 : piece->rows,
                                 .columns = piece->columns == 0 ? piece->rows : piece->columns};
        if (load->tensors == NULL)
            continue;
        const safetensor *tensor = NULL;
        TRY(find_tensor(load, piece, &tensor, &views[i].dtype, error));
        views[i].data = tensor->data;
        load->bytes += tensor->bytes;
        if (piece->columns != 0)
            note_dtype(load, tensor->dtype);
        if (load->device != NULL)
            hash_tensor(&load->hash, tensor);
    }
    if (load->device == NULL)
        return CENTO_OK;
    const backend_ops *ops = load->device->ops;
    cento_status status;
    if (wanted->matrix != NULL)
        status = ops->matrix_create(load->device, views, wanted->part_count, wanted->gather_rows,
                                    wanted->matrix, error);
    else
        status = ops->vector_create(load->device, views, wanted->part_count, wanted->vector, error);
    if (status != CENTO_OK) {
        error_prefix(error, "'%s'", wanted->parts[0].name);
        return status;
    }
    if (load->tensors != NULL)
        safetensors_drop(load->tensors);
    if (load->on_progress != NULL) {
        cento_progress progress = {.stage = "load", .done = load->bytes, .total = load->bytes_total};
        load->on_progress(load->user, &progress);
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ the architecture ----- */

static void add_part(group *wanted, uint32_t layer, const char *suffix, uint32_t rows, uint32_t columns) {
    part *piece = &wanted->parts[wanted->part_count++];
    piece->rows = rows;
    piece->columns = columns;
    snprintf(piece->name, sizeof piece->name, "model.layers.%u.%s", layer, suffix);
}

static cento_status load_vector(loader *load, uint32_t layer, const char *suffix, uint32_t width,
                                float **vector, cento_error *error) {
    group wanted = {.vector = vector};
    add_part(&wanted, layer, suffix, width, 0);
    return load_group(load, &wanted, error);
}

static cento_status load_attention(loader *load, uint32_t index, weights_layer *layer, cento_error *error) {
    const model_config *config = load->config;
    uint32_t hidden = config->hidden_size, q_width = config->heads * config->head_dim,
             kv_width = config->kv_heads * config->head_dim;
    TRY(load_vector(load, index, "input_layernorm.weight", hidden, &layer->attention_norm, error));
    group qkv = {.matrix = &layer->qkv};
    add_part(&qkv, index, "self_attn.q_proj.weight", q_width, hidden);
    add_part(&qkv, index, "self_attn.k_proj.weight", kv_width, hidden);
    add_part(&qkv, index, "self_attn.v_proj.weight", kv_width, hidden);
    TRY(load_group(load, &qkv, error));
    if (config->attention_bias) {
        group bias = {.vector = &layer->qkv_bias};
        add_part(&bias, index, "self_attn.q_proj.bias", q_width, 0);
        add_part(&bias, index, "self_attn.k_proj.bias", kv_width, 0);
        add_part(&bias, index, "self_attn.v_proj.bias", kv_width, 0);
        TRY(load_group(load, &bias, error));
    }
    if (config->qk_norm) {
        TRY(load_vector(load, index, "self_attn.q_norm.weight", config->head_dim, &layer->q_norm, error));
        TRY(load_vector(load, index, "self_attn.k_norm.weight", config->head_dim, &layer->k_norm, error));
    }
    group output = {.matrix = &layer->output};
    add_part(&output, index, "self_attn.o_proj.weight", hidden, q_width);
    TRY(load_group(load, &output, error));
    if (config->output_bias)
        TRY(load_vector(load, index, "self_attn.o_proj.bias", hidden, &layer->output_bias, error));
    return CENTO_OK;
}

static cento_status load_mlp(loader *load, uint32_t index, weights_layer *layer, cento_error *error) {
    const model_config *config = load->config;
    uint32_t hidden = config->hidden_size, inner = config->intermediate_size;
    TRY(load_vector(load, index, "post_attention_layernorm.weight", hidden, &layer->mlp_norm, error));
    group gate_up = {.matrix = &layer->gate_up};
    add_part(&gate_up, index, "mlp.gate_proj.weight", inner, hidden);
    add_part(&gate_up, index, "mlp.up_proj.weight", inner, hidden);
    TRY(load_group(load, &gate_up, error));
    group down = {.matrix = &layer->down};
    add_part(&down, index, "mlp.down_proj.weight", hidden, inner);
    TRY(load_group(load, &down, error));
    if (config->mlp_bias) {
        group bias = {.vector = &layer->gate_up_bias};
        add_part(&bias, index, "mlp.gate_proj.bias", inner, 0);
        add_part(&bias, index, "mlp.up_proj.bias", inner, 0);
        TRY(load_group(load, &bias, error));
        TRY(load_vector(load, index, "mlp.down_proj.bias", hidden, &layer->down_bias, error));
    }
    return CENTO_OK;
}

/* Every tensor of the model, in packing order. `held` receives them; when only checking (layer_count 0) all
 * layers may share one place. */
static cento_status load_all(loader *load, weights *held, cento_error *error) {
    const model_config *config = load->config;
    group embedding = {.parts = {{"model.embed_tokens.weight", config->vocab_size, config->hidden_size}},
                       .part_count = 1,
                       .gather_rows = true,
                       .matrix = &held->embedding};
    TRY(load_group(load, &embedding, error));
    if (config->tied_embeddings) {
        held->head = held->embedding; /* a lm_head in the file is the same values again, not read */
    } else {
        group head = {.parts = {{"lm_head.weight", config->vocab_size, config->hidden_size}},
                      .part_count = 1,
                      .matrix = &held->head};
        TRY(load_group(load, &head, error));
    }
    group norm = {
        .parts = {{"model.norm.weight", config->hidden_size, 0}}, .part_count = 1, .vector = &held->norm};
    TRY(load_group(load, &norm, error));
    for (uint32_t i = 0; i < config->layers; i++) {
        weights_layer *layer = &held->layers[held->layer_count == 0 ? 0 : i];
        TRY(load_attention(load, i, layer, error));
        TRY(load_mlp(load, i, layer, error));
    }
    return CENTO_OK;
}

cento_status weights_check(const safetensors *tensors, const model_config *config, uint64_t *bytes,
                           const char **dtype, cento_error *error) {
    loader load = {.tensors = tensors, .config = config};
    weights_layer ignored;
    weights nowhere = {.layers = &ignored};
    TRY(load_all(&load, &nowhere, error));
    *bytes = load.bytes;
    *dtype = load.dtype;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ fingerprint ---------- */

static void hash_double(sha256 *hash, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    sha256_update_u64(hash, bits);
}

/* All that changes what the forward pass computes; not the sampling or the end-of-text ids. */
static void hash_config(sha256 *hash, const model_config *config) {
    const uint64_t integers[] = {
        config->vocab_size,
        config->hidden_size,
        config->intermediate_size,
        config->layers,
        config->heads,
        config->kv_heads,
        config->head_dim,
        config->qk_norm,
        config->window,
        config->attention_bias,
        config->output_bias,
        config->mlp_bias,
        config->rope,
        config->tied_embeddings,
        config->window_layer_begin,
        config->rope_original_context,
        config->rope_truncate,
    };
    const double numbers[] = {
        (double)config->norm_epsilon,  config->rope_theta,
        config->rope_factor,           config->rope_low_freq_factor,
        config->rope_high_freq_factor, config->rope_beta_fast,
        config->rope_beta_slow,        config->rope_attention_factor,
        config->rope_mscale,           config->rope_mscale_all_dim,
    };
    sha256_update_string(hash, "cento model 1");
    sha256_update_string(hash, config->architecture);
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        sha256_update_u64(hash, integers[i]);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        hash_double(hash, numbers[i]);
}

/* ------------------------------------------------------------------ load and free -------- */

cento_status weights_load(const safetensors *tensors, const model_config *config, backend *device,
                          cento_progress_fn on_progress, void *user, weights *result, cento_error *error) {
    loader load = {
        .tensors = tensors, .config = config, .device = device, .on_progress = on_progress, .user = user};
    const char *dtype;
    /* all names, shapes and dtypes before the first byte is packed */
    if (tensors != NULL)
        TRY(weights_check(tensors, config, &load.bytes_total, &dtype, error));
    weights held = {.layers = mem_zalloc(config->layers, sizeof *held.layers), .layer_count = config->layers};
    if (held.layers == NULL)
        return error_memory(error, config->layers * sizeof *held.layers);
    sha256_init(&load.hash);
    hash_config(&load.hash, config);
    sha256_update_string(&load.hash, tensors == NULL ? "random" : "safetensors");
    cento_status status = load_all(&load, &held, error);
    cento_status hashed = sha256_final(&load.hash, held.fingerprint, status == CENTO_OK ? error : NULL);
    if (status == CENTO_OK)
        status = hashed;
    if (status == CENTO_OK)
        *result = held;
    else
        weights_free(&held, device);
    return status;
}

static void release(backend *device, float *vector) {
    if (vector != NULL)
        device->ops->release(device, vector);
}

void weights_free(weights *held, backend *device) {
    if (held->layers == NULL)
        return;
    const backend_ops *ops = device->ops;
    if (held->head != held->embedding)
        ops->matrix_free(device, held->head);
    ops->matrix_free(device, held->embedding);
    release(device, held->norm);
    for (uint32_t i = 0; i < held->layer_count; i++) {
        weights_layer *layer = &held->layers[i];
        backend_matrix *matrices[] = {layer->qkv, layer->output, layer->gate_up, layer->down};
        float *vectors[] = {layer->attention_norm, layer->q_norm,   layer->k_norm,       layer->qkv_bias,
                            layer->output_bias,    layer->mlp_norm, layer->gate_up_bias, layer->down_bias};
        for (size_t j = 0; j < sizeof matrices / sizeof matrices[0]; j++)
            ops->matrix_free(device, matrices[j]);
        for (size_t j = 0; j < sizeof vectors / sizeof vectors[0]; j++)
            release(device, vectors[j]);
    }
    mem_free(held->layers);
    *held = (weights){0};
}

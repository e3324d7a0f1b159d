/*
 * model_config: reads and checks config.json and generation_config.json. Callable from any thread.
 *
 * Missing keys get the default of the architecture's configuration class in transformers, because files
 * saved by other tools rely on them; what the forward pass cannot do (another activation, quantized
 * weights, partial rotation, an unknown RoPE) is refused here by name, so that nobody downstream computes
 * something else in silence. Sizes have upper limits far above any published model, so that products of
 * them fit 64 bits and allocations stay sane for damaged files.
 */
#include "model_config.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    CONFIG_BYTES_MAX = 16 << 20,
    VOCAB_MAX = 1 << 24,
    HIDDEN_MAX = 1 << 17,
    INTERMEDIATE_MAX = 1 << 20,
    LAYERS_MAX = 1024,
    HEADS_MAX = 1024,
    HEAD_DIM_MAX = 1024,
    CONTEXT_MAX = 1 << 26,
};

/* What transformers' configuration class of an architecture says where config.json is silent. */
typedef struct architecture {
    const char *name;
    bool qk_norm;
    bool qkv_bias_always;       /* Qwen2: q, k, v have biases, o_proj has none */
    bool attention_bias_option; /* "attention_bias": q, k, v and o_proj */
    bool mlp_bias_option;
    bool window_option;      /* "sliding_window" alone decides (Mistral) */
    bool window_by_layer;    /* "use_sliding_window" and "max_window_layers" (Qwen) */
    uint32_t kv_heads;       /* 0: as many as heads */
    uint32_t head_dim;       /* 0: hidden_size / heads */
    uint32_t bos_token, eos; /* UINT32_MAX: none */
} architecture;

static const architecture architectures[] = {
    {.name = "Qwen3ForCausalLM",
     .qk_norm = true,
     .attention_bias_option = true,
     .window_by_layer = true,
     .kv_heads = 32,
     .head_dim = 128,
     .bos_token = UINT32_MAX,
     .eos = UINT32_MAX},
    {.name = "Qwen2ForCausalLM",
     .qkv_bias_always = true,
     .window_by_layer = true,
     .kv_heads = 32,
     .bos_token = UINT32_MAX,
     .eos = UINT32_MAX},
    {.name = "LlamaForCausalLM",
     .attention_bias_option = true,
     .mlp_bias_option = true,
     .bos_token = 1,
     .eos = 2},
    {.name = "MistralForCausalLM", .window_option = true, .kv_heads = 8, .bos_token = 1, .eos = 2},
};
enum { ARCHITECTURE_COUNT = sizeof architectures / sizeof architectures[0] };

static bool has(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return value != NULL && !json_is_null(value);
}

static cento_status find_architecture(const json_t *root, const char *where, const architecture **result,
                                      cento_error *error) {
    const json_t *list = json_object_get(root, "architectures");
    if (!json_is_array(list) || json_array_size(list) != 1 || !json_is_string(json_array_get(list, 0)))
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: 'architectures' must be an array with one string, such as "
                         "[\"LlamaForCausalLM\"], found %s",
                         where, json_type_name(list));
    const char *name = json_string_value(json_array_get(list, 0));
    for (size_t i = 0; i < ARCHITECTURE_COUNT; i++) {
        if (strcmp(architectures[i].name, name) == 0) {
            *result = &architectures[i];
            return CENTO_OK;
        }
    }
    return error_set(error, CENTO_UNSUPPORTED,
                     "%s: architecture '%.64s' is not supported; supported are %s, %s, %s and %s", where,
                     name, architectures[0].name, architectures[1].name, architectures[2].name,
                     architectures[3].name);
}

/* ------------------------------------------------------------------ sizes ---------------- */

static cento_status parse_sizes(const json_t *root, const char *where, const architecture *kind,
                                model_config *config, cento_error *error) {
    TRY(json_get_u32_required(root, where, "vocab_size", 1, VOCAB_MAX, &config->vocab_size, error));
    TRY(json_get_u32_required(root, where, "hidden_size", 1, HIDDEN_MAX, &config->hidden_size, error));
    TRY(json_get_u32_required(root, where, "intermediate_size", 1, INTERMEDIATE_MAX,
                              &config->intermediate_size, error));
    TRY(json_get_u32_required(root, where, "num_hidden_layers", 1, LAYERS_MAX, &config->layers, error));
    TRY(json_get_u32_required(root, where, "num_attention_heads", 1, HEADS_MAX, &config->heads, error));
    TRY(json_get_u32_required(root, where, "max_position_embeddings", 1, CONTEXT_MAX,
                              &config->context_tokens_max, error));

    /* null means "as many as heads" everywhere; only a missing key means the class's default */
    config->kv_heads = kind->kv_heads == 0 || json_object_get(root, "num_key_value_heads") != NULL
                           ? config->heads
                           : kind->kv_heads;
    TRY(json_get_u32(root, where, "num_key_value_heads", 1, HEADS_MAX, &config->kv_heads, error));
    if (config->heads % config->kv_heads != 0)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: 'num_key_value_heads' is %u, expected a divisor of 'num_attention_heads' (%u)",
                         where, config->kv_heads, config->heads);

    config->head_dim = kind->head_dim;
    TRY(json_get_u32(root, where, "head_dim", 1, HEAD_DIM_MAX, &config->head_dim, error));
    if (config->head_dim == 0) {
        if (config->hidden_size % config->heads != 0)
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: 'hidden_size' is %u, expected a multiple of 'num_attention_heads' (%u), or "
                             "'head_dim' to be given",
                             where, config->hidden_size, config->heads);
        config->head_dim = config->hidden_size / config->heads;
    }
    if (config->head_dim % 2 != 0 || config->head_dim > HEAD_DIM_MAX)
        return error_set(error, CENTO_INVALID_MODEL, "%s: 'head_dim' is %u, expected an even number, 2 to %d",
                         where, config->head_dim, HEAD_DIM_MAX);

    double epsilon = 1e-6;
    TRY(json_get_double(root, where, "rms_norm_eps", 0, 1, &epsilon, error));
    config->norm_epsilon = (float)epsilon;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ features ------------- */

static cento_status parse_features(const json_t *root, const char *where, const architecture *kind,
                                   model_config *config, cento_error *error) {
    const char *activation = "silu";
    TRY(json_get_string(root, where, "hidden_act", &activation, error));
    if (strcmp(activation, "silu") != 0)
        return error_set(error, CENTO_UNSUPPORTED, "%s: 'hidden_act' is '%.64s', supported is 'silu'", where,
                         activation);
    if (has(root, "quantization_config"))
        return error_set(
            error, CENTO_UNSUPPORTED,
            "%s: 'quantization_config' says that the weights are quantized; supported are weights "
            "in bfloat16, float16 or float32",
            where);
    static const char *const dtype_keys[] = {"torch_dtype", "dtype"};
    for (size_t i = 0; i < 2; i++) {
        const char *dtype = "auto";
        TRY(json_get_string(root, where, dtype_keys[i], &dtype, error));
        if (strcmp(dtype, "auto") != 0 && strcmp(dtype, "bfloat16") != 0 && strcmp(dtype, "float16") != 0 &&
            strcmp(dtype, "float32") != 0)
            return error_set(error, CENTO_UNSUPPORTED,
                             "%s: '%s' is '%.64s', supported are 'bfloat16', 'float16' and 'float32'", where,
                             dtype_keys[i], dtype);
    }

    config->qk_norm = kind->qk_norm;
    config->attention_bias = kind->qkv_bias_always;
    if (kind->attention_bias_option) {
        TRY(json_get_bool(root, where, "attention_bias", &config->attention_bias, error));
        config->output_bias = config->attention_bias;
    }
    if (kind->mlp_bias_option)
        TRY(json_get_bool(root, where, "mlp_bias", &config->mlp_bias, error));
    return json_get_bool(root, where, "tie_word_embeddings", &config->tied_embeddings, error);
}

/* layer_types, where there is one, decides over max_window_layers; it must be the same kind of list: full
 * attention in the first layers, the window in all others. */
static cento_status parse_layer_types(const json_t *list, const char *where, model_config *config,
                                      cento_error *error) {
    if (!json_is_array(list) || json_array_size(list) != config->layers)
        return error_set(
            error, CENTO_INVALID_MODEL,
            "%s: 'layer_types' must be an array of %u strings ('num_hidden_layers'), found %s of %zu", where,
            config->layers, json_type_name(list), json_array_size(list));
    uint32_t begin = config->layers;
    for (uint32_t i = 0; i < config->layers; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        bool sliding = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (!sliding && (type == NULL || strcmp(type, "full_attention") != 0))
            return error_set(error, CENTO_UNSUPPORTED,
                             "%s: 'layer_types'[%u] is '%.64s', supported are 'full_attention' and "
                             "'sliding_attention'",
                             where, i, type == NULL ? "not a string" : type);
        if (sliding && begin == config->layers)
            begin = i;
        if (!sliding && begin < i)
            return error_set(
                error, CENTO_UNSUPPORTED,
                "%s: 'layer_types'[%u] is 'full_attention' after a sliding layer (%u); supported is "
                "full attention in the first layers only",
                where, i, begin);
    }
    config->window_layer_begin = begin;
    return CENTO_OK;
}

static cento_status parse_window(const json_t *root, const char *where, const architecture *kind,
                                 model_config *config, cento_error *error) {
    if (!kind->window_option && !kind->window_by_layer)
        return CENTO_OK;
    bool use_window = kind->window_option;
    if (kind->window_by_layer)
        TRY(json_get_bool(root, where, "use_sliding_window", &use_window, error));
    uint32_t window = json_object_get(root, "sliding_window") == NULL ? 4096 : 0;
    TRY(json_get_u32(root, where, "sliding_window", 1, CONTEXT_MAX, &window, error));
    if (!use_window)
        window = 0;
    if (kind->window_by_layer && window > 0) {
        config->window_layer_begin = 28;
        TRY(json_get_u32(root, where, "max_window_layers", 0, CONTEXT_MAX, &config->window_layer_begin,
                         error));
    }
    if (kind->window_by_layer && has(root, "layer_types")) {
        TRY(parse_layer_types(json_object_get(root, "layer_types"), where, config, error));
        if (config->window_layer_begin < config->layers && window == 0)
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: 'layer_types'[%u] is 'sliding_attention', but 'use_sliding_window' and "
                             "'sliding_window' give no window",
                             where, config->window_layer_begin);
    }
    if (config->window_layer_begin >= config->layers)
        window = 0;
    if (window == 0)
        config->window_layer_begin = 0;
    config->window = window;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ rope ----------------- */

static const struct {
    const char *name;
    rope_kind kind;
} rope_names[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR},   {"llama3", ROPE_LLAMA3},
    {"yarn", ROPE_YARN},       {"dynamic", ROPE_DYNAMIC},
};

static cento_status parse_rope_kind(const json_t *scaling, const char *where, const char *key,
                                    model_config *config, cento_error *error) {
    const char *name = NULL;
    TRY(json_get_string(scaling, where, "rope_type", &name, error));
    if (name == NULL)
        TRY(json_get_string(scaling, where, "type", &name, error));
    if (name == NULL)
        name = "default";
    for (size_t i = 0; i < sizeof rope_names / sizeof rope_names[0]; i++) {
        if (strcmp(rope_names[i].name, name) == 0) {
            config->rope = rope_names[i].kind;
            return CENTO_OK;
        }
    }
    return error_set(error, CENTO_UNSUPPORTED,
                     "%s: '%s' has the type '%.64s', supported are default, linear, llama3, yarn and dynamic",
                     where, key, name);
}

static cento_status parse_yarn(const json_t *scaling, const char *where, model_config *config,
                               cento_error *error) {
    TRY(json_get_double(scaling, where, "attention_factor", 0, 1e6, &config->rope_attention_factor, error));
    TRY(json_get_double(scaling, where, "mscale", 0, 1e6, &config->rope_mscale, error));
    TRY(json_get_double(scaling, where, "mscale_all_dim", 0, 1e6, &config->rope_mscale_all_dim, error));
    TRY(json_get_double(scaling, where, "beta_fast", 0, 1e6, &config->rope_beta_fast, error));
    TRY(json_get_double(scaling, where, "beta_slow", 0, 1e6, &config->rope_beta_slow, error));
    TRY(json_get_bool(scaling, where, "truncate", &config->rope_truncate, error));
    /* as transformers: 0 means the paper's value */
    if (config->rope_beta_fast <= 0)
        config->rope_beta_fast = 32;
    if (config->rope_beta_slow <= 0)
        config->rope_beta_slow = 1;
    if (config->rope_beta_fast < config->rope_beta_slow)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: 'beta_fast' is %g, expected at least 'beta_slow' (%g)", where,
                         config->rope_beta_fast, config->rope_beta_slow);
    return CENTO_OK;
}

/* The old form is "rope_theta" and "rope_scaling": {"type" or "rope_type", …}; the new one (transformers 5)
 * has both inside of "rope_parameters". */
static cento_status parse_rope(const json_t *root, const char *where, model_config *config,
                               cento_error *error) {
    config->rope_theta = 10000;
    config->rope_factor = 1;
    config->rope_truncate = true;
    TRY(json_get_double(root, where, "rope_theta", 1, 1e12, &config->rope_theta, error));
    double partial = 1;
    TRY(json_get_double(root, where, "partial_rotary_factor", 0, 1, &partial, error));

    const char *key = has(root, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    const json_t *scaling = has(root, key) ? json_object_get(root, key) : NULL;
    if (scaling != NULL && !json_is_object(scaling))
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' must be an object or null, found %s", where,
                         key, json_type_name(scaling));
    if (scaling != NULL) {
        if (has(scaling, "full_attention") || has(scaling, "sliding_attention"))
            return error_set(error, CENTO_UNSUPPORTED,
                             "%s: '%s' differs by layer type; supported is one RoPE for all layers", where,
                             key);
        TRY(json_get_double(scaling, where, "rope_theta", 1, 1e12, &config->rope_theta, error));
        TRY(json_get_double(scaling, where, "partial_rotary_factor", 0, 1, &partial, error));
        TRY(parse_rope_kind(scaling, where, key, config, error));
    }
    if (partial < 1)
        return error_set(error, CENTO_UNSUPPORTED,
                         "%s: 'partial_rotary_factor' is %g, supported is 1 (whole heads are rotated)", where,
                         partial);
    if (config->rope_theta <= 1)
        return error_set(error, CENTO_INVALID_MODEL, "%s: 'rope_theta' is %g, expected more than 1", where,
                         config->rope_theta);
    if (config->rope == ROPE_DEFAULT)
        return CENTO_OK;

    config->rope_original_context = config->context_tokens_max;
    TRY(json_get_u32(scaling, where, "original_max_position_embeddings", 1, CONTEXT_MAX,
                     &config->rope_original_context, error));
    if (config->rope == ROPE_LLAMA3 || config->rope == ROPE_YARN)
        TRY(json_get_u32(root, where, "original_max_position_embeddings", 1, CONTEXT_MAX,
                         &config->rope_original_context, error));
    if (!has(scaling, "factor")) {
        if (config->rope != ROPE_YARN)
            return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' has no 'factor'", where, key);
        config->rope_factor = (double)config->context_tokens_max / config->rope_original_context;
    }
    TRY(json_get_double(scaling, where, "factor", 1, 1e6, &config->rope_factor, error));
    if (config->rope == ROPE_YARN)
        return parse_yarn(scaling, where, config, error);
    if (config->rope == ROPE_LLAMA3) {
        static const char *const keys[] = {"low_freq_factor", "high_freq_factor"};
        double *values[] = {&config->rope_low_freq_factor, &config->rope_high_freq_factor};
        for (size_t i = 0; i < 2; i++) {
            if (!has(scaling, keys[i]))
                return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' has no '%s'", where, key, keys[i]);
            TRY(json_get_double(scaling, where, keys[i], 1e-6, 1e6, values[i], error));
        }
        if (config->rope_high_freq_factor <= config->rope_low_freq_factor)
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: 'high_freq_factor' is %g, expected more than 'low_freq_factor' (%g)", where,
                             config->rope_high_freq_factor, config->rope_low_freq_factor);
    }
    return CENTO_OK;
}

/* The functions of transformers' modeling_rope_utils, in f64. */

static double yarn_correction_dim(const model_config *config, double rotations) {
    return config->head_dim * log(config->rope_original_context / (rotations * 2 * M_PI)) /
           (2 * log(config->rope_theta));
}

static double yarn_mscale(double scale, double mscale) {
    return scale <= 1 ? 1 : 0.1 * mscale * log(scale) + 1;
}

static double yarn_attention_factor(const model_config *config) {
    if (config->rope_attention_factor > 0)
        return config->rope_attention_factor;
    if (config->rope_mscale > 0 && config->rope_mscale_all_dim > 0)
        return yarn_mscale(config->rope_factor, config->rope_mscale) /
               yarn_mscale(config->rope_factor, config->rope_mscale_all_dim);
    return yarn_mscale(config->rope_factor, 1);
}

static double llama3_frequency(const model_config *config, double frequency) {
    double wavelength = 2 * M_PI / frequency;
    double context = config->rope_original_context;
    double low = config->rope_low_freq_factor, high = config->rope_high_freq_factor;
    if (wavelength < context / high)
        return frequency;
    if (wavelength > context / low)
        return frequency / config->rope_factor;
    double smooth = (context / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / config->rope_factor + smooth * frequency;
}

void model_config_rope(const model_config *config, double *inv_freq, double *attention_factor) {
    uint32_t pairs = config->head_dim / 2;
    double low = 0, high = 0;
    *attention_factor = 1;
    if (config->rope == ROPE_YARN) {
        low = yarn_correction_dim(config, config->rope_beta_fast);
        high = yarn_correction_dim(config, config->rope_beta_slow);
        if (config->rope_truncate) {
            low = floor(low);
            high = ceil(high);
        }
        low = fmax(low, 0);
        high = fmin(high, config->head_dim - 1);
        if (low == high)
            high += 0.001;
        *attention_factor = yarn_attention_factor(config);
    }
    for (uint32_t i = 0; i < pairs; i++) {
        double frequency = pow(config->rope_theta, -2.0 * i / config->head_dim);
        switch (config->rope) {
        case ROPE_DEFAULT:
        case ROPE_DYNAMIC: /* the original frequencies, right up to the model's context */
            break;
        case ROPE_LINEAR:
            frequency /= config->rope_factor;
            break;
        case ROPE_LLAMA3:
            frequency = llama3_frequency(config, frequency);
            break;
        case ROPE_YARN: {
            double interpolated = fmin(fmax((i - low) / (high - low), 0), 1);
            frequency *= interpolated / config->rope_factor + (1 - interpolated);
            break;
        }
        }
        inv_freq[i] = frequency;
    }
}

/* ------------------------------------------------------------------ tokens, sampling ----- */

/* An id or an array of ids; ids outside of the vocabulary are refused. */
static cento_status parse_eos(const json_t *root, const char *where, model_config *config,
                              cento_error *error) {
    const json_t *value = json_object_get(root, "eos_token_id");
    if (value == NULL || json_is_null(value))
        return CENTO_OK;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > MODEL_EOS_MAX)
        return error_set(error, CENTO_UNSUPPORTED, "%s: 'eos_token_id' has %zu ids, expected at most %d",
                         where, count, MODEL_EOS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        json_int_t token = json_integer_value(id);
        if (!json_is_integer(id))
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: 'eos_token_id' must be a token id or an array of them, found %s", where,
                             json_type_name(id));
        if (token < 0 || token >= (json_int_t)config->vocab_size)
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: 'eos_token_id' is %lld, expected 0 to %u ('vocab_size' - 1)", where,
                             (long long)token, config->vocab_size - 1);
        config->eos_tokens[i] = (int32_t)token;
    }
    config->eos_count = (uint32_t)count;
    return CENTO_OK;
}

static void default_tokens(const json_t *root, const architecture *kind, model_config *config) {
    config->bos_token = -1;
    if (json_object_get(root, "bos_token_id") == NULL && kind->bos_token < config->vocab_size)
        config->bos_token = (int32_t)kind->bos_token;
    if (json_object_get(root, "eos_token_id") == NULL && kind->eos < config->vocab_size) {
        config->eos_tokens[0] = (int32_t)kind->eos;
        config->eos_count = 1;
    }
}

static cento_sampling greedy(void) {
    return (cento_sampling){.top_p = 1, .repetition_penalty = 1};
}

cento_status model_config_parse_generation(const char *where, const char *text, size_t bytes,
                                           model_config *config, cento_error *error) {
    json_t *root = NULL;
    TRY(json_read_bytes(where, text, bytes, &root, error));
    cento_status status = CENTO_OK;
    cento_sampling sampling = greedy();
    bool sample = false;
    double temperature = 1, top_p = 1, min_p = 0, penalty = 1;
    uint32_t top_k = 50; /* GenerationConfig's default */
    if (!json_is_object(root)) {
        status = error_set(error, CENTO_INVALID_MODEL, "%s: expected an object, found %s", where,
                           json_type_name(root));
        goto out;
    }
    TRY_GOTO(status, parse_eos(root, where, config, error), out);
    TRY_GOTO(status, json_get_bool(root, where, "do_sample", &sample, error), out);
    TRY_GOTO(status, json_get_double(root, where, "temperature", 0, 1000, &temperature, error), out);
    TRY_GOTO(status, json_get_u32(root, where, "top_k", 0, INT32_MAX, &top_k, error), out);
    TRY_GOTO(status, json_get_double(root, where, "top_p", 0, 1, &top_p, error), out);
    TRY_GOTO(status, json_get_double(root, where, "min_p", 0, 1, &min_p, error), out);
    TRY_GOTO(status, json_get_double(root, where, "repetition_penalty", 1e-3, 1000, &penalty, error), out);
    sampling.repetition_penalty = (float)penalty;
    if (sample) {
        sampling.temperature = (float)temperature;
        sampling.top_k = top_k;
        sampling.top_p = (float)top_p;
        sampling.min_p = (float)min_p;
    }
    config->sampling = sampling;
out:
    json_decref(root);
    return status;
}

/* ------------------------------------------------------------------ the whole ------------ */

static cento_status parse_root(const json_t *root, const char *where, model_config *config,
                               cento_error *error) {
    if (!json_is_object(root))
        return error_set(error, CENTO_INVALID_MODEL, "%s: expected an object, found %s", where,
                         json_type_name(root));
    const architecture *kind = NULL;
    TRY(find_architecture(root, where, &kind, error));
    memcpy(config->architecture, kind->name, strlen(kind->name) + 1);
    TRY(parse_sizes(root, where, kind, config, error));
    TRY(parse_features(root, where, kind, config, error));
    TRY(parse_window(root, where, kind, config, error));
    TRY(parse_rope(root, where, config, error));
    default_tokens(root, kind, config);
    uint32_t bos = UINT32_MAX;
    TRY(json_get_u32(root, where, "bos_token_id", 0, config->vocab_size - 1, &bos, error));
    if (bos != UINT32_MAX)
        config->bos_token = (int32_t)bos;
    return parse_eos(root, where, config, error);
}

cento_status model_config_parse(const char *where, const char *text, size_t bytes, model_config *config,
                                cento_error *error) {
    json_t *root = NULL;
    TRY(json_read_bytes(where, text, bytes, &root, error));
    model_config parsed = {.sampling = greedy()};
    cento_status status = parse_root(root, where, &parsed, error);
    json_decref(root);
    if (status == CENTO_OK)
        *config = parsed;
    return status;
}

static cento_status load_file(const char *path, bool generation, model_config *config, cento_error *error) {
    strbuf text = {0};
    cento_status status = file_read(path, CONFIG_BYTES_MAX, &text, error);
    const char *data = text.data == NULL ? "" : text.data;
    if (status == CENTO_OK)
        status = generation ? model_config_parse_generation(path, data, text.bytes, config, error)
                            : model_config_parse(path, data, text.bytes, config, error);
    strbuf_free(&text);
    return status;
}

cento_status model_config_load(const char *folder, model_config *config, cento_error *error) {
    cento_status status = CENTO_OK;
    model_config loaded = {0};
    char *path = path_join(folder, "config.json");
    char *generation_path = path_join(folder, "generation_config.json");
    if (path == NULL || generation_path == NULL) {
        status = error_memory(error, strlen(folder) + sizeof "generation_config.json");
        goto out;
    }
    TRY_GOTO(status, load_file(path, false, &loaded, error), out);
    if (file_exists(generation_path))
        TRY_GOTO(status, load_file(generation_path, true, &loaded, error), out);
    *config = loaded;
out:
    mem_free(path);
    mem_free(generation_path);
    return status;
}

uint64_t model_config_parameters(const model_config *config) {
    uint64_t hidden = config->hidden_size, width = (uint64_t)config->heads * config->head_dim;
    uint64_t kv_width = (uint64_t)config->kv_heads * config->head_dim, inner = config->intermediate_size;
    uint64_t layer = 2 * hidden + (width + 2 * kv_width) * hidden + width * hidden + 3 * inner * hidden;
    if (config->qk_norm)
        layer += 2 * (uint64_t)config->head_dim;
    if (config->attention_bias)
        layer += width + 2 * kv_width;
    if (config->output_bias)
        layer += hidden;
    if (config->mlp_bias)
        layer += 2 * inner + hidden;
    uint64_t embeddings = config->vocab_size * hidden * (config->tied_embeddings ? 1 : 2);
    return embeddings + layer * config->layers + hidden;
}

uint64_t model_config_kv_bytes_per_token(const model_config *config, cento_dtype dtype) {
    return 2ull * config->layers * config->kv_heads * config->head_dim * (dtype == CENTO_DTYPE_F32 ? 4 : 2);
}

/* ------------------------------------------------------------------ geometries ----------- */

/* Published config.json files, cut to what decides the shape. "tiny" is models/cento-tiny's. */
static const struct {
    const char *name, *json;
} geometries[] = {
    {"llama-3.2-1b",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":128256,\"hidden_size\":2048,"
     "\"intermediate_size\":8192,\"num_hidden_layers\":16,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":8,\"head_dim\":64,\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-05,"
     "\"tie_word_embeddings\":true,\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":32.0,"
     "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,"
     "\"rope_type\":\"llama3\"},\"bos_token_id\":128000,\"eos_token_id\":128001}"},
    {"llama-3.1-8b",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":128256,\"hidden_size\":4096,"
     "\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":8,\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-05,"
     "\"tie_word_embeddings\":false,\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":8.0,"
     "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,"
     "\"rope_type\":\"llama3\"},\"bos_token_id\":128000,\"eos_token_id\":128001}"},
    {"qwen3-0.6b",
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"vocab_size\":151936,\"hidden_size\":1024,"
     "\"intermediate_size\":3072,\"num_hidden_layers\":28,\"num_attention_heads\":16,"
     "\"num_key_value_heads\":8,\"head_dim\":128,\"max_position_embeddings\":40960,\"rms_norm_eps\":1e-06,"
     "\"tie_word_embeddings\":true,\"rope_theta\":1000000,\"use_sliding_window\":false,"
     "\"bos_token_id\":151643,\"eos_token_id\":151645}"},
    {"qwen3-8b",
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"vocab_size\":151936,\"hidden_size\":4096,"
     "\"intermediate_size\":12288,\"num_hidden_layers\":36,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":8,\"head_dim\":128,\"max_position_embeddings\":40960,\"rms_norm_eps\":1e-06,"
     "\"tie_word_embeddings\":false,\"rope_theta\":1000000,\"use_sliding_window\":false,"
     "\"bos_token_id\":151643,\"eos_token_id\":151645}"},
    {"qwen2.5-0.5b", "{\"architectures\":[\"Qwen2ForCausalLM\"],\"vocab_size\":151936,\"hidden_size\":896,"
                     "\"intermediate_size\":4864,\"num_hidden_layers\":24,\"num_attention_heads\":14,"
                     "\"num_key_value_heads\":2,\"max_position_embeddings\":32768,\"rms_norm_eps\":1e-06,"
                     "\"tie_word_embeddings\":true,\"rope_theta\":1000000.0,\"use_sliding_window\":false,"
                     "\"bos_token_id\":151643,\"eos_token_id\":151643}"},
    {"tiny",
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"vocab_size\":3072,\"hidden_size\":256,"
     "\"intermediate_size\":768,\"num_hidden_layers\":6,\"num_attention_heads\":8,"
     "\"num_key_value_heads\":4,\"head_dim\":32,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-06,"
     "\"tie_word_embeddings\":true,\"rope_theta\":10000.0,\"use_sliding_window\":false}"},
};
enum { GEOMETRY_COUNT = sizeof geometries / sizeof geometries[0] };

cento_status model_config_geometry(const char *name, model_config *config, cento_error *error) {
    for (size_t i = 0; i < GEOMETRY_COUNT; i++) {
        if (strcmp(geometries[i].name, name) == 0)
            return model_config_parse(name, geometries[i].json, strlen(geometries[i].json), config, error);
    }
    strbuf names = {0};
    for (size_t i = 0; i < GEOMETRY_COUNT; i++)
        strbuf_printf(&names, "%s%s", i == 0 ? "" : ", ", geometries[i].name);
    cento_status status = strbuf_check(&names, error);
    if (status == CENTO_OK)
        status = error_set(error, CENTO_NOT_FOUND, "no geometry '%.64s'; known are %s", name, names.data);
    strbuf_free(&names);
    return status;
}

/* Options that several commands share; see settings.h. */
#include "settings.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "input.h"
#include "term.h"

/* --------------------------------------------------------------------------- the engine --- */

const option_spec engine_specs[] = {
    {"model", OPTION_TEXT, offsetof(engine_settings, model), "DIR", 0, 0,
     "Hugging Face model folder (default: $CENTO_MODEL, else cento-tiny)"},
    {"device", OPTION_TEXT, offsetof(engine_settings, device), "NAME", 0, 0,
     "cpu, cuda, cuda:N (the Nth GPU), or auto: a GPU if one serves, else the CPU (default: auto)"},
    {"attention", OPTION_TEXT, offsetof(engine_settings, attention), "NAME", 0, 0,
     "auto, or flashinfer: FlashInfer's kernels on a GPU, in builds that have them (default: auto)"},
    {"context", OPTION_U32, offsetof(engine_settings, context_tokens), "N", 1, 1 << 24,
     "longest prompt and answer together, in tokens (default: the model's limit, at most 8192)"},
    {"kv-pool-tokens", OPTION_U32, offsetof(engine_settings, kv_pool_tokens), "N", 1, OPTION_COUNT_MAX,
     "KV memory for chunks and sequences, in tokens (default: 4 × context)"},
    {"page-tokens", OPTION_U32, offsetof(engine_settings, page_tokens), "N", 16, 64,
     "tokens of a KV page: 16, 32 or 64 (default: 32)"},
    {"threads", OPTION_U32, offsetof(engine_settings, threads), "N", 1, 4096,
     "compute threads (default: one for each physical core)"},
    {"compute-dtype", OPTION_CHOICE, offsetof(engine_settings, compute_dtype), "bf16|f32", 0, 0,
     "type of matrix products (default: bf16)"},
    {"kv-dtype", OPTION_CHOICE, offsetof(engine_settings, kv_dtype), "auto|bf16|f32", 0, 0,
     "type of the KV that is held (default: auto, as --compute-dtype)"},
    {"max-sequences", OPTION_U32, offsetof(engine_settings, max_sequences), "N", 1, 4096,
     "requests computed at the same time (default: 32)"},
    {"max-batched-tokens", OPTION_U32, offsetof(engine_settings, max_batched_tokens), "N", 1, 65536,
     "tokens of one forward pass, of prompts and answers together (default: 512)"},
    {"max-waiting", OPTION_U32, offsetof(engine_settings, max_waiting), "N", 1, 1 << 20,
     "requests that may wait for their turn (default: 1024)"},
    {"no-cascade", OPTION_FLAG, offsetof(engine_settings, no_cascade), NULL, 0, 0,
     "attend to shared KV for each request alone; answers are the same"},
    {"cascade-levels", OPTION_U32, offsetof(engine_settings, cascade_levels), "N", 1, 3,
     "attend once to: 1 nothing, 2 what all requests share, 3 what any two share (default: 3)"},
    {"no-reuse", OPTION_FLAG, offsetof(engine_settings, no_reuse), NULL, 0, 0,
     "keep no KV for later requests and share none"},
    {"deterministic", OPTION_FLAG, offsetof(engine_settings, deterministic), NULL, 0, 0,
     "the same bits for a request whatever runs beside it and whatever was cached"},
    {"chunk-page-ratio", OPTION_NUMBER, offsetof(engine_settings, chunk_page_ratio), "X", 0.01, 0.99,
     "part of the KV memory that chunks may hold for certain (default: 0.5)"},
    {"no-chunk-page-borrow", OPTION_FLAG, offsetof(engine_settings, no_chunk_page_borrow), NULL, 0, 0,
     "neither chunks nor sequences may use what the other does not"},
    {"chunk-registry-size", OPTION_U32, offsetof(engine_settings, chunk_registry_size), "N", 1, 1 << 24,
     "chunks registered at a time (default: 1000)"},
    {"chunk-bytes-max", OPTION_BYTES, offsetof(engine_settings, chunk_bytes_max), "BYTES", 1, 0,
     "KV kept for chunks that no request uses; K, M, G: powers of 1024 (default: what the pool holds)"},
    {"gpu-memory-utilization", OPTION_NUMBER, offsetof(engine_settings, gpu_memory_utilization), "X", 0.01, 1,
     "part of a GPU's memory that may be used in all (default: 0.9)"},
};
const size_t engine_spec_count = sizeof engine_specs / sizeof engine_specs[0];

static void show_progress(void *user, const cento_progress *progress) {
    (void)user;
    bool loading = strcmp(progress->stage, "load") == 0;
    progress_show(loading ? "loading" : "reading the prompt", progress->done, progress->total, loading);
}

int engine_options_from(const command *self, const engine_settings *settings, cento_options *options) {
    uint32_t page_tokens = settings->page_tokens;
    if (page_tokens != 0 && page_tokens != 16 && page_tokens != 32 && page_tokens != 64)
        return usage_error(self, "--page-tokens: expected 16, 32 or 64, found %u", page_tokens);
    *options = cento_options_default();
    if (settings->device != NULL)
        options->device = settings->device;
    if (settings->attention != NULL)
        options->attention = settings->attention;
    options->compute_dtype = (cento_dtype)settings->compute_dtype;
    options->kv_dtype = (cento_kv_dtype)settings->kv_dtype;
    options->context_tokens_max = settings->context_tokens;
    options->kv_pool_tokens = settings->kv_pool_tokens;
    options->page_tokens = page_tokens;
    options->threads = settings->threads;
    options->max_sequences = settings->max_sequences;
    options->max_batched_tokens = settings->max_batched_tokens;
    options->max_waiting = settings->max_waiting;
    options->enable_cascade = !settings->no_cascade;
    options->max_cascade_levels = settings->cascade_levels;
    options->enable_reuse = !settings->no_reuse;
    options->deterministic = settings->deterministic;
    options->chunk_page_ratio = (double)settings->chunk_page_ratio;
    options->chunk_page_borrow = !settings->no_chunk_page_borrow;
    options->chunk_registry_size = settings->chunk_registry_size;
    options->chunk_bytes_max = settings->chunk_bytes_max;
    options->gpu_memory_utilization = (double)settings->gpu_memory_utilization;
    return -1;
}

int engine_open(const command *self, const engine_settings *settings, cento_engine **engine,
                char **model_path) {
    cento_options options;
    int misused = engine_options_from(self, settings, &options);
    if (misused >= 0)
        return misused;
    cento_error error;
    char *path = NULL;
    if (model_path_find(settings->model, &path, &error) != CENTO_OK)
        return fail(&error);
    options.model_path = path;
    options.on_progress = show_progress;
    cento_status status = cento_open(&options, engine, &error);
    progress_clear();
    if (status != CENTO_OK || model_path == NULL)
        mem_free(path);
    else
        *model_path = path;
    return status == CENTO_OK ? -1 : fail(&error);
}

/* --------------------------------------------------------------------------- a request --- */

const option_spec mode_specs[] = {
    {"mode", OPTION_TEXT, offsetof(mode_settings, mode), "MODE", 0, 0,
     "how cached chunks are used: exact (default), independent, or link:K (independent, the first K tokens "
     "of each chunk computed anew)"},
    {"anchored", OPTION_FLAG, offsetof(mode_settings, anchored), NULL, 0, 0,
     "independent, link: chunks see the system prompt when they are computed"},
};
const size_t mode_spec_count = sizeof mode_specs / sizeof mode_specs[0];

const option_spec sampling_specs[] = {
    {"max-tokens", OPTION_U32, offsetof(sampling_settings, max_tokens), "N", 0, OPTION_COUNT_MAX - 1,
     "longest answer (default: 512; 0: until the context is full)"},
    {"temperature", OPTION_NUMBER, offsetof(sampling_settings, temperature), "X", 0, 100,
     "0: always the likeliest token (default)"},
    {"top-k", OPTION_U32, offsetof(sampling_settings, top_k), "N", 0, OPTION_COUNT_MAX - 1,
     "sample from the N likeliest tokens (0: from all)"},
    {"top-p", OPTION_NUMBER, offsetof(sampling_settings, top_p), "P", 0, 1,
     "sample from the likeliest tokens that together have probability P (1: from all)"},
    {"min-p", OPTION_NUMBER, offsetof(sampling_settings, min_p), "P", 0, 1,
     "only tokens with at least P times the likeliest one's probability (0: off)"},
    {"repetition-penalty", OPTION_NUMBER, offsetof(sampling_settings, repetition_penalty), "X", 0.01, 100,
     "above 1 makes tokens of prompt and answer less likely (1: off)"},
    {"presence-penalty", OPTION_NUMBER, offsetof(sampling_settings, presence_penalty), "X", -100, 100,
     "taken from the logit of a token that the answer has (0: off)"},
    {"frequency-penalty", OPTION_NUMBER, offsetof(sampling_settings, frequency_penalty), "X", -100, 100,
     "the same, for each time that the answer has it (0: off)"},
    {"logit-bias", OPTION_LIST, offsetof(sampling_settings, logit_bias), "ID=VALUE", 0, 0,
     "added to the logit of token ID; may be repeated"},
    {"seed", OPTION_U64, offsetof(sampling_settings, seed), "N", 0, 0,
     "the same seed gives the same answer (default: a new one each time)"},
    {"model-sampling", OPTION_FLAG, offsetof(sampling_settings, model_sampling), NULL, 0, 0,
     "start from the model's generation_config.json instead of greedy"},
    {"stop", OPTION_LIST, offsetof(sampling_settings, stop), "TEXT", 0, 0,
     "end the answer before TEXT; may be repeated"},
    {"stop-token", OPTION_LIST, offsetof(sampling_settings, stop_tokens), "ID", 0, 0,
     "end the answer at token ID; may be repeated"},
    {"ignore-eos", OPTION_FLAG, offsetof(sampling_settings, ignore_eos), NULL, 0, 0,
     "go on after the model's end-of-text token"},
};
const size_t sampling_spec_count = sizeof sampling_specs / sizeof sampling_specs[0];

sampling_settings sampling_settings_default(void) {
    return (sampling_settings){
        .temperature = NAN,
        .top_p = NAN,
        .min_p = NAN,
        .top_k = NOT_GIVEN,
        .repetition_penalty = NAN,
        .presence_penalty = NAN,
        .frequency_penalty = NAN,
        .max_tokens = 512,
    };
}

void sampling_settings_free(sampling_settings *settings) {
    option_list_free(&settings->logit_bias);
    option_list_free(&settings->stop);
    option_list_free(&settings->stop_tokens);
}

static void override(float *target, float given) {
    if (!isnan(given))
        *target = given;
}

static cento_sampling sampling_from(const sampling_settings *settings, const cento_engine *engine) {
    cento_sampling sampling = cento_request_default().sampling;
    if (settings->model_sampling && engine != NULL)
        sampling = cento_engine_sampling(engine);
    override(&sampling.temperature, settings->temperature);
    override(&sampling.top_p, settings->top_p);
    override(&sampling.min_p, settings->min_p);
    if (settings->top_k != NOT_GIVEN)
        sampling.top_k = settings->top_k;
    override(&sampling.repetition_penalty, settings->repetition_penalty);
    override(&sampling.presence_penalty, settings->presence_penalty);
    override(&sampling.frequency_penalty, settings->frequency_penalty);
    if (settings->seed.set) {
        sampling.seed_set = true;
        sampling.seed = settings->seed.value;
    }
    return sampling;
}

/* "ID=VALUE" */
static bool parse_logit_bias(const char *text, cento_logit_bias *bias) {
    char id[16];
    size_t id_bytes = strcspn(text, "=");
    if (text[id_bytes] == '\0' || id_bytes >= sizeof id)
        return false;
    memcpy(id, text, id_bytes);
    id[id_bytes] = '\0';
    double value;
    if (!parse_i32(id, &bias->token) || bias->token < 0 || !parse_number(text + id_bytes + 1, &value) ||
        fabs(value) > 1000)
        return false;
    bias->bias = (float)value;
    return true;
}

static int fill_lists(const command *self, const sampling_settings *settings, request_frame *frame) {
    frame->logit_bias = mem_zalloc(settings->logit_bias.count, sizeof *frame->logit_bias);
    frame->stop = mem_zalloc(settings->stop.count, sizeof *frame->stop);
    frame->stop_tokens = mem_zalloc(settings->stop_tokens.count, sizeof *frame->stop_tokens);
    if (frame->logit_bias == NULL || frame->stop == NULL || frame->stop_tokens == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    for (size_t i = 0; i < settings->logit_bias.count; i++) {
        const char *text = settings->logit_bias.items[i].text;
        if (!parse_logit_bias(text, &frame->logit_bias[i]))
            return usage_error(
                self, "--logit-bias: expected a token id, =, and a number from -1000 to 1000, found '%s'",
                text);
    }
    for (size_t i = 0; i < settings->stop.count; i++) {
        frame->stop[i] = settings->stop.items[i].text;
        if (*frame->stop[i] == '\0')
            return usage_error(self, "--stop: expected some text, found nothing");
    }
    for (size_t i = 0; i < settings->stop_tokens.count; i++) {
        const char *text = settings->stop_tokens.items[i].text;
        if (!parse_i32(text, &frame->stop_tokens[i]) || frame->stop_tokens[i] < 0)
            return usage_error(self, "--stop-token: expected a token id, found '%s'", text);
    }
    return -1;
}

int request_frame_init(const command *self, const mode_settings *mode, const sampling_settings *sampling,
                       cento_engine *engine, request_frame *frame) {
    *frame = (request_frame){.request = cento_request_default()};
    cento_request *request = &frame->request;
    cento_error error;
    if (mode->mode != NULL &&
        cento_mode_parse(mode->mode, &request->mode, &request->link_tokens, &error) != CENTO_OK)
        return usage_error(self, "--mode: expected exact, independent or link:K, found '%s'", mode->mode);
    if (mode->anchored && request->mode == CENTO_MODE_EXACT)
        return usage_error(self, "--anchored goes with --mode independent or link:K; exact needs no anchor");
    request->anchored = mode->anchored;
    request->sampling = sampling_from(sampling, engine);
    request->completion_tokens_max = sampling->max_tokens;
    request->ignore_eos = sampling->ignore_eos;
    int status = fill_lists(self, sampling, frame);
    if (status >= 0) {
        request_frame_free(frame);
        return status;
    }
    request->sampling.logit_bias = frame->logit_bias;
    request->sampling.logit_bias_count = sampling->logit_bias.count;
    request->stop = frame->stop;
    request->stop_count = sampling->stop.count;
    request->stop_tokens = frame->stop_tokens;
    request->stop_token_count = sampling->stop_tokens.count;
    return -1;
}

void request_frame_free(request_frame *frame) {
    mem_free(frame->logit_bias);
    mem_free(frame->stop);
    mem_free(frame->stop_tokens);
    *frame = (request_frame){0};
}

void mode_text(cento_mode mode, uint32_t link_tokens, char *text, size_t text_bytes) {
    if (mode == CENTO_MODE_LINK)
        snprintf(text, text_bytes, "link:%u", link_tokens);
    else
        snprintf(text, text_bytes, "%s", mode == CENTO_MODE_INDEPENDENT ? "independent" : "exact");
}

/*
 * From a request to a generation: check, copy, resolve content ids, build the prompt, lay it out, find that
 * it can fit, and allocate what steps and end will need. On the thread that submits; nothing here waits for
 * the engine's thread.
 */
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/monitor.h"
#include "base/utf8.h"
#include "generation.h"

enum {
    TEXT_BYTES_PER_TOKEN = 8, /* reserved for the answer's text; more is grown into */
    TEXT_BYTES_RESERVED_MAX = 16384,
    LOGPROB_TOKENS_RESERVED = 256,
};

/* ------------------------------------------------------------------ checks ---- */

static cento_status check_stops(const cento_request *request, cento_error *error) {
    if (request->stop_count > 0 && request->stop == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "stop is NULL, stop_count is %zu",
                         request->stop_count);
    if (request->stop_token_count > 0 && request->stop_tokens == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "stop_tokens is NULL, stop_token_count is %zu",
                         request->stop_token_count);
    for (size_t i = 0; i < request->stop_count; i++) {
        const char *stop = request->stop[i];
        if (stop == NULL || stop[0] == '\0' || !utf8_valid(stop, strlen(stop)))
            return error_set(error, CENTO_INVALID_ARGUMENT, "stop string %zu is %s", i,
                             stop == NULL || stop[0] == '\0' ? "empty" : "not valid UTF-8");
    }
    return CENTO_OK;
}

static cento_status check_request(const cento_engine *engine, const cento_request *request,
                                  cento_error *error) {
    if ((int)request->mode < CENTO_MODE_EXACT || request->mode > CENTO_MODE_LINK)
        return error_set(error, CENTO_INVALID_ARGUMENT, "mode is %d, expected one of cento_mode",
                         (int)request->mode);
    if (request->mode != CENTO_MODE_EXACT && engine->config.rope == ROPE_DYNAMIC)
        return error_set(error, CENTO_UNSUPPORTED,
                         "this model's rotary frequencies change with the prompt's length (dynamic NTK): its "
                         "chunks cannot be moved, only exact composition is possible");
    if ((int)request->retain < CENTO_RETAIN_NONE || request->retain > CENTO_RETAIN_WITHOUT_THINKING)
        return error_set(error, CENTO_INVALID_ARGUMENT, "retain is %d, expected one of cento_retain",
                         (int)request->retain);
    /* private salts are no UTF-8, so that nobody else has them */
    if (request->salt != NULL && !utf8_valid(request->salt, strlen(request->salt)))
        return error_set(error, CENTO_INVALID_ARGUMENT, "the salt is not valid UTF-8");
    TRY(sampler_validate(&request->sampling, engine->config.vocab_size, error));
    uint32_t logprobs_max =
        engine->config.vocab_size < SAMPLE_LOGPROBS_MAX ? engine->config.vocab_size : SAMPLE_LOGPROBS_MAX;
    if (request->logprobs > logprobs_max)
        return error_set(error, CENTO_INVALID_ARGUMENT, "logprobs is %u, expected at most %u",
                         request->logprobs, logprobs_max);
    return check_stops(request, error);
}

/* ------------------------------------------------------------------ copies ---- */

/* NULL when there is nothing to copy; *failed when there is no memory. */
static void *copy_list(const void *items, size_t count, size_t size, bool *failed) {
    if (count == 0)
        return NULL;
    void *copy = mem_alloc(count, size);
    if (copy == NULL)
        *failed = true;
    else
        memcpy(copy, items, count * size);
    return copy;
}

static char *copy_salt(cento_engine *engine, const char *salt) {
    if (engine->enable_reuse)
        return salt == NULL ? NULL : mem_strdup(salt);
    char private_salt[32]; /* of this request alone */
    pthread_mutex_lock(&engine->lock);
    snprintf(private_salt, sizeof private_salt, "\xFF%llu", (unsigned long long)engine->salts++);
    pthread_mutex_unlock(&engine->lock);
    return mem_strdup(private_salt);
}

static void copy_stops(const cento_request *request, cento_request *copy, bool *failed) {
    if (request->stop_count == 0)
        return;
    char **stops = mem_zalloc(request->stop_count, sizeof *stops);
    copy->stop = (const char *const *)stops;
    copy->stop_count = stops == NULL ? 0 : request->stop_count;
    *failed = *failed || stops == NULL;
    for (size_t i = 0; i < copy->stop_count; i++) {
        stops[i] = mem_strdup(request->stop[i]);
        *failed = *failed || stops[i] == NULL;
    }
}

static cento_status copy_request(cento_engine *engine, const cento_request *request, cento_request *copy,
                                 cento_error *error) {
    bool failed = false;
    *copy = *request;
    copy->pieces = NULL;
    copy->piece_count = 0;
    copy->stop = NULL;
    copy->stop_count = 0;
    copy->stop_tokens =
        copy_list(request->stop_tokens, request->stop_token_count, sizeof *copy->stop_tokens, &failed);
    copy->sampling.logit_bias = copy_list(request->sampling.logit_bias, request->sampling.logit_bias_count,
                                          sizeof *copy->sampling.logit_bias, &failed);
    copy->salt = copy_salt(engine, request->salt);
    failed = failed || (copy->salt == NULL && (request->salt != NULL || !engine->enable_reuse));
    copy_stops(request, copy, &failed);
    return failed ? error_memory(error, request->stop_token_count * sizeof *copy->stop_tokens) : CENTO_OK;
}

static void free_request(cento_request *copy) {
    for (size_t i = 0; i < copy->stop_count; i++)
        mem_free((void *)copy->stop[i]);
    mem_free((void *)copy->stop);
    mem_free((void *)copy->stop_tokens);
    mem_free((void *)copy->sampling.logit_bias);
    mem_free((void *)copy->salt);
}

/* ------------------------------------------------------------------ pieces by content id ---- */

/* The request's pieces, those that are registered chunks with their tokens. */
typedef struct piece_list {
    cento_piece *pieces;    /* (count), owned */
    context_chunk **chunks; /* (count), references; NULL: not given by content id */
    size_t count;
} piece_list;

static void free_pieces(cento_engine *engine, piece_list *list) {
    for (size_t i = 0; i < list->count && list->chunks != NULL; i++)
        chunk_registry_release(engine->registry, list->chunks[i]);
    mem_free(list->pieces);
    mem_free(list->chunks);
}

static cento_status resolve_piece(cento_engine *engine, piece_list *list, size_t index, cento_error *error) {
    cento_piece *piece = &list->pieces[index];
    digest id;
    if (piece->text != NULL || piece->tokens != NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "piece %zu (%s) has both a content_id and %s, expected one of them", index,
                         cento_kind_name(piece->kind), piece->text != NULL ? "text" : "tokens");
    if (!sha256_parse(piece->content_id, id.bytes))
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "piece %zu (%s): '%.80s' is no content id, expected 64 hex digits", index,
                         cento_kind_name(piece->kind), piece->content_id);
    context_chunk *chunk = chunk_registry_get(engine->registry, &id);
    if (chunk == NULL)
        return error_set(error, CENTO_NOT_FOUND, "piece %zu (%s): there is no chunk %s", index,
                         cento_kind_name(piece->kind), piece->content_id);
    list->chunks[index] = chunk;
    piece->tokens = chunk->tokens;
    piece->token_count = chunk->token_count;
    return CENTO_OK;
}

static cento_status resolve_pieces(cento_engine *engine, const cento_request *request, piece_list *list,
                                   cento_error *error) {
    if (request->pieces == NULL || request->piece_count == 0)
        return CENTO_OK; /* prompt_build says what it thinks of that */
    bool failed = false;
    list->pieces = copy_list(request->pieces, request->piece_count, sizeof *list->pieces, &failed);
    list->chunks = mem_zalloc(request->piece_count, sizeof(context_chunk *));
    if (failed || list->chunks == NULL)
        return error_memory(error, request->piece_count * sizeof *list->pieces);
    list->count = request->piece_count;
    for (size_t i = 0; i < list->count; i++) {
        if (list->pieces[i].content_id != NULL)
            TRY(resolve_piece(engine, list, i, error));
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ prompt and layout ---- */

static cento_status copy_parts(const prompt *built, const cento_piece *pieces, cento_generation *generation,
                               cento_error *error) {
    generation->parts = mem_alloc(built->part_count, sizeof *generation->parts);
    generation->chunks = mem_zalloc(built->part_count, sizeof(context_chunk *));
    if (generation->parts == NULL || generation->chunks == NULL)
        return error_memory(error, built->part_count * sizeof *generation->parts);
    generation->part_count = built->part_count;
    for (size_t i = 0; i < built->part_count; i++) {
        const prompt_part *part = &built->parts[i];
        bool is_template = part->piece == PROMPT_TEMPLATE;
        generation->parts[i] =
            (layout_part){.token_begin = part->token_begin,
                          .token_count = part->token_count,
                          .is_template = is_template,
                          .kind = is_template ? CENTO_KIND_SYSTEM : pieces[part->piece].kind,
                          .content_id = part->content_id};
    }
    return CENTO_OK;
}

/* Every piece becomes a chunk; where the table is full of chunks in use, the prompt does without. */
static cento_status claim_chunks(const prompt *built, const piece_list *list, cento_generation *generation,
                                 cento_error *error) {
    chunk_registry *registry = generation->engine->registry;
    for (size_t i = 0; i < built->part_count; i++) {
        const prompt_part *part = &built->parts[i];
        if (part->piece == PROMPT_TEMPLATE)
            continue;
        context_chunk **chunk = &generation->chunks[i];
        const cento_piece *piece = &list->pieces[part->piece];
        *chunk = list->chunks[part->piece];
        list->chunks[part->piece] = NULL;
        if (*chunk == NULL) {
            cento_error full;
            cento_status status = chunk_registry_acquire(registry, piece->kind, &part->content_id,
                                                         built->tokens.ids + part->token_begin,
                                                         part->token_count, piece->label, chunk, NULL, &full);
            if (status == CENTO_POOL_FULL)
                *chunk = NULL;
            else if (status != CENTO_OK)
                return error_set(error, status, "%s", full.message);
        }
        if (*chunk != NULL)
            chunk_registry_touch(registry, *chunk);
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ room ---- */

static cento_status refuse_pages(const cento_generation *generation, uint64_t chunk_pages,
                                 uint64_t sequence_pages, cento_error *error) {
    const page_manager *pages = chunk_registry_pages(generation->engine->registry);
    if (pages->borrow)
        return error_set(
            error, CENTO_POOL_FULL,
            "a prompt of %u tokens and an answer of %u need %llu KV pages of %u tokens, the pool "
            "has %u",
            generation->prompt_tokens, generation->answer_tokens_max,
            (unsigned long long)(chunk_pages + sequence_pages), pages->page_tokens, pages->page_count);
    return error_set(
        error, CENTO_POOL_FULL,
        "a prompt of %u tokens and an answer of %u need %llu KV pages of %u tokens for chunks and "
        "%llu for themselves, the pool has %u and %u",
        generation->prompt_tokens, generation->answer_tokens_max, (unsigned long long)chunk_pages,
        pages->page_tokens, (unsigned long long)sequence_pages, pages->shares[PAGE_CHUNK],
        pages->shares[PAGE_SEQUENCE]);
}

/* How long the answer may be, or why there can be none. */
static cento_status find_room(cento_generation *generation, cento_error *error) {
    const cento_engine *engine = generation->engine;
    const page_manager *pages = chunk_registry_pages(engine->registry);
    uint32_t context = engine->limits.context_tokens_max, prompt_tokens = generation->prompt_tokens;
    if (prompt_tokens >= context)
        return error_set(error, CENTO_CONTEXT_FULL,
                         "the prompt has %u tokens, the context holds %u, of which at least one is for the "
                         "answer",
                         prompt_tokens, context);
    uint32_t wanted = generation->request.completion_tokens_max;
    uint32_t room = context - prompt_tokens;
    uint32_t limit = wanted == 0 || wanted > room ? room : wanted;
    uint32_t own_tokens = generation->layout.own_tokens;
    uint64_t chunk_pages = cascade_layout_chunk_pages(&generation->layout, pages);
    uint64_t chunk_limit = pages->borrow ? pages->page_count : pages->shares[PAGE_CHUNK];
    uint64_t sequence_limit =
        pages->borrow
            ? pages->page_count - (chunk_pages < pages->page_count ? chunk_pages : pages->page_count)
            : pages->shares[PAGE_SEQUENCE];
    uint64_t sequence_tokens = sequence_limit * pages->page_tokens;
    if (wanted == 0 && sequence_tokens > own_tokens && limit > sequence_tokens - own_tokens)
        limit = (uint32_t)(sequence_tokens - own_tokens); /* as much as there is: of the pool, too */
    generation->answer_tokens_max = limit;
    if (chunk_pages > chunk_limit || own_tokens + (uint64_t)limit > sequence_tokens)
        return refuse_pages(generation, chunk_pages,
                            page_manager_pages_for(pages, own_tokens + (uint64_t)limit), error);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ what steps and end will need ---- */

static uint64_t system_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = clock_now_ns();
    return seed;
}

static cento_status allocate_tokens(cento_generation *generation, const int32_t *tokens, cento_error *error) {
    uint64_t count = (uint64_t)generation->prompt_tokens + generation->answer_tokens_max;
    generation->tokens = mem_alloc((size_t)count, sizeof *generation->tokens);
    if (generation->tokens == NULL)
        return error_memory(error, (size_t)count * sizeof *generation->tokens);
    memcpy(generation->tokens, tokens, generation->prompt_tokens * sizeof *tokens);
    return CENTO_OK;
}

static cento_status allocate_result(cento_generation *generation, cento_error *error) {
    generation->result = mem_zalloc(1, sizeof *generation->result);
    cento_segment *segments = mem_zalloc(generation->part_count, sizeof *segments);
    if (generation->result == NULL || segments == NULL) {
        mem_free(segments);
        return error_memory(error, generation->part_count * sizeof *segments);
    }
    cento_result *result = &generation->result->result;
    generation_describe(generation, segments);
    result->segments = segments;
    result->segment_count = generation->part_count;
    result->mode = generation->request.mode;
    result->link_tokens = generation->request.link_tokens;
    result->usage.prompt_tokens = generation->prompt_tokens;
    return CENTO_OK;
}

static cento_status allocate_answer(cento_generation *generation, cento_error *error) {
    const cento_engine *engine = generation->engine;
    const cento_request *request = &generation->request;
    uint32_t answer_tokens = generation->answer_tokens_max;
    answer_text_init(&generation->text, engine->format.tokens, request->stop, request->stop_count);
    size_t text_bytes = (size_t)answer_tokens * TEXT_BYTES_PER_TOKEN;
    strbuf_reserve(&generation->text.text,
                   text_bytes < TEXT_BYTES_RESERVED_MAX ? text_bytes : TEXT_BYTES_RESERVED_MAX);
    TRY(strbuf_check(&generation->text.text, error));
    if (request->logprobs > 0) {
        size_t width = 1 + (size_t)request->logprobs;
        size_t count = answer_tokens < LOGPROB_TOKENS_RESERVED ? answer_tokens : LOGPROB_TOKENS_RESERVED;
        if (!mem_grow((void **)&generation->logprobs, &generation->logprob_capacity, count * width,
                      sizeof *generation->logprobs))
            return error_memory(error, count * width * sizeof *generation->logprobs);
    }
    uint64_t seed = request->sampling.seed_set ? 0 : system_seed();
    return sampler_state_init(&generation->sampler, &request->sampling, engine->config.vocab_size, seed,
                              generation->tokens, generation->prompt_tokens, answer_tokens, error);
}

/* ------------------------------------------------------------------ making one ---- */

static cento_status new_generation(cento_engine *engine, cento_generation **result, cento_error *error) {
    cento_generation *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    fresh->cancels = atomic_load(&engine->cancels);
    fresh->start_ns = clock_now_ns();
    fresh->engine = engine;
    atomic_store(&fresh->refs, 1);
    if (!monitor_init(&fresh->lock, &fresh->changed)) {
        mem_free(fresh);
        return error_memory(error, sizeof fresh->lock + sizeof fresh->changed);
    }
    *result = fresh;
    return CENTO_OK;
}

static void set_options(cento_generation *generation) {
    const cento_engine *engine = generation->engine;
    const cento_request *request = &generation->request;
    generation->options = (layout_options){
        .mode = request->mode,
        .link_tokens = request->link_tokens,
        .anchored = request->anchored,
        .scope = engine_kv_scope(engine, request->salt),
        .tokenizer_fingerprint = engine_tokenizer_fingerprint(engine),
    };
    generation->progress = engine->on_progress;
    generation->progress_user = engine->on_progress_user;
}

static void set_sequence(cento_generation *generation) {
    generation->sequence = (cascade_sequence){
        .layout = &generation->layout,
        .options = &generation->options,
        .chunks = generation->chunks,
        .tokens = generation->tokens,
        .token_capacity = generation->prompt_tokens + generation->answer_tokens_max,
        .prompt_tokens = generation->prompt_tokens,
        .answer_tokens_max = generation->answer_tokens_max,
        .priority = generation->request.priority,
        .user = generation,
    };
}

static cento_status fill(cento_generation *generation, const cento_request *request, piece_list *list,
                         prompt *built, bool claim, cento_error *error) {
    cento_engine *engine = generation->engine;
    TRY(copy_request(engine, request, &generation->request, error));
    TRY(resolve_pieces(engine, request, list, error));
    TRY(prompt_build(&engine->format, list->pieces, list->count, request->raw, built, error));
    set_options(generation);
    generation->prompt_tokens = (uint32_t)built->tokens.count;
    TRY(copy_parts(built, list->pieces, generation, error));
    TRY(cascade_layout_build(built->tokens.ids, generation->prompt_tokens, generation->parts,
                             generation->part_count, &generation->options, &generation->layout, error));
    generation->segment_cached =
        mem_zalloc(generation->layout.segment_count, sizeof *generation->segment_cached);
    if (generation->segment_cached == NULL)
        return error_memory(error, generation->layout.segment_count * sizeof *generation->segment_cached);
    TRY(find_room(generation, error));
    TRY(allocate_tokens(generation, built->tokens.ids, error));
    if (!claim)
        return CENTO_OK;
    TRY(allocate_result(generation, error));
    TRY(allocate_answer(generation, error));
    TRY(claim_chunks(built, list, generation, error));
    set_sequence(generation);
    return CENTO_OK;
}

cento_status generation_create(cento_engine *engine, const cento_request *request, bool claim,
                               cento_generation **result, cento_error *error) {
    TRY(check_request(engine, request, error));
    cento_generation *fresh;
    TRY(new_generation(engine, &fresh, error));
    piece_list list = {0};
    prompt built = {0};
    cento_status status = fill(fresh, request, &list, &built, claim, error);
    prompt_free(&built);
    free_pieces(engine, &list);
    if (status == CENTO_OK) {
        *result = fresh;
    } else {
        generation_drop_chunks(fresh);
        generation_release(fresh);
    }
    return status;
}

static cento_status fill_alone(cento_generation *generation, context_chunk *chunk, cento_error *error) {
    const cento_engine *engine = generation->engine;
    generation->internal = true;
    generation->request = cento_request_default();
    set_options(generation);
    generation->prompt_tokens = chunk->token_count;
    generation->parts = mem_zalloc(1, sizeof *generation->parts);
    generation->chunks = mem_zalloc(1, sizeof(context_chunk *));
    if (generation->parts == NULL || generation->chunks == NULL)
        return error_memory(error, sizeof *generation->parts);
    generation->parts[0] = (layout_part){
        .token_count = chunk->token_count, .kind = CENTO_KIND_CONTEXT, .content_id = chunk->content_id};
    generation->part_count = 1;
    TRY(cascade_layout_alone(&generation->parts[0], &generation->options, &generation->layout, error));
    const page_manager *pages = chunk_registry_pages(engine->registry);
    uint64_t chunk_pages = cascade_layout_chunk_pages(&generation->layout, pages);
    if (chunk_pages > (pages->borrow ? pages->page_count : pages->shares[PAGE_CHUNK]))
        return refuse_pages(generation, chunk_pages, 0, error);
    TRY(allocate_tokens(generation, chunk->tokens, error));
    TRY(allocate_result(generation, error));
    answer_text_init(&generation->text, engine->format.tokens, NULL, 0);
    set_sequence(generation);
    return CENTO_OK;
}

cento_status generation_create_alone(cento_engine *engine, context_chunk *chunk, cento_generation **result,
                                     cento_error *error) {
    cento_generation *fresh = NULL;
    cento_status status = new_generation(engine, &fresh, error);
    if (status == CENTO_OK)
        status = fill_alone(fresh, chunk, error);
    if (status == CENTO_OK) {
        fresh->chunks[0] = chunk;
        *result = fresh;
        return CENTO_OK;
    }
    chunk_registry_release(engine->registry, chunk);
    if (fresh != NULL)
        generation_release(fresh);
    return status;
}

void generation_describe(const cento_generation *generation, cento_segment *segments) {
    for (size_t i = 0; i < generation->part_count; i++) {
        const layout_part *part = &generation->parts[i];
        segments[i] = (cento_segment){.kind = part->kind,
                                      .kind_is_template = part->is_template,
                                      .tokens = part->token_count,
                                      .offset = part->token_begin};
        sha256_hex(part->content_id.bytes, segments[i].content_id);
    }
}

void generation_drop_chunks(cento_generation *generation) {
    for (size_t i = 0; i < generation->part_count && generation->chunks != NULL; i++) {
        chunk_registry_release(generation->engine->registry, generation->chunks[i]);
        generation->chunks[i] = NULL;
    }
}

void generation_release(cento_generation *generation) {
    if (atomic_fetch_sub(&generation->refs, 1) != 1)
        return;
    if (generation->result != NULL)
        cento_result_free(&generation->result->result);
    free_request(&generation->request);
    mem_free(generation->tokens);
    mem_free(generation->parts);
    mem_free(generation->chunks);
    cascade_layout_free(&generation->layout);
    mem_free(generation->segment_cached);
    sampler_state_free(&generation->sampler);
    mem_free(generation->logprobs);
    answer_text_free(&generation->text);
    pthread_cond_destroy(&generation->changed);
    pthread_mutex_destroy(&generation->lock);
    mem_free(generation);
}

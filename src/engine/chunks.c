/* Registered chunks: the part of the public API that names chunks without a request. On the caller's thread;
 * only computing one is left to the engine's. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "generation.h"

static double seconds_between(uint64_t begin_ns, uint64_t end_ns) {
    return end_ns > begin_ns ? (double)(end_ns - begin_ns) * 1e-9 : 0;
}

static void describe(const chunk_entry *entry, cento_chunk_info *info) {
    uint64_t now_ns = clock_now_ns();
    *info =
        (cento_chunk_info){.kind = entry->kind,
                           .tokens = entry->tokens,
                           .uses = entry->uses,
                           .users = entry->users,
                           .pins = entry->pins,
                           .kv_bytes = entry->kv_bytes,
                           .kv_states = entry->kv_states,
                           .age_s = seconds_between(entry->created_ns, now_ns),
                           .idle_s = seconds_between(entry->last_use_ns, now_ns),
                           .ttl_s = entry->expires_ns == 0 ? -1 : seconds_between(now_ns, entry->expires_ns)};
    sha256_hex(entry->content_id.bytes, info->content_id);
    memcpy(info->label, entry->label, sizeof info->label);
}

/* ------------------------------------------------------------------ adding ---- */

/* The KV of one chunk, computed with nothing before it. Takes over the reference. */
static cento_status compute_alone(cento_engine *engine, context_chunk *chunk, cento_error *error) {
    cento_generation *generation;
    TRY(generation_create_alone(engine, chunk, &generation, error));
    cento_status status = engine_enter_queue(engine, error);
    if (status != CENTO_OK) {
        generation_drop_chunks(generation);
        generation_release(generation);
        return status;
    }
    generation_submit(generation);
    cento_wait(generation, -1);
    pthread_mutex_lock(&generation->lock);
    status = generation->status;
    if (status != CENTO_OK)
        error_set(error, status, "%s", generation->error.message);
    pthread_mutex_unlock(&generation->lock);
    cento_generation_free(generation);
    return status;
}

static cento_status check_addable(const cento_engine *engine, const cento_piece *piece, bool compute,
                                  cento_error *error) {
    if (piece->content_id != NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "a chunk is added by its text or its tokens, not by a content_id");
    if (compute && engine->config.rope == ROPE_DYNAMIC)
        return error_set(error, CENTO_UNSUPPORTED,
                         "this model's rotary frequencies change with the prompt's length (dynamic NTK): a "
                         "chunk computed alone could not be used");
    return CENTO_OK;
}

static cento_status add(cento_engine *engine, const cento_piece *piece, bool compute, token_vec *tokens,
                        digest *content_id, cento_error *error) {
    TRY(check_addable(engine, piece, compute, error));
    TRY(prompt_piece_tokens(&engine->format, piece, 0, tokens, error));
    if (tokens->count >= engine->limits.context_tokens_max)
        return error_set(error, CENTO_CONTEXT_FULL, "the chunk has %zu tokens, the context holds %u",
                         tokens->count, engine->limits.context_tokens_max);
    TRY(content_id_of(engine_tokenizer_fingerprint(engine), tokens->ids, tokens->count, content_id, error));
    context_chunk *chunk;
    TRY(chunk_registry_acquire(engine->registry, piece->kind, content_id, tokens->ids,
                               (uint32_t)tokens->count, piece->label, &chunk, NULL, error));
    if (compute)
        return compute_alone(engine, chunk, error);
    chunk_registry_release(engine->registry, chunk);
    return CENTO_OK;
}

cento_status cento_chunk_add(cento_engine *engine, const cento_piece *piece, bool compute,
                             cento_chunk_info *info, cento_error *error) {
    if (engine == NULL || piece == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL", engine == NULL ? "engine" : "piece");
    token_vec tokens = {0};
    chunk_entry entry = {.kind = piece->kind};
    digest content_id;
    cento_error ignored;
    cento_status status = add(engine, piece, compute, &tokens, &content_id, error);
    entry.tokens = (uint32_t)tokens.count;
    token_vec_free(&tokens);
    if (status == CENTO_OK && info != NULL) {
        entry.content_id = content_id;
        entry.created_ns = entry.last_use_ns = clock_now_ns();
        /* where somebody has removed it already, what it was */
        (void)chunk_registry_describe(engine->registry, &content_id, &entry, &ignored);
        describe(&entry, info);
    }
    return status;
}

/* ------------------------------------------------------------------ by content id ---- */

static cento_status read_id(const cento_engine *engine, const char *content_id, digest *id,
                            cento_error *error) {
    if (engine == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "engine is NULL");
    if (content_id == NULL || !sha256_parse(content_id, id->bytes))
        return error_set(error, CENTO_INVALID_ARGUMENT, "'%.80s' is no content id, expected 64 hex digits",
                         content_id == NULL ? "" : content_id);
    return CENTO_OK;
}

cento_status cento_chunk_get(cento_engine *engine, const char *content_id, cento_chunk_info *info,
                             cento_error *error) {
    digest id;
    chunk_entry entry;
    if (info == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "info is NULL");
    TRY(read_id(engine, content_id, &id, error));
    TRY(chunk_registry_describe(engine->registry, &id, &entry, error));
    describe(&entry, info);
    return CENTO_OK;
}

cento_status cento_chunk_pin(cento_engine *engine, const char *content_id, cento_error *error) {
    digest id;
    TRY(read_id(engine, content_id, &id, error));
    return chunk_registry_pin(engine->registry, &id, error);
}

cento_status cento_chunk_unpin(cento_engine *engine, const char *content_id, cento_error *error) {
    digest id;
    TRY(read_id(engine, content_id, &id, error));
    return chunk_registry_unpin(engine->registry, &id, error);
}

cento_status cento_chunk_set_ttl(cento_engine *engine, const char *content_id, double ttl_s,
                                 cento_error *error) {
    digest id;
    TRY(read_id(engine, content_id, &id, error));
    if (!(ttl_s >= 0 && ttl_s <= 1e9))
        return error_set(error, CENTO_INVALID_ARGUMENT, "ttl_s is %g, expected 0 (never) to 1e9 seconds",
                         ttl_s);
    uint64_t ttl_ns = (uint64_t)(ttl_s * 1e9);
    return chunk_registry_set_ttl(engine->registry, &id, ttl_s > 0 && ttl_ns == 0 ? 1 : ttl_ns, error);
}

cento_status cento_chunk_remove(cento_engine *engine, const char *content_id, cento_error *error) {
    digest id;
    TRY(read_id(engine, content_id, &id, error));
    return chunk_registry_remove(engine->registry, &id, error);
}

size_t cento_chunk_clear(cento_engine *engine) {
    return engine == NULL ? 0 : chunk_registry_clear(engine->registry);
}

cento_status cento_chunk_list(cento_engine *engine, cento_chunk_info **infos, size_t *count,
                              cento_error *error) {
    if (engine == NULL || infos == NULL || count == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL  ? "engine"
                         : infos == NULL ? "infos"
                                         : "count");
    chunk_entry *entries = NULL;
    size_t found;
    TRY(chunk_registry_list(engine->registry, &entries, &found, error));
    cento_chunk_info *described = mem_alloc(found, sizeof *described);
    for (size_t i = 0; i < found && described != NULL; i++)
        describe(&entries[i], &described[i]);
    mem_free(entries);
    if (described == NULL)
        return error_memory(error, found * sizeof *described);
    *infos = described;
    *count = found;
    return CENTO_OK;
}

/* Registered chunks: the part of the public API that names chunks without a request. */
#include <string.h>

#include "base/mem.h"
#include "sequence.h"

static cento_chunk_info info_of(const chunk_entry *entry) {
    cento_chunk_info info = {.kind = entry->kind,
                             .tokens = entry->tokens,
                             .uses = entry->uses,
                             .kv_bytes = entry->kv_bytes,
                             .kv_states = entry->kv_states};
    sha256_hex(entry->content_id.bytes, info.content_id);
    memcpy(info.label, entry->label, sizeof info.label);
    return info;
}

/* The KV of one chunk, computed with nothing before it. */
static cento_status compute_alone(cento_engine *engine, const cento_piece *piece, const prompt *built,
                                  cento_error *error) {
    if (engine->config.rope == ROPE_DYNAMIC)
        return error_set(error, CENTO_UNSUPPORTED,
                         "this model's rotary frequencies change with the prompt's length (dynamic NTK): a "
                         "chunk computed alone could not be used");
    const kv_scope scope = engine_kv_scope(engine, NULL);
    composition_node node = {
        .kind = CENTO_KIND_CONTEXT, .apart = true, .token_count = built->parts[0].token_count};
    TRY(composition_alone_id(&scope, &built->parts[0].content_id, &node.kv_id, error));
    const composition laid_out = {.nodes = &node, .node_count = 1};
    sequence state = {0};
    cento_status status = sequence_begin(engine, built, &laid_out, piece, 0, &state, error);
    if (status == CENTO_OK)
        status = sequence_prefill(&state, error);
    sequence_end(&state);
    return status;
}

static cento_status add(cento_engine *engine, const cento_piece *piece, bool compute, prompt *built,
                        cento_chunk_info *info, cento_error *error) {
    TRY(prompt_build(&engine->format, piece, 1, true, built, error));
    /* without what the tokenizer puts before a text: the piece's own part is the last one */
    const prompt_part part = built->parts[built->part_count - 1];
    memmove(built->tokens.ids, built->tokens.ids + part.token_begin,
            part.token_count * sizeof *built->tokens.ids);
    built->tokens.count = part.token_count;
    built->part_count = 1;
    built->parts[0] = part;
    built->parts[0].token_begin = 0;
    if (part.token_count >= engine->context_tokens_max)
        return error_set(error, CENTO_CONTEXT_FULL, "the chunk has %u tokens, the context holds %u",
                         part.token_count, engine->context_tokens_max);
    context_chunk *chunk;
    chunk_entry entry;
    TRY(chunk_registry_acquire(engine->registry, piece->kind, &part.content_id, built->tokens.ids,
                               part.token_count, piece->label, &chunk, NULL, error));
    cento_status status = compute ? compute_alone(engine, piece, built, error) : CENTO_OK;
    if (status == CENTO_OK && info != NULL) {
        status = chunk_registry_describe(engine->registry, &part.content_id, &entry, error);
        if (status == CENTO_OK)
            *info = info_of(&entry);
    }
    chunk_registry_release(engine->registry, chunk);
    return status;
}

cento_status cento_chunk_add(cento_engine *engine, const cento_piece *piece, bool compute,
                             cento_chunk_info *info, cento_error *error) {
    if (engine == NULL || piece == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL", engine == NULL ? "engine" : "piece");
    pthread_mutex_lock(&engine->lock);
    atomic_store(&engine->run_state, ENGINE_RUNNING);
    prompt built = {0};
    cento_status status = add(engine, piece, compute, &built, info, error);
    prompt_free(&built);
    atomic_store(&engine->run_state, ENGINE_IDLE);
    pthread_mutex_unlock(&engine->lock);
    return status;
}

cento_status cento_chunk_remove(cento_engine *engine, const char *content_id, cento_error *error) {
    digest id;
    if (engine == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "engine is NULL");
    if (content_id == NULL || !sha256_parse(content_id, id.bytes))
        return error_set(error, CENTO_INVALID_ARGUMENT, "'%.80s' is no content id, expected 64 hex digits",
                         content_id == NULL ? "" : content_id);
    pthread_mutex_lock(&engine->lock);
    cento_status status = chunk_registry_remove(engine->registry, &id, error);
    pthread_mutex_unlock(&engine->lock);
    return status;
}

static cento_status list(cento_engine *engine, cento_chunk_info **infos, size_t *count, cento_error *error) {
    chunk_entry *entries;
    size_t entry_count;
    TRY(chunk_registry_list(engine->registry, &entries, &entry_count, error));
    cento_chunk_info *described = mem_alloc(entry_count, sizeof *described);
    for (size_t i = 0; described != NULL && i < entry_count; i++)
        described[i] = info_of(&entries[i]);
    mem_free(entries);
    if (described == NULL)
        return error_memory(error, entry_count * sizeof *described);
    *infos = described;
    *count = entry_count;
    return CENTO_OK;
}

cento_status cento_chunk_list(cento_engine *engine, cento_chunk_info **infos, size_t *count,
                              cento_error *error) {
    if (engine == NULL || infos == NULL || count == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL  ? "engine"
                         : infos == NULL ? "infos"
                                         : "count");
    pthread_mutex_lock(&engine->lock);
    cento_status status = list(engine, infos, count, error);
    pthread_mutex_unlock(&engine->lock);
    return status;
}

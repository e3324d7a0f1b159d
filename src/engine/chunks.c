/* Registered chunks: the part of the public API that names chunks without a request. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sequence.h"

static void describe(const cento_engine *engine, const context_chunk *chunk, cento_chunk_info *info) {
    *info = (cento_chunk_info){.kind = chunk->kind, .tokens = chunk->token_count, .uses = chunk->uses};
    sha256_hex(chunk->content_id.bytes, info->content_id);
    memcpy(info->label, chunk->label, sizeof info->label);
    for (const chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk) {
        info->kv_bytes += (uint64_t)kv->run->page_count * engine->page_bytes;
        info->kv_states++;
    }
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
    bool known;
    TRY(chunk_registry_acquire(engine->registry, piece->kind, &part.content_id, built->tokens.ids,
                               part.token_count, piece->label, &chunk, &known, error));
    if (known)
        engine->registry->hits++;
    cento_status status = compute ? compute_alone(engine, piece, built, error) : CENTO_OK;
    if (status == CENTO_OK && info != NULL)
        describe(engine, chunk, info);
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
    context_chunk *chunk = chunk_registry_find(engine->registry, &id);
    if (chunk != NULL)
        chunk_registry_remove(engine->registry, chunk);
    pthread_mutex_unlock(&engine->lock);
    return chunk == NULL ? error_set(error, CENTO_NOT_FOUND, "there is no chunk %s", content_id) : CENTO_OK;
}

static int by_last_use(const void *left, const void *right) {
    const context_chunk *a = *(const context_chunk *const *)left, *b = *(const context_chunk *const *)right;
    return a->last_use < b->last_use ? 1 : a->last_use > b->last_use ? -1 : 0;
}

static cento_status list(cento_engine *engine, cento_chunk_info **infos, size_t *count, cento_error *error) {
    const chunk_registry *registry = engine->registry;
    size_t chunk_count = registry->chunk_count;
    const context_chunk **chunks = mem_alloc(chunk_count, sizeof *chunks);
    cento_chunk_info *described = mem_alloc(chunk_count, sizeof *described);
    if (chunks == NULL || described == NULL) {
        mem_free(chunks);
        mem_free(described);
        return error_memory(error, chunk_count * sizeof *described);
    }
    size_t found = 0;
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        const context_chunk *chunk = registry->chunks_by_use[priority].newest;
        for (; chunk != NULL; chunk = chunk->older)
            chunks[found++] = chunk;
    }
    qsort(chunks, found, sizeof *chunks, by_last_use);
    for (size_t i = 0; i < found; i++)
        describe(engine, chunks[i], &described[i]);
    mem_free(chunks);
    *infos = described;
    *count = found;
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

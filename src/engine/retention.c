/*
 * Answers that become chunks. As it was given, an answer's KV is handed on as it is. Without its thoughts it
 * stands behind the prompt as it never did: the kept tokens are a part of a prompt of their own, which is
 * computed like any other (what is cached is not) before the result is handed out. Whatever fails here, the
 * answer is not the worse for it: it only has no output_id then.
 *
 * Engine thread.
 */
#include <string.h>

#include "base/mem.h"
#include "loop.h"

#define THINK_OPEN  "<think>"
#define THINK_CLOSE "</think>"

/* ------------------------------------------------------------------ without the thoughts ---- */

/* An answer's text, and where each token's part of it ends. */
typedef struct spelled_answer {
    strbuf text;
    size_t *ends; /* (token_count) */
} spelled_answer;

static cento_status spell(const tokenizer *tokens, const int32_t *ids, uint32_t count, spelled_answer *answer,
                          cento_error *error) {
    detokenizer speller;
    answer->ends = mem_alloc(count, sizeof *answer->ends);
    if (answer->ends == NULL)
        return error_memory(error, count * sizeof *answer->ends);
    detokenizer_init(&speller, tokens, false);
    cento_status status = CENTO_OK;
    for (uint32_t i = 0; i < count && status == CENTO_OK; i++) {
        status = detokenizer_push(&speller, ids[i], &answer->text, error);
        answer->ends[i] = answer->text.bytes;
    }
    if (status == CENTO_OK)
        status = detokenizer_finish(&speller, &answer->text, error);
    if (status == CENTO_OK && count > 0)
        answer->ends[count - 1] = answer->text.bytes;
    detokenizer_free(&speller);
    return status == CENTO_OK ? strbuf_check(&answer->text, error) : status;
}

/* The next thought at or behind `from`: [*begin, *end). One that the prompt began has no opening; one that
 * did not come to its end goes to the text's. */
static bool find_thought(const strbuf *text, size_t from, size_t *begin, size_t *end) {
    if (from >= text->bytes)
        return false;
    const char *rest = text->data + from;
    size_t bytes = text->bytes - from;
    const char *open = memmem(rest, bytes, THINK_OPEN, strlen(THINK_OPEN));
    const char *close = memmem(rest, bytes, THINK_CLOSE, strlen(THINK_CLOSE));
    if (open == NULL && (close == NULL || from > 0))
        return false;
    if (from == 0 && close != NULL && (open == NULL || close < open))
        open = rest;
    else
        close = memmem(open, bytes - (size_t)(open - rest), THINK_CLOSE, strlen(THINK_CLOSE));
    *begin = (size_t)(open - text->data);
    *end = close == NULL ? text->bytes : (size_t)(close - text->data) + strlen(THINK_CLOSE);
    return true;
}

/* A token of which a part lies in a thought gives what is left of its text. */
static cento_status keep_text(const tokenizer *tokens, const spelled_answer *answer, size_t begin, size_t end,
                              token_vec *kept, cento_error *error) {
    return begin >= end
               ? CENTO_OK
               : tokenizer_encode(tokens, answer->text.data + begin, end - begin, false, false, kept, error);
}

static cento_status keep_outside(const tokenizer *tokens, const int32_t *ids, uint32_t count,
                                 const spelled_answer *answer, token_vec *kept, cento_error *error) {
    size_t thought_begin = 0, thought_end = 0, at = 0;
    bool thought = find_thought(&answer->text, 0, &thought_begin, &thought_end);
    for (uint32_t i = 0; i < count; i++) {
        size_t end = answer->ends[i];
        while (thought && thought_end <= at)
            thought = find_thought(&answer->text, thought_end, &thought_begin, &thought_end);
        if (!thought || end <= thought_begin) {
            TRY(token_vec_push(kept, ids[i], error)); /* all of it lies before the thought */
        } else if (at < thought_begin || end > thought_end) {
            if (at < thought_begin)
                TRY(keep_text(tokens, answer, at, thought_begin, kept, error));
            TRY(keep_text(tokens, answer, thought_end > at ? thought_end : at, end, kept, error));
        }
        at = end;
    }
    return CENTO_OK;
}

static cento_status without_thoughts(const tokenizer *tokens, const int32_t *ids, uint32_t count,
                                     token_vec *kept, cento_error *error) {
    spelled_answer answer = {0};
    cento_status status = spell(tokens, ids, count, &answer, error);
    if (status == CENTO_OK)
        status = keep_outside(tokens, ids, count, &answer, kept, error);
    strbuf_free(&answer.text);
    mem_free(answer.ends);
    return status;
}

/* ------------------------------------------------------------------ the answer as it is ---- */

static cento_status register_output(cento_engine *engine, const int32_t *tokens, uint32_t token_count,
                                    digest *content_id, context_chunk **chunk, cento_error *error) {
    TRY(content_id_of(engine_tokenizer_fingerprint(engine), tokens, token_count, content_id, error));
    return chunk_registry_acquire(engine->registry, CENTO_KIND_OUTPUT, content_id, tokens, token_count, NULL,
                                  chunk, NULL, error);
}

static void retain_answer(cento_generation *generation) {
    cento_engine *engine = generation->engine;
    context_chunk *chunk = NULL;
    digest content_id;
    cento_error ignored;
    if (register_output(engine, generation->tokens + generation->prompt_tokens, generation->answer_tokens,
                        &content_id, &chunk, &ignored) == CENTO_OK)
        sha256_hex(content_id.bytes, generation->result->result.output_id);
    loop_remove_sequence(generation, chunk);
    chunk_registry_release(engine->registry, chunk);
}

/* ------------------------------------------------------------------ what is computed again ---- */

static void free_retention(cento_engine *engine, retention *kept, size_t part_count) {
    if (kept->chunks != NULL)
        chunk_registry_release(engine->registry, kept->chunks[part_count]);
    mem_free(kept->tokens);
    mem_free(kept->parts);
    mem_free(kept->chunks);
    cascade_layout_free(&kept->layout);
    mem_free(kept);
}

static cento_status copy_prompt(const cento_generation *generation, const token_vec *answer, retention *kept,
                                cento_error *error) {
    size_t part_count = generation->part_count;
    kept->token_count = generation->prompt_tokens + (uint32_t)answer->count;
    kept->tokens = mem_alloc(kept->token_count, sizeof *kept->tokens);
    kept->parts = mem_alloc(part_count + 1, sizeof *kept->parts);
    kept->chunks = mem_zalloc(part_count + 1, sizeof(context_chunk *));
    if (kept->tokens == NULL || kept->parts == NULL || kept->chunks == NULL)
        return error_memory(error, kept->token_count * sizeof *kept->tokens);
    memcpy(kept->tokens, generation->tokens, generation->prompt_tokens * sizeof *kept->tokens);
    memcpy(kept->tokens + generation->prompt_tokens, answer->ids, answer->count * sizeof *answer->ids);
    memcpy(kept->parts, generation->parts, part_count * sizeof *kept->parts);
    memcpy(kept->chunks, generation->chunks, part_count * sizeof(context_chunk *));
    return CENTO_OK;
}

static cento_status begin_computing(cento_generation *generation, const token_vec *answer, retention *kept,
                                    cento_error *error) {
    cento_engine *engine = generation->engine;
    size_t part_count = generation->part_count;
    TRY(copy_prompt(generation, answer, kept, error));
    TRY(register_output(engine, answer->ids, (uint32_t)answer->count, &kept->content_id,
                        &kept->chunks[part_count], error));
    kept->parts[part_count] = (layout_part){.token_begin = generation->prompt_tokens,
                                            .token_count = (uint32_t)answer->count,
                                            .kind = CENTO_KIND_OUTPUT,
                                            .content_id = kept->content_id};
    kept->options = generation->options;
    kept->options.keeps_all = true;
    TRY(cascade_layout_build(kept->tokens, kept->token_count, kept->parts, part_count + 1, &kept->options,
                             &kept->layout, error));
    kept->sequence = (cascade_sequence){.layout = &kept->layout,
                                        .options = &kept->options,
                                        .chunks = kept->chunks,
                                        .tokens = kept->tokens,
                                        .token_capacity = kept->token_count,
                                        .prompt_tokens = kept->token_count,
                                        .priority = generation->request.priority,
                                        .user = generation};
    TRY(cascade_scheduler_submit(engine->scheduler, &kept->sequence, error));
    kept->submitted = true;
    return CENTO_OK;
}

static bool compute_again(cento_generation *generation, const token_vec *answer) {
    cento_engine *engine = generation->engine;
    cento_error ignored;
    loop_remove_sequence(generation, NULL);
    retention *kept = mem_zalloc(1, sizeof *kept);
    if (kept == NULL)
        return false;
    if (begin_computing(generation, answer, kept, &ignored) != CENTO_OK) {
        free_retention(engine, kept, generation->part_count);
        return false;
    }
    generation->kept = kept;
    return true;
}

bool retention_begin(cento_generation *generation) {
    cento_engine *engine = generation->engine;
    cento_retain retain = generation->request.retain;
    /* ended: cancelled while it waited, in the round that admitted it; the result is the caller's already */
    if (retain == CENTO_RETAIN_NONE || generation->answer_tokens == 0 || generation->ended)
        return false;
    const int32_t *answer = generation->tokens + generation->prompt_tokens;
    token_vec kept = {0};
    cento_error ignored;
    cento_status status = CENTO_OK;
    if (retain == CENTO_RETAIN_WITHOUT_THINKING)
        status = without_thoughts(engine->format.tokens, answer, generation->answer_tokens, &kept, &ignored);
    bool whole = status == CENTO_OK && kept.count == generation->answer_tokens &&
                 memcmp(kept.ids, answer, kept.count * sizeof *answer) == 0;
    bool computing = false;
    if (retain == CENTO_RETAIN_ANSWER || whole)
        retain_answer(generation);
    else if (status == CENTO_OK && kept.count > 0)
        computing = compute_again(generation, &kept);
    token_vec_free(&kept);
    return computing;
}

void retention_end(cento_generation *generation, bool computed) {
    retention *kept = generation->kept;
    cento_engine *engine = generation->engine;
    if (kept == NULL)
        return;
    cento_result *result = &generation->result->result;
    result->usage.retained_tokens_computed = (uint32_t)kept->sequence.rows_computed;
    result->usage.computed_tokens += (uint32_t)kept->sequence.rows_computed;
    result->usage.preemptions += kept->sequence.preemptions;
    if (computed)
        sha256_hex(kept->content_id.bytes, result->output_id);
    if (kept->submitted)
        cascade_scheduler_remove(engine->scheduler, &kept->sequence, engine->enable_reuse, NULL);
    free_retention(engine, kept, generation->part_count);
    generation->kept = NULL;
}

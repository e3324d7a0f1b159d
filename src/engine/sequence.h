/*
 * sequence: one prompt being computed and answered. It claims KV for the nodes of its composition (held ones
 * first, then pages for the rest), computes what is missing in as few forward passes as the token budget
 * allows, and then grows by one token at a time.
 *
 * Each pass is a list of rows in an order in which everything a row sees is computed in an earlier pass or
 * the same one: the text before the first document, chunks computed apart, the rest by position. In one pass
 * the backend writes all rows' keys before any row attends, so a chunk and the query that reads it may be in
 * the same pass.
 *
 * It writes only pages of its own, and pages of KV behind what is ready. References are dropped by
 * sequence_end, which never frees what somebody else sees.
 */
#ifndef CENTO_ENGINE_SEQUENCE_H
#define CENTO_ENGINE_SEQUENCE_H

#include "composition.h"
#include "engine.h"

/* Tokens of one node to be computed, consecutive in node and positions. */
typedef struct sequence_work {
    size_t node; /* or COMPOSITION_OWN */
    uint32_t node_token;
    uint32_t position;
    uint32_t token_count;
    const int32_t *tokens; /* (token_count) borrowed from the prompt */
    bool apart;
    bool repeats_last; /* the prompt's last token, computed again for its logits alone */
} sequence_work;

typedef struct sequence {
    cento_engine *engine;
    const prompt *built;
    const composition *laid_out;

    chunk_kv **kvs;         /* (laid_out->node_count), references; NULL: not claimed */
    uint32_t *ready_before; /* (node_count) tokens ready when claimed */
    context_chunk **chunks; /* (built->part_count), references; NULL: template text */
    page_run *own;          /* the own node's KV */
    uint32_t own_ready;     /* tokens of it that are computed */

    sequence_work *work; /* owned */
    size_t work_count, work_capacity;
    uint64_t work_tokens;

    uint32_t position; /* of the next token: prompt + answer tokens that are computed */
} sequence;

/* Zero-initialise *state before; sequence_end in any case. completion_tokens: room that the answer will need,
 * counted against the pool now but taken as it grows. POOL_FULL, with nothing evicted, if prompt and answer
 * cannot fit. */
cento_status sequence_begin(cento_engine *engine, const prompt *built, const composition *laid_out,
                            const cento_piece *pieces, uint32_t completion_tokens, sequence *state,
                            cento_error *error);
/* Answer tokens for which the pool has room beside the prompt. */
uint32_t sequence_completion_room(const cento_engine *engine, const composition *laid_out);
/* Computes what is missing; engine->logits are then those of the prompt's last token. CANCELLED if
 * engine_is_cancelled() became true; what was computed until then is kept. */
cento_status sequence_prefill(sequence *state, cento_error *error);
/* Computes one token of the answer; engine->logits are then its. Room must have been reserved. */
cento_status sequence_step(sequence *state, int32_t token, cento_error *error);
/* Makes sure that the own node has pages for so many answer tokens. */
cento_status sequence_reserve(sequence *state, uint32_t answer_tokens, cento_error *error);
/* Hands the own node to the registry, under the answer's chunk, for a later turn. Best effort: what cannot be
 * kept is dropped, and the answer is not the worse for it. */
void sequence_keep_answer(sequence *state, const composition_options *options, const int32_t *answer,
                          size_t answer_tokens);
void sequence_end(sequence *state);

#endif

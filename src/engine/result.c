/* What a request gives back: text, tokens, and where every token of the prompt came from. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "generate.h"

/* What the prompt's parts add up to. */
typedef struct account {
    uint32_t exact, approximate; /* tokens that were there */
    uint32_t recomputed;
    uint32_t computed_twice; /* rows beyond one for each prompt token that was not there */
} account;

/* Tokens of a segment whose KV was there before this request; in a chunk's second place in the prompt, all.
 */
static uint32_t cached_tokens(const generation *done, size_t index) {
    const composition_segment *segment = &done->laid_out.segments[index];
    if (segment->node == COMPOSITION_OWN)
        return 0;
    if (done->laid_out.nodes[segment->node].apart) {
        for (size_t i = 0; i < index; i++) {
            if (done->laid_out.segments[i].node == segment->node)
                return segment->token_count;
        }
    }
    uint32_t ready = done->state.ready_before[segment->node];
    uint32_t cached = ready <= segment->node_token ? 0 : ready - segment->node_token;
    return cached < segment->token_count ? cached : segment->token_count;
}

static bool is_apart(const generation *done, const composition_segment *segment) {
    return segment->node != COMPOSITION_OWN && done->laid_out.nodes[segment->node].apart;
}

static cento_source source_of(bool apart, bool exact, uint32_t cached, uint32_t token_count) {
    if (apart && !exact)
        return CENTO_SOURCE_APPROXIMATE;
    if (2 * (uint64_t)cached <
        token_count) /* the lesser part was there: of an answer, all but its last token */
        return CENTO_SOURCE_COMPUTED;
    return exact ? CENTO_SOURCE_EXACT : CENTO_SOURCE_APPROXIMATE;
}

/* The segments of one part, from *index on, make one segment of the result. */
static void account_for_part(const generation *done, size_t *index, account *sum, cento_segment *described) {
    const composition *laid_out = &done->laid_out;
    size_t part = laid_out->segments[*index].part;
    const prompt_part *source = &done->built.parts[part];
    uint32_t cached_in_part = 0;
    bool apart = false, exact = true;
    for (; *index < laid_out->segment_count && laid_out->segments[*index].part == part; ++*index) {
        const composition_segment *segment = &laid_out->segments[*index];
        uint32_t cached = cached_tokens(done, *index);
        bool ends_prompt = *index + 1 == laid_out->segment_count;
        if (ends_prompt && done->state.work_count > 0 &&
            done->state.work[done->state.work_count - 1].repeats_last) {
            /* its last token went through the model for its logits, wherever its KV came from */
            if (cached == segment->token_count)
                cached--;
            else
                sum->computed_twice++;
        }
        *(segment->exact ? &sum->exact : &sum->approximate) += cached;
        if (segment->link_head)
            sum->recomputed += segment->token_count - cached;
        if (is_apart(done, segment)) {
            apart = true;
            uint32_t ready = done->state.ready_before[segment->node];
            if (cached < segment->token_count && ready < segment->node_token)
                sum->computed_twice += segment->node_token - ready;
        }
        exact = exact && segment->exact;
        cached_in_part += cached;
    }
    bool is_template = source->piece == PROMPT_TEMPLATE;
    *described = (cento_segment){
        .kind = is_template ? CENTO_KIND_SYSTEM : done->request->pieces[source->piece].kind,
        .kind_is_template = is_template,
        .tokens = source->token_count,
        .offset = source->token_begin,
        .source = source_of(apart, exact, cached_in_part, source->token_count),
    };
    sha256_hex(source->content_id.bytes, described->content_id);
}

static double per_second(double count, double ms) {
    return ms > 0 ? count / ms * 1e3 : 0;
}

static double ms_between(uint64_t begin_ns, uint64_t end_ns) {
    return end_ns > begin_ns ? (double)(end_ns - begin_ns) * 1e-6 : 0;
}

static void fill_timing(const generation *done, uint32_t prompt_computed, cento_timing *timing) {
    timing->prefill_ms = ms_between(done->begin_ns, done->prefilled_ns);
    timing->prefill_tokens_per_s = per_second(prompt_computed, timing->prefill_ms);
    if (done->first_token_ns == 0)
        return;
    timing->ttft_ms = ms_between(done->start_ns, done->first_token_ns);
    timing->decode_ms = ms_between(done->first_token_ns, done->end_ns);
    timing->decode_tokens_per_s = per_second(done->steps, timing->decode_ms);
}

/* The arrays of a result; NULL stays where there is nothing. */
static cento_status allocate(const generation *done, cento_result *result, cento_segment **segments,
                             cento_error *error) {
    size_t text_bytes = done->text.certain;
    size_t logprob_count =
        done->request->logprobs == 0 ? 0 : done->answer.count * (1 + (size_t)done->request->logprobs);
    int32_t *tokens = mem_alloc(done->answer.count, sizeof *tokens);
    cento_token_logprob *logprobs = logprob_count == 0 ? NULL : mem_alloc(logprob_count, sizeof *logprobs);
    *segments = mem_alloc(done->built.part_count, sizeof **segments);
    result->tokens = tokens;
    result->logprobs = logprobs;
    result->segments = *segments;
    result->text = mem_strndup(done->text.text.data == NULL ? "" : done->text.text.data, text_bytes);
    if (tokens == NULL || *segments == NULL || result->text == NULL ||
        (logprob_count > 0 && logprobs == NULL))
        return error_memory(error, text_bytes + done->answer.count * sizeof *tokens +
                                       done->built.part_count * sizeof **segments);
    if (done->answer.count > 0)
        memcpy(tokens, done->answer.ids, done->answer.count * sizeof *tokens);
    if (logprob_count > 0)
        memcpy(logprobs, done->logprobs, logprob_count * sizeof *logprobs);
    result->text_bytes = text_bytes;
    result->token_count = done->answer.count;
    result->logprobs_per_token = done->request->logprobs == 0 ? 0 : 1 + (size_t)done->request->logprobs;
    return CENTO_OK;
}

cento_status result_create(generation *done, cento_result **result, cento_error *error) {
    cento_result *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    cento_segment *segments;
    cento_status status = allocate(done, fresh, &segments, error);
    if (status != CENTO_OK) {
        cento_result_free(fresh);
        return status;
    }
    account sum = {0};
    for (size_t index = 0; index < done->laid_out.segment_count;)
        account_for_part(done, &index, &sum, &segments[fresh->segment_count++]);
    assert(fresh->segment_count == done->built.part_count);
    uint64_t forward_tokens = engine_forward_tokens(done->engine) - done->forward_tokens_before;
    fresh->finish = done->finish;
    fresh->mode = done->request->mode;
    fresh->link_tokens = done->request->link_tokens;
    fresh->usage = (cento_usage){
        .prompt_tokens = (uint32_t)done->built.tokens.count,
        .completion_tokens = (uint32_t)done->answer.count,
        .cached_tokens = sum.exact + sum.approximate,
        .exact_tokens = sum.exact,
        .approximate_tokens = sum.approximate,
        .recomputed_tokens = sum.recomputed,
        .computed_tokens = (uint32_t)forward_tokens,
    };
    /* the bookkeeping and the backend's counter are independent, and must agree */
    bool whole = done->state.position > 0;
    uint64_t expected =
        (uint64_t)fresh->usage.prompt_tokens - fresh->usage.cached_tokens + sum.computed_twice + done->steps;
    assert(!whole || forward_tokens == expected);
    if (whole && forward_tokens != expected) {
        cento_result_free(fresh);
        return error_set(error, CENTO_INTERNAL, "%llu tokens were computed, the accounts say %llu",
                         (unsigned long long)forward_tokens, (unsigned long long)expected);
    }
    fill_timing(done, (uint32_t)(forward_tokens - done->steps), &fresh->timing);
    *result = fresh;
    return CENTO_OK;
}

void cento_result_free(cento_result *result) {
    if (result == NULL)
        return;
    mem_free(result->text);
    mem_free((void *)result->tokens);
    mem_free((void *)result->segments);
    mem_free((void *)result->logprobs);
    mem_free(result);
}

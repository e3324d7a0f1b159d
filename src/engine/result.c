/* What a request gives back: text, tokens, and where every token of the prompt came from. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "generation.h"

static bool is_apart(const cascade_layout *layout, const layout_segment *segment) {
    return segment->node < layout->node_count && layout->nodes[segment->node].apart;
}

static cento_source source_of(bool apart, bool exact, uint32_t cached, uint32_t token_count) {
    if (apart && !exact)
        return CENTO_SOURCE_APPROXIMATE;
    if (2 * (uint64_t)cached <
        token_count) /* the lesser part was there: of an answer, all but its last token */
        return CENTO_SOURCE_COMPUTED;
    return exact ? CENTO_SOURCE_EXACT : CENTO_SOURCE_APPROXIMATE;
}

cached_sums result_describe_cached(const cento_generation *generation, cento_segment *segments) {
    const cascade_layout *layout = &generation->layout;
    cached_sums sums = {0};
    for (size_t index = 0; index < layout->segment_count;) {
        size_t part = layout->segments[index].part;
        bool apart = false, exact = true;
        uint32_t cached = 0;
        for (; index < layout->segment_count && layout->segments[index].part == part; index++) {
            const layout_segment *segment = &layout->segments[index];
            uint32_t there = generation->segment_cached[index];
            *(segment->exact ? &sums.exact : &sums.approximate) += there;
            if (segment->link_head)
                sums.recomputed += segment->token_count - there;
            apart = apart || is_apart(layout, segment);
            exact = exact && segment->exact;
            cached += there;
        }
        segments[part].cached_tokens = cached;
        segments[part].source = source_of(apart, exact, cached, segments[part].tokens);
    }
    return sums;
}

/* Tokens that this request did not compute, of those that its prefill has come to. */
static void count_cached(cento_generation *generation) {
    const cascade_layout *layout = &generation->layout;
    const cascade_sequence *sequence = &generation->sequence;
    for (size_t i = 0; i < layout->segment_count; i++) {
        const layout_segment *segment = &layout->segments[i];
        uint32_t cached = 0;
        for (uint32_t j = segment->position; j < segment->position + segment->token_count; j++)
            cached += j < sequence->computed_count && sequence->row_counts[j] == 0;
        generation->segment_cached[i] = cached;
    }
}

static uint64_t prompt_rows(const cascade_sequence *sequence) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < sequence->prompt_tokens; i++)
        rows += sequence->row_counts[i];
    return rows;
}

static double per_second(double count, double ms) {
    return ms > 0 ? count / ms * 1e3 : 0;
}

static double ms_between(uint64_t begin_ns, uint64_t end_ns) {
    return end_ns > begin_ns ? (double)(end_ns - begin_ns) * 1e-6 : 0;
}

static void fill_timing(const cento_generation *generation, uint64_t prefill_rows, uint64_t decode_rows,
                        cento_timing *timing) {
    uint64_t begin_ns = generation->begin_ns == 0 ? generation->end_ns : generation->begin_ns;
    uint64_t prefilled_ns = generation->prefilled_ns == 0 ? generation->end_ns : generation->prefilled_ns;
    timing->queue_ms = ms_between(generation->start_ns, begin_ns);
    timing->prefill_ms = ms_between(begin_ns, prefilled_ns);
    timing->prefill_tokens_per_s = per_second((double)prefill_rows, timing->prefill_ms);
    if (generation->first_token_ns == 0)
        return;
    timing->ttft_ms = ms_between(generation->start_ns, generation->first_token_ns);
    timing->decode_ms = ms_between(generation->first_token_ns, generation->end_ns);
    timing->decode_tokens_per_s = per_second((double)decode_rows, timing->decode_ms);
}

cento_status result_account(cento_generation *generation, cento_error *error) {
    const cascade_sequence *sequence = &generation->sequence;
    cento_result *result = &generation->result->result;
    count_cached(generation);
    cached_sums sums = result_describe_cached(generation, (cento_segment *)result->segments);
    uint64_t prefill_rows = prompt_rows(sequence);
    uint64_t decode_rows = sequence->computed_count > sequence->prompt_tokens
                               ? sequence->computed_count - sequence->prompt_tokens
                               : 0;
    generation->cached_tokens = sums.exact + sums.approximate;
    result->usage.completion_tokens = generation->answer_tokens;
    result->usage.cached_tokens = generation->cached_tokens;
    result->usage.exact_tokens = sums.exact;
    result->usage.approximate_tokens = sums.approximate;
    result->usage.recomputed_tokens = sums.recomputed;
    result->usage.computed_tokens = (uint32_t)sequence->rows_computed;
    result->usage.preemptions = sequence->preemptions;
    fill_timing(generation, prefill_rows, decode_rows, &result->timing);
    /* the tokens' counts and the steps' are independent, and must agree where nothing was computed again */
    bool agree = sequence->preemptions > 0 || sequence->rows_computed == prefill_rows + decode_rows;
    assert(agree);
    if (!agree)
        return error_set(error, CENTO_INTERNAL, "%llu tokens were computed, the accounts say %llu",
                         (unsigned long long)sequence->rows_computed,
                         (unsigned long long)(prefill_rows + decode_rows));
    return CENTO_OK;
}

void result_complete(cento_generation *generation) {
    result_storage *storage = generation->result;
    cento_result *result = &storage->result;
    strbuf *text = &generation->text.text;
    size_t text_bytes = generation->text.certain;
    result->text = text->data;
    result->text[text_bytes] = '\0';
    result->text_bytes = text_bytes;
    *text = (strbuf){0};
    generation->text.certain = generation->text.shown = 0;
    generation->deltas_off = true;
    if (!generation->released) /* cancelled while it waited: its tokens may still be looked at */
        return;
    storage->tokens = generation->tokens;
    generation->tokens = NULL;
    result->tokens = storage->tokens + generation->prompt_tokens;
    result->token_count = generation->answer_tokens;
    if (generation->request.logprobs > 0) {
        result->logprobs = generation->logprobs;
        result->logprobs_per_token = 1 + (size_t)generation->request.logprobs;
        generation->logprobs = NULL;
    }
}

void cento_result_free(cento_result *result) {
    if (result == NULL)
        return;
    result_storage *storage = (result_storage *)result;
    mem_free(result->text);
    mem_free(storage->tokens);
    mem_free((void *)result->segments);
    mem_free((void *)result->logprobs);
    mem_free(storage);
}

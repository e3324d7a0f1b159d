/* Results as JSON and tables; see result.h. */
#include "result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "settings.h"

/* ---------------------------------------------------------------------------------- JSON --- */

/* JSON has no infinity and no NaN: such a measure is null */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *usage_to_json(const cento_usage *usage) {
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "prompt_tokens", (json_int_t)usage->prompt_tokens,
        "completion_tokens", (json_int_t)usage->completion_tokens, "cached_tokens",
        (json_int_t)usage->cached_tokens, "exact_tokens", (json_int_t)usage->exact_tokens,
        "approximate_tokens", (json_int_t)usage->approximate_tokens, "recomputed_tokens",
        (json_int_t)usage->recomputed_tokens, "computed_tokens", (json_int_t)usage->computed_tokens,
        "retained_tokens_computed", (json_int_t)usage->retained_tokens_computed, "preemptions",
        (json_int_t)usage->preemptions);
}

static json_t *timing_to_json(const cento_timing *timing, double load_ms) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "load_ms", number(load_ms), "queue_ms",
                     number(timing->queue_ms), "ttft_ms", number(timing->ttft_ms), "prefill_tokens_per_s",
                     number(timing->prefill_tokens_per_s), "decode_tokens_per_s",
                     number(timing->decode_tokens_per_s));
}

static json_t *segments_to_json(const cento_result *result) {
    json_t *segments = json_array();
    for (size_t i = 0; i < result->segment_count; i++) {
        const cento_segment *segment = &result->segments[i];
        json_array_append_new(
            segments,
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:s}", "kind",
                      segment->kind_is_template ? "template" : cento_kind_name(segment->kind), "content_id",
                      segment->content_id, "tokens", (json_int_t)segment->tokens, "offset",
                      (json_int_t)segment->offset, "cached_tokens", (json_int_t)segment->cached_tokens,
                      "source", cento_source_name(segment->source)));
    }
    return segments;
}

static json_t *token_to_json(const cento_tokenizer *tokenizer, const cento_token_logprob *entry) {
    char *text = NULL;
    size_t bytes = 0;
    json_t *spelled = NULL;
    if (cento_detokenize(tokenizer, &entry->token, 1, false, &text, &bytes, NULL) == CENTO_OK)
        spelled = json_stringn(text, bytes);
    cento_free(text);
    return json_pack("{s:I, s:o, s:o}", "token", (json_int_t)entry->token, "text",
                     spelled == NULL ? json_null() : spelled, "logprob", number((double)entry->logprob));
}

static json_t *logprobs_to_json(const cento_result *result, const cento_tokenizer *tokenizer) {
    json_t *tokens = json_array();
    for (size_t i = 0; i < result->token_count; i++) {
        const cento_token_logprob *entries = result->logprobs + i * result->logprobs_per_token;
        json_t *chosen = token_to_json(tokenizer, &entries[0]);
        json_t *top = json_array();
        for (size_t j = 1; j < result->logprobs_per_token; j++)
            json_array_append_new(top, token_to_json(tokenizer, &entries[j]));
        json_object_set_new(chosen, "top", top);
        json_array_append_new(tokens, chosen);
    }
    return tokens;
}

json_t *result_to_json(const cento_result *result, double load_ms, const cento_tokenizer *tokenizer) {
    char mode[32];
    mode_text(result->mode, result->link_tokens, mode, sizeof mode);
    json_t *object = json_pack(
        "{s:s%, s:s, s:s, s:o, s:o, s:o}", "text", result->text, result->text_bytes, "finish_reason",
        cento_finish_name(result->finish), "mode", mode, "usage", usage_to_json(&result->usage), "timing",
        timing_to_json(&result->timing, load_ms), "segments", segments_to_json(result));
    if (object != NULL && result->output_id[0] != '\0')
        json_object_set_new(object, "output_id", json_string(result->output_id));
    if (object != NULL && result->logprobs != NULL && tokenizer != NULL)
        json_object_set_new(object, "logprobs", logprobs_to_json(result, tokenizer));
    return object;
}

int print_json(json_t *value) {
    if (value == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(7) | JSON_ENCODE_ANY);
    json_decref(value);
    if (text == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    output_write(text, strlen(text));
    output_write("\n", 1);
    free(text); /* jansson's own allocation */
    return output_finish();
}

/* ------------------------------------------------------------------------------- people --- */

void stats_table_init(table *rows) {
    static const char *const heading[] = {"query",    "prompt", "exact",       "approx.", "recomp.",
                                          "computed", "answer", "first token", "decode"};
    table_init(rows, "rrrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof heading[0]; i++)
        table_add(rows, "%s", heading[i]);
}

void stats_table_add(table *rows, size_t number_of_query, const cento_result *result) {
    const cento_usage *usage = &result->usage;
    table_add(rows, "%zu", number_of_query);
    table_add(rows, "%u", usage->prompt_tokens);
    table_add(rows, "%u", usage->exact_tokens);
    table_add(rows, "%u", usage->approximate_tokens);
    table_add(rows, "%u", usage->recomputed_tokens);
    table_add(rows, "%u", usage->computed_tokens);
    table_add(rows, "%u", usage->completion_tokens);
    table_add(rows, "%.1f ms", result->timing.ttft_ms);
    table_add(rows, "%.0f/s", result->timing.decode_tokens_per_s);
}

void append_summary(strbuf *line, const cento_result *result) {
    const cento_usage *usage = &result->usage;
    append_count(line, usage->prompt_tokens);
    strbuf_puts(line, " prompt tokens, ");
    append_count(line, usage->cached_tokens);
    strbuf_puts(line, " reused");
    if (usage->approximate_tokens > 0) {
        strbuf_puts(line, " (");
        append_count(line, usage->approximate_tokens);
        strbuf_puts(line, " approximate)");
    }
    strbuf_printf(line, ", %.0f ms; %u answered", result->timing.ttft_ms, usage->completion_tokens);
    if (result->timing.decode_tokens_per_s > 0)
        strbuf_printf(line, ", %.0f/s", result->timing.decode_tokens_per_s);
}

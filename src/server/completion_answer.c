/*
 * Completions: begun, waited for, and answered, as one object or as server-sent events
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http.h"

#define PING_NS 10000000000u /* silence after which a comment is sent, so that nobody between gives up */

/* ------------------------------------------------------------------------------ values ------ */

static json_t *usage_json(const cento_result *result) {
    const cento_usage *usage = &result->usage;
    char mode[32];
    if (result->mode == CENTO_MODE_LINK)
        snprintf(mode, sizeof mode, "link:%u", result->link_tokens);
    else
        snprintf(mode, sizeof mode, "%s", result->mode == CENTO_MODE_INDEPENDENT ? "independent" : "exact");
    return json_pack(
        "{s:I, s:I, s:I, s:{s:I}, s:{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s?}}", "prompt_tokens",
        (json_int_t)usage->prompt_tokens, "completion_tokens", (json_int_t)usage->completion_tokens,
        "total_tokens", (json_int_t)usage->prompt_tokens + usage->completion_tokens, "prompt_tokens_details",
        "cached_tokens", (json_int_t)usage->cached_tokens, "cento", "mode", mode, "exact_tokens",
        (json_int_t)usage->exact_tokens, "approximate_tokens", (json_int_t)usage->approximate_tokens,
        "recomputed_tokens", (json_int_t)usage->recomputed_tokens, "computed_tokens",
        (json_int_t)usage->computed_tokens, "retained_tokens_computed",
        (json_int_t)usage->retained_tokens_computed, "preemptions", (json_int_t)usage->preemptions,
        "queue_ms", result->timing.queue_ms, "ttft_ms", result->timing.ttft_ms, "output_id",
        result->output_id[0] == '\0' ? NULL : result->output_id);
}

static const char *object_name(const exchange *self) {
    if (self->completion.kind == COMPLETION_TEXT)
        return "text_completion";
    return self->completion.stream ? "chat.completion.chunk" : "chat.completion";
}

/* The object around `choices`, whose reference it takes. */
static json_t *envelope(const exchange *self, json_t *choices) {
    char id[REQUEST_ID_BYTES + 16];
    snprintf(id, sizeof id, "%s-%s", self->completion.kind == COMPLETION_CHAT ? "chatcmpl" : "cmpl",
             self->id);
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", id, "object", object_name(self), "created",
                     (json_int_t)self->created, "model", self->server->model_name, "choices", choices);
}

/* {"token", "logprob", "bytes"} */
static json_t *logprob_json(const exchange *self, const cento_token_logprob *one) {
    char *text = NULL;
    size_t bytes = 0;
    if (cento_detokenize(self->server->tokenizer, &one->token, 1, false, &text, &bytes, NULL) != CENTO_OK)
        return NULL;
    json_t *spelled = json_array();
    for (size_t i = 0; i < bytes; i++)
        json_array_append_new(spelled, json_integer((unsigned char)text[i]));
    /* JSON has no infinity; OpenAI's API says -9999 for what is next to impossible */
    double logprob = (double)one->logprob < -9999 ? -9999 : (double)one->logprob;
    json_t *value = json_pack("{s:s%, s:f, s:o}", "token", text, bytes, "logprob", logprob, "bytes", spelled);
    cento_free(text);
    return value;
}

static json_t *logprobs_json(const exchange *self, const cento_result *result) {
    json_t *content = json_array();
    bool top = field_of(self->completion.root, "top_logprobs") != NULL;
    for (size_t i = 0; result->logprobs != NULL && i < result->token_count; i++) {
        const cento_token_logprob *of_token = result->logprobs + i * result->logprobs_per_token;
        json_t *token = logprob_json(self, of_token), *likeliest = json_array();
        for (size_t j = 1; top && j < result->logprobs_per_token; j++)
            json_array_append_new(likeliest, logprob_json(self, of_token + j));
        json_object_set_new(token, "top_logprobs", likeliest);
        json_array_append_new(content, token);
    }
    return json_pack("{s:o}", "content", content);
}

static json_t *whole_json(const exchange *self, const cento_result *result) {
    const char *finish = cento_finish_name(result->finish);
    json_t *choice;
    if (self->completion.kind == COMPLETION_TEXT)
        choice = json_pack("{s:i, s:s%, s:n, s:s}", "index", 0, "text", result->text, result->text_bytes,
                           "logprobs", "finish_reason", finish);
    else
        choice = json_pack("{s:i, s:{s:s, s:s%, s:n}, s:o, s:s}", "index", 0, "message", "role", "assistant",
                           "content", result->text, result->text_bytes, "refusal", "logprobs",
                           self->completion.logprobs ? logprobs_json(self, result) : json_null(),
                           "finish_reason", finish);
    json_t *value = envelope(self, json_pack("[o]", choice));
    json_object_set_new(value, "usage", usage_json(result));
    return value;
}

/* ------------------------------------------------------------------------------ events ------ */

/* Takes the reference. */
static void put_event(exchange *self, json_t *value) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (text == NULL) {
        self->sending.failed = true;
        return;
    }
    strbuf_puts(&self->sending, "data: ");
    strbuf_puts(&self->sending, text);
    strbuf_puts(&self->sending, "\n\n");
    free(text);
}

/* A part of the answer; finish: NULL while there is more. */
static json_t *delta_json(const exchange *self, const char *text, size_t bytes, bool first,
                          const char *finish) {
    json_t *choice;
    if (self->completion.kind == COMPLETION_TEXT) {
        choice = json_pack("{s:i, s:s%, s:n, s:s?}", "index", 0, "text", text, bytes, "logprobs",
                           "finish_reason", finish);
    } else {
        json_t *delta = json_object();
        if (first)
            json_object_set_new(delta, "role", json_string("assistant"));
        if (finish == NULL)
            json_object_set_new(delta, "content", json_stringn(text, bytes));
        choice = json_pack("{s:i, s:o, s:n, s:s?}", "index", 0, "delta", delta, "logprobs", "finish_reason",
                           finish);
    }
    json_t *value = envelope(self, json_pack("[o]", choice));
    if (self->completion.include_usage)
        json_object_set_new(value, "usage", json_null());
    return value;
}

static cento_status take_result(exchange *self, cento_result **result, cento_error *error) {
    TRY(cento_generation_result(self->generation, result, error));
    self->used = true;
    self->usage = (*result)->usage;
    return CENTO_OK;
}

static bool stream_delta(void *user, const cento_delta *delta) {
    exchange *self = user;
    if (delta->text_bytes > 0)
        put_event(self, delta_json(self, delta->text, delta->text_bytes, false, NULL));
    return true;
}

/* The end of a stream, whatever it was. */
static void put_end(exchange *self) {
    cento_result *result = NULL;
    cento_error error;
    api_error problem;
    if (take_result(self, &result, &error) == CENTO_OK) {
        put_event(self, delta_json(self, "", 0, false, cento_finish_name(result->finish)));
        if (self->completion.include_usage) {
            json_t *last = envelope(self, json_array());
            json_object_set_new(last, "usage", usage_json(result));
            put_event(self, last);
        }
    } else {
        api_error_from(&problem, &error);
        put_event(self, api_error_json(&problem));
    }
    cento_result_free(result);
    strbuf_puts(&self->sending, "data: [DONE]\n\n");
    self->finished = true;
}

static ssize_t read_stream(void *of, uint64_t position, char *buffer, size_t bytes_max) {
    exchange *self = of;
    (void)position;
    for (;;) {
        if (self->sending.failed)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        size_t left = self->sending.bytes - self->sent;
        if (left > 0) {
            size_t bytes = left < bytes_max ? left : bytes_max;
            memcpy(buffer, self->sending.data + self->sent, bytes);
            self->sent += bytes;
            self->written_ns = clock_now_ns();
            return (ssize_t)bytes;
        }
        strbuf_clear(&self->sending);
        self->sent = 0;
        if (self->finished)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (cento_poll(self->generation))
            put_end(self);
        if (self->sending.bytes > 0 || self->sending.failed)
            continue;
        if (exchange_is_abandoned(self))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (clock_now_ns() - self->written_ns > PING_NS)
            strbuf_puts(&self->sending, ": waiting\n\n");
        else if (!exchange_await(self))
            return 0;
    }
}

/* ---------------------------------------------------------------------------- the whole ------ */

enum MHD_Result completion_begin(exchange *self, completion_kind kind) {
    server *of = self->server;
    completion_request *completion = &self->completion;
    cento_sampling sampling = cento_engine_sampling(of->engine);
    cento_error error;
    api_error problem;
    if (!completion_request_read(completion, kind, self->body.data, self->body.bytes, of->model_name,
                                 &sampling, &problem))
        return exchange_send_error(self, &problem);
    completion->request.on_ready = exchange_wake;
    completion->request.on_ready_user = self;
    if (completion->stream) {
        completion->request.on_delta = stream_delta;
        completion->request.on_delta_user = self;
    }
    if (cento_submit(of->engine, &completion->request, &self->generation, &error) != CENTO_OK)
        return exchange_send_failure(self, &error);
    if (!completion->stream)
        return completion_go_on(self);
    if (kind == COMPLETION_CHAT)
        put_event(self, delta_json(self, "", 0, true, NULL));
    return exchange_send_stream(self, read_stream);
}

enum MHD_Result completion_go_on(exchange *self) {
    cento_result *result = NULL;
    cento_error error;
    while (!cento_poll(self->generation)) {
        if (exchange_is_abandoned(self))
            return MHD_NO;
        if (!exchange_await(self))
            return MHD_YES;
    }
    if (take_result(self, &result, &error) != CENTO_OK) {
        cento_result_free(result); /* of what was cancelled */
        return exchange_send_failure(self, &error);
    }
    json_t *value = whole_json(self, result);
    cento_result_free(result);
    return exchange_send_json(self, 200, value);
}

/* /tokenize and /detokenize: text to token ids and back. */
#include "http.h"

static enum MHD_Result answer(exchange *self, json_t *root, api_error *problem, json_t *value) {
    json_decref(root);
    return value == NULL ? exchange_send_error(self, problem) : exchange_send_json(self, 200, value);
}

/* {"prompt", "add_special_tokens"} → {"count", "max_model_len", "tokens"} */
enum MHD_Result tokenize_answer(exchange *self) {
    api_error problem;
    cento_error error;
    json_t *root = NULL, *value = NULL;
    const char *text;
    int32_t *tokens = NULL;
    size_t count = 0;
    bool add_special = true;
    if (!body_read(self->body.data, self->body.bytes, &root, &problem) ||
        !field_bool(root, "add_special_tokens", &add_special, &problem))
        return answer(self, root, &problem, NULL);
    const json_t *prompt = field_of(root, "prompt");
    text = json_string_value(prompt);
    if (text == NULL) {
        api_error_set(&problem, 400, "missing", "prompt", "'prompt' must be a string");
        return answer(self, root, &problem, NULL);
    }
    if (cento_tokenize(self->server->tokenizer, text, json_string_length(prompt), add_special, false, &tokens,
                       &count, &error) != CENTO_OK) {
        api_error_from(&problem, &error);
        return answer(self, root, &problem, NULL);
    }
    json_t *ids = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(ids, json_integer(tokens[i]));
    cento_free(tokens);
    value = json_pack("{s:I, s:I, s:o}", "count", (json_int_t)count, "max_model_len",
                      (json_int_t)self->server->context_tokens, "tokens", ids);
    if (value == NULL)
        api_error_memory(&problem);
    return answer(self, root, &problem, value);
}

/* {"tokens"} → {"prompt"} */
enum MHD_Result detokenize_answer(exchange *self) {
    enum { MEMORY_MAX = 64 << 20 };
    api_error problem;
    cento_error error;
    json_t *root = NULL, *value = NULL;
    arena memory;
    const int32_t *tokens;
    size_t count = 0, bytes = 0;
    char *text = NULL;
    arena_init(&memory, MEMORY_MAX);
    if (!body_read(self->body.data, self->body.bytes, &root, &problem))
        return answer(self, root, &problem, NULL);
    if (!json_is_array(field_of(root, "tokens")))
        api_error_set(&problem, 400, "missing", "tokens", "'tokens' must be an array of token ids");
    else if (tokens_read(&memory, field_of(root, "tokens"), "tokens", &tokens, &count, &problem)) {
        if (cento_detokenize(self->server->tokenizer, tokens, count, false, &text, &bytes, &error) !=
            CENTO_OK)
            api_error_from(&problem, &error);
        else if ((value = json_pack("{s:s%}", "prompt", text, bytes)) == NULL)
            api_error_set(&problem, 400, "invalid_value", "tokens", "these tokens are no text in UTF-8");
    }
    cento_free(text);
    arena_free(&memory);
    return answer(self, root, &problem, value);
}

/* Bodies of completions; see completion_request.h. */
#include "completion_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/strbuf.h"

enum { REQUEST_MEMORY_MAX = 256 << 20, STOPS_MAX = 16, BIASES_MAX = 1024, TOP_LOGPROBS_MAX = 20 };

bool body_read(const char *body, size_t bytes, json_t **root, api_error *problem) {
    cento_error error;
    if (json_read_bytes("the body is not JSON", body == NULL ? "" : body, bytes, root, &error) != CENTO_OK)
        return api_error_set(problem, 400, "invalid_json", NULL, "%s", error.message);
    if (json_is_object(*root))
        return true;
    api_error_set(problem, 400, "invalid_json", NULL, "the body must be an object, found %s",
                  json_type_name(*root));
    json_decref(*root);
    *root = NULL;
    return false;
}

static void *allocate(arena *memory, size_t count, size_t size, api_error *problem) {
    void *made = arena_alloc(memory, count == 0 ? 1 : count, size);
    if (made == NULL)
        api_error_memory(problem);
    return made;
}

bool tokens_read(arena *memory, const json_t *array, const char *param, const int32_t **tokens, size_t *count,
                 api_error *problem) {
    *count = json_array_size(array);
    int32_t *ids = allocate(memory, *count, sizeof *ids, problem);
    if (ids == NULL)
        return false;
    for (size_t i = 0; i < *count; i++) {
        const json_t *value = json_array_get(array, i);
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > INT32_MAX)
            return api_error_set(problem, 400, "invalid_value", param,
                                 "'%s' must hold token ids, found something else at index %zu", param, i);
        ids[i] = (int32_t)id;
    }
    *tokens = ids;
    return true;
}

/* ----------------------------------------------------------------------------- messages ------ */

/* The pieces of a chat, as they are being made; there is room for all. */
typedef struct piece_list {
    completion_request *of;
    cento_piece *pieces;
    size_t count;
} piece_list;

static bool add_text(piece_list *list, cento_kind kind, const char *text, size_t bytes, const char *param,
                     api_error *problem) {
    if (bytes == 0)
        return api_error_set(problem, 400, "invalid_value", param, "'%s' is empty", param);
    list->pieces[list->count++] = (cento_piece){.kind = kind, .text = text, .text_bytes = bytes};
    return true;
}

/* A part that is a chunk of its own; *is_chunk: it was one. */
static bool add_chunk_part(piece_list *list, const json_t *part, const char *type, const char *param,
                           bool *is_chunk, api_error *problem) {
    const json_t *own = NULL;
    const char *label = NULL, *id = NULL;
    *is_chunk = strcmp(type, "chunk") == 0;
    if (!field_string(part, "label", &label, problem))
        return false;
    if (*is_chunk) {
        if (!field_string(part, "id", &id, problem))
            return false;
        if (id == NULL)
            return api_error_set(problem, 400, "missing", param, "'%s': a chunk part needs an 'id'", param);
        list->pieces[list->count++] =
            (cento_piece){.kind = CENTO_KIND_CONTEXT, .content_id = id, .label = label};
        return true;
    }
    if (!field_object(part, "cento", &own, problem) || !field_bool(own, "cento.chunk", is_chunk, problem))
        return false;
    if (!*is_chunk)
        return true;
    const json_t *text = json_object_get(part, "text");
    if (!add_text(list, CENTO_KIND_CONTEXT, json_string_value(text), json_string_length(text), param,
                  problem))
        return false;
    list->pieces[list->count - 1].label = label;
    return true;
}

/* The text of an array of parts, joined; chunks among them are added, if they may be there. */
static bool read_parts(piece_list *list, const json_t *parts, bool chunks, const char *param,
                       const char **text, size_t *bytes, api_error *problem) {
    strbuf joined = {0};
    bool read = true;
    for (size_t i = 0; read && i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        bool is_chunk = false;
        if (type == NULL || (strcmp(type, "text") != 0 && (strcmp(type, "chunk") != 0 || !chunks)))
            read = api_error_set(problem, 400, "invalid_value", param,
                                 "'%s': part %zu must be of type text%s; cento reads no images or sound",
                                 param, i, chunks ? " or chunk" : "");
        else if (strcmp(type, "text") == 0 && !json_is_string(json_object_get(part, "text")))
            read = api_error_set(problem, 400, "missing", param, "'%s': part %zu has no text", param, i);
        else if (chunks)
            read = add_chunk_part(list, part, type, param, &is_chunk, problem);
        if (read && !is_chunk)
            strbuf_append(&joined, json_string_value(json_object_get(part, "text")),
                          json_string_length(json_object_get(part, "text")));
    }
    if (read && joined.failed)
        read = api_error_memory(problem);
    *bytes = joined.bytes;
    *text = arena_copy(&list->of->memory, joined.data == NULL ? "" : joined.data, joined.bytes);
    strbuf_free(&joined);
    return read && (*text != NULL || api_error_memory(problem));
}

static bool read_message(piece_list *list, const json_t *message, size_t index, api_error *problem) {
    static const struct {
        const char *role;
        cento_kind kind;
    } roles[] = {{"system", CENTO_KIND_SYSTEM},
                 {"developer", CENTO_KIND_SYSTEM},
                 {"user", CENTO_KIND_QUERY},
                 {"assistant", CENTO_KIND_OUTPUT}};
    char param[64];
    snprintf(param, sizeof param, "messages[%zu].role", index);
    const char *role = NULL;
    if (!json_is_object(message))
        return api_error_set(problem, 400, "invalid_type", "messages",
                             "message %zu must be an object, found %s", index, json_type_name(message));
    if (!field_string(message, "role", &role, problem))
        return false;
    size_t known = 0;
    while (role != NULL && known < sizeof roles / sizeof *roles && strcmp(roles[known].role, role) != 0)
        known++;
    if (role == NULL || known == sizeof roles / sizeof *roles)
        return api_error_set(problem, 400, "invalid_value", param,
                             "'%s' must be system, developer, user or assistant, found '%.40s'", param,
                             role == NULL ? "nothing" : role);
    snprintf(param, sizeof param, "messages[%zu].content", index);
    const json_t *content = field_of(message, "content");
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    if (json_is_array(content)) {
        if (!read_parts(list, content, roles[known].kind == CENTO_KIND_QUERY, param, &text, &bytes, problem))
            return false;
    } else if (!json_is_string(content)) {
        return api_error_set(problem, 400, "invalid_type", param,
                             "'%s' must be a string or an array of parts, found %s", param,
                             json_type_name(content));
    }
    return add_text(list, roles[known].kind, text, bytes, param, problem);
}

static bool read_messages(completion_request *self, api_error *problem) {
    const json_t *messages = field_of(self->root, "messages");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return api_error_set(problem, 400, "missing", "messages",
                             "'messages' must be an array of at least one message");
    size_t most = json_array_size(messages);
    for (size_t i = 0; i < json_array_size(messages); i++)
        most += json_array_size(json_object_get(json_array_get(messages, i), "content"));
    piece_list list = {.of = self, .pieces = allocate(&self->memory, most, sizeof *list.pieces, problem)};
    if (list.pieces == NULL)
        return false;
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!read_message(&list, json_array_get(messages, i), i, problem))
            return false;
    if (list.pieces[list.count - 1].kind != CENTO_KIND_QUERY)
        return api_error_set(problem, 400, "invalid_value", "messages",
                             "the last message must be the user's");
    self->request.pieces = list.pieces;
    self->request.piece_count = list.count;
    return true;
}

/* A string, an array of one string, or an array of token ids. */
static bool read_prompt(completion_request *self, api_error *problem) {
    const json_t *prompt = field_of(self->root, "prompt");
    cento_piece *piece = allocate(&self->memory, 1, sizeof *piece, problem);
    if (piece == NULL)
        return false;
    piece->kind = CENTO_KIND_QUERY;
    self->request.raw = true;
    self->request.pieces = piece;
    self->request.piece_count = 1;
    if (json_is_array(prompt) && json_is_string(json_array_get(prompt, 0))) {
        if (json_array_size(prompt) != 1)
            return api_error_set(problem, 400, "unsupported", "prompt", "one prompt at a time, found %zu",
                                 json_array_size(prompt));
        prompt = json_array_get(prompt, 0);
    }
    if (json_is_array(prompt) && json_array_size(prompt) > 0)
        return tokens_read(&self->memory, prompt, "prompt", &piece->tokens, &piece->token_count, problem);
    if (!json_is_string(prompt) || json_string_length(prompt) == 0)
        return api_error_set(problem, 400, "missing", "prompt",
                             "'prompt' must be some text or an array of token ids");
    piece->text = json_string_value(prompt);
    piece->text_bytes = json_string_length(prompt);
    return true;
}

/* ----------------------------------------------------------------------------- settings ------ */

/* What would change the answer and cannot be had is refused, not ignored. */
static bool refuse_unsupported(const completion_request *self, api_error *problem) {
    static const char *const fields[] = {"tools", "functions", "tool_choice", "function_call",
                                         "audio", "suffix",    "echo"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const json_t *value = field_of(self->root, fields[i]);
        bool empty = value == NULL || json_is_false(value) ||
                     (json_is_array(value) && json_array_size(value) == 0) ||
                     (json_is_string(value) && strcmp(json_string_value(value), "none") == 0);
        if (!empty)
            return api_error_set(problem, 400, "unsupported", fields[i], "'%s' is not supported yet",
                                 fields[i]);
    }
    json_int_t count = 1, best = 1;
    const json_t *format = NULL;
    const char *type = NULL;
    if (!field_integer(self->root, "n", 1, 1, &count, problem) ||
        !field_integer(self->root, "best_of", 1, 1, &best, problem) ||
        !field_object(self->root, "response_format", &format, problem) ||
        !field_string(format, "response_format.type", &type, problem))
        return false;
    if (type != NULL && strcmp(type, "text") != 0)
        return api_error_set(problem, 400, "unsupported", "response_format",
                             "'response_format' %.40s is not supported yet", type);
    return true;
}

static bool read_stop(completion_request *self, api_error *problem) {
    const json_t *stop = field_of(self->root, "stop");
    size_t count = json_is_array(stop) ? json_array_size(stop) : stop != NULL;
    if (count > STOPS_MAX)
        return api_error_set(problem, 400, "invalid_value", "stop", "'stop' has %zu texts, at most %d", count,
                             STOPS_MAX);
    const char **texts = allocate(&self->memory, count, sizeof *texts, problem);
    if (texts == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *text = json_is_array(stop) ? json_array_get(stop, i) : stop;
        texts[i] = json_string_value(text);
        if (texts[i] == NULL || texts[i][0] == '\0' || strlen(texts[i]) != json_string_length(text))
            return api_error_set(problem, 400, "invalid_value", "stop",
                                 "'stop' must be some text or an array of texts, without NUL");
    }
    self->request.stop = texts;
    self->request.stop_count = count;
    return true;
}

static bool read_logit_bias(completion_request *self, api_error *problem) {
    const json_t *object = NULL;
    if (!field_object(self->root, "logit_bias", &object, problem))
        return false;
    size_t count = json_object_size(object);
    if (count > BIASES_MAX)
        return api_error_set(problem, 400, "invalid_value", "logit_bias",
                             "'logit_bias' has %zu tokens, at most %d", count, BIASES_MAX);
    cento_logit_bias *biases = allocate(&self->memory, count, sizeof *biases, problem);
    if (biases == NULL)
        return false;
    size_t i = 0;
    for (void *at = json_object_iter((json_t *)(uintptr_t)object); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)object, at), i++) {
        const char *key = json_object_iter_key(at);
        const json_t *value = json_object_iter_value(at);
        char *end;
        errno = 0;
        long id = strtol(key, &end, 10);
        double bias = json_number_value(value);
        if (key[0] < '0' || key[0] > '9' || *end != '\0' || errno != 0 || id > INT32_MAX ||
            !json_is_number(value) || !(bias >= -100 && bias <= 100))
            return api_error_set(
                problem, 400, "invalid_value", "logit_bias",
                "'logit_bias' must map token ids to numbers from -100 to 100, found something "
                "else at '%.40s'",
                key);
        biases[i] = (cento_logit_bias){(int32_t)id, (float)bias};
    }
    self->request.sampling.logit_bias = biases;
    self->request.sampling.logit_bias_count = count;
    return true;
}

static bool read_sampling(completion_request *self, api_error *problem) {
    const json_t *root = self->root;
    cento_sampling *sampling = &self->request.sampling;
    json_int_t top_k = sampling->top_k, seed = -1;
    if (!field_number(root, "temperature", 0, 2, &sampling->temperature, problem) ||
        !field_number(root, "top_p", 0, 1, &sampling->top_p, problem) ||
        !field_number(root, "min_p", 0, 1, &sampling->min_p, problem) ||
        !field_integer(root, "top_k", 0, UINT32_MAX, &top_k, problem) ||
        !field_number(root, "repetition_penalty", 0.01, 100, &sampling->repetition_penalty, problem) ||
        !field_number(root, "presence_penalty", -2, 2, &sampling->presence_penalty, problem) ||
        !field_number(root, "frequency_penalty", -2, 2, &sampling->frequency_penalty, problem) ||
        !field_integer(root, "seed", INT64_MIN, INT64_MAX, &seed, problem))
        return false;
    sampling->top_k = (uint32_t)top_k;
    if (field_of(root, "seed") != NULL) {
        sampling->seed_set = true;
        sampling->seed = (uint64_t)seed;
    }
    return read_logit_bias(self, problem) && read_stop(self, problem);
}

static bool read_limits(completion_request *self, api_error *problem) {
    const json_t *root = self->root, *options = NULL;
    json_int_t tokens = self->kind == COMPLETION_TEXT ? 16 : 0, top = 0;
    if (!field_integer(root, "max_tokens", 1, UINT32_MAX, &tokens, problem) ||
        !field_integer(root, "max_completion_tokens", 1, UINT32_MAX, &tokens, problem) ||
        !field_bool(root, "stream", &self->stream, problem) ||
        !field_object(root, "stream_options", &options, problem) ||
        !field_bool(options, "stream_options.include_usage", &self->include_usage, problem))
        return false;
    self->request.completion_tokens_max = (uint32_t)tokens;
    if (self->kind == COMPLETION_TEXT && field_of(root, "logprobs") != NULL)
        return api_error_set(problem, 400, "unsupported", "logprobs",
                             "'logprobs' is supported for chat completions");
    if (!field_bool(root, "logprobs", &self->logprobs, problem) ||
        !field_integer(root, "top_logprobs", 0, TOP_LOGPROBS_MAX, &top, problem))
        return false;
    if (top > 0 && !self->logprobs)
        return api_error_set(problem, 400, "invalid_value", "top_logprobs",
                             "'top_logprobs' needs 'logprobs' to be true");
    if (self->logprobs && self->stream)
        return api_error_set(problem, 400, "unsupported", "logprobs",
                             "'logprobs' is not supported yet with 'stream'");
    self->request.logprobs = self->logprobs ? (uint32_t)(top > 0 ? top : 1) : 0;
    return true;
}

static bool read_retain(const json_t *own, cento_retain *retain, api_error *problem) {
    const json_t *value = field_of(own, "cento.retain");
    if (json_is_string(value) && strcmp(json_string_value(value), "without_thinking") == 0)
        *retain = CENTO_RETAIN_WITHOUT_THINKING;
    else if (json_is_boolean(value))
        *retain = json_is_true(value) ? CENTO_RETAIN_ANSWER : CENTO_RETAIN_NONE;
    else if (value != NULL)
        return api_error_set(problem, 400, "invalid_value", "cento.retain",
                             "'cento.retain' must be a boolean or \"without_thinking\"");
    return true;
}

/* What is cento's own: {"mode", "anchored", "salt", "retain", "priority", "ignore_eos"}. */
static bool read_own(completion_request *self, api_error *problem) {
    const json_t *own = NULL;
    const char *mode = NULL;
    json_int_t priority = 0;
    cento_request *request = &self->request;
    if (!field_object(self->root, "cento", &own, problem) ||
        !field_string(own, "cento.mode", &mode, problem) ||
        !field_bool(own, "cento.anchored", &request->anchored, problem) ||
        !field_string(own, "cento.salt", &request->salt, problem) ||
        !field_bool(own, "cento.ignore_eos", &request->ignore_eos, problem) ||
        !field_integer(own, "cento.priority", INT32_MIN, INT32_MAX, &priority, problem) ||
        !read_retain(own, &request->retain, problem))
        return false;
    request->priority = (int32_t)priority;
    if (mode != NULL && cento_mode_parse(mode, &request->mode, &request->link_tokens, NULL) != CENTO_OK)
        return api_error_set(problem, 400, "invalid_value", "cento.mode",
                             "'cento.mode' must be exact, independent or link:K, found '%.60s'", mode);
    if (request->anchored && request->mode == CENTO_MODE_EXACT)
        return api_error_set(problem, 400, "invalid_value", "cento.anchored",
                             "'cento.anchored' goes with mode independent or link:K; exact needs no anchor");
    return true;
}

static bool read_model(const completion_request *self, const char *model, api_error *problem) {
    const char *name = NULL;
    if (!field_string(self->root, "model", &name, problem))
        return false;
    if (name != NULL && strcmp(name, model) != 0)
        return api_error_no_model(problem, name, model);
    return true;
}

bool completion_request_read(completion_request *self, completion_kind kind, const char *body, size_t bytes,
                             const char *model, const cento_sampling *sampling, api_error *problem) {
    *self = (completion_request){.kind = kind, .request = cento_request_default()};
    arena_init(&self->memory, REQUEST_MEMORY_MAX);
    self->request.sampling = *sampling;
    return body_read(body, bytes, &self->root, problem) && read_model(self, model, problem) &&
           refuse_unsupported(self, problem) &&
           (kind == COMPLETION_CHAT ? read_messages(self, problem) : read_prompt(self, problem)) &&
           read_sampling(self, problem) && read_limits(self, problem) && read_own(self, problem);
}

void completion_request_free(completion_request *self) {
    arena_free(&self->memory);
    json_decref(self->root);
    *self = (completion_request){0};
}

/* /v1/chunks: registered chunks. */
#include <string.h>

#include "http.h"

static json_t *chunk_json(const cento_chunk_info *info) {
    json_t *value = json_pack(
        "{s:s, s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "id", info->content_id, "object",
        "chunk", "kind", cento_kind_name(info->kind), "label", info->label[0] == '\0' ? NULL : info->label,
        "tokens", (json_int_t)info->tokens, "uses", (json_int_t)info->uses, "users", (json_int_t)info->users,
        "pins", (json_int_t)info->pins, "kv_bytes", (json_int_t)info->kv_bytes, "kv_states",
        (json_int_t)info->kv_states, "age_s", info->age_s, "idle_s", info->idle_s);
    if (value != NULL)
        json_object_set_new(value, "ttl_s", info->ttl_s < 0 ? json_null() : json_real(info->ttl_s));
    return value;
}

static enum MHD_Result send_chunk(exchange *self, unsigned status, const char *id) {
    cento_chunk_info info;
    cento_error error;
    if (cento_chunk_get(self->server->engine, id, &info, &error) != CENTO_OK)
        return exchange_send_failure(self, &error);
    return exchange_send_json(self, status, chunk_json(&info));
}

/* ?kind= and ?label= choose; most recently used first. */
static enum MHD_Result list(exchange *self) {
    cento_chunk_info *infos = NULL;
    size_t count = 0;
    cento_error error;
    if (cento_chunk_list(self->server->engine, &infos, &count, &error) != CENTO_OK)
        return exchange_send_failure(self, &error);
    const char *kind = MHD_lookup_connection_value(self->connection, MHD_GET_ARGUMENT_KIND, "kind");
    const char *label = MHD_lookup_connection_value(self->connection, MHD_GET_ARGUMENT_KIND, "label");
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        if ((kind == NULL || strcmp(kind, cento_kind_name(infos[i].kind)) == 0) &&
            (label == NULL || strcmp(label, infos[i].label) == 0))
            json_array_append_new(data, chunk_json(&infos[i]));
    cento_free(infos);
    return exchange_send_json(self, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

static bool read_kind(const json_t *root, cento_kind *kind, api_error *problem) {
    const char *name = NULL;
    if (!field_string(root, "kind", &name, problem))
        return false;
    for (int i = CENTO_KIND_SYSTEM; name != NULL && i <= CENTO_KIND_TOOL; i++)
        if (strcmp(name, cento_kind_name((cento_kind)i)) == 0) {
            *kind = (cento_kind)i;
            return true;
        }
    return name == NULL ||
           api_error_set(problem, 400, "invalid_value", "kind",
                         "'kind' must be system, tool, context, query or output, found '%.60s'", name);
}

/* "pin" and "ttl_s", of an existing chunk. */
static bool change(exchange *self, const json_t *root, const char *id, api_error *problem) {
    cento_engine *engine = self->server->engine;
    cento_error error;
    bool pin = false;
    float ttl_s = 0;
    if (!field_bool(root, "pin", &pin, problem) || !field_number(root, "ttl_s", 0, 1e9, &ttl_s, problem))
        return false;
    cento_status status = CENTO_OK;
    if (field_of(root, "pin") != NULL)
        status = pin ? cento_chunk_pin(engine, id, &error) : cento_chunk_unpin(engine, id, &error);
    if (status == CENTO_OK && field_of(root, "ttl_s") != NULL)
        status = cento_chunk_set_ttl(engine, id, (double)ttl_s, &error);
    return status == CENTO_OK || api_error_from(problem, &error);
}

/* {"text" | "tokens", "kind", "label", "pin", "ttl_s"} */
static bool add(exchange *self, const json_t *root, arena *memory, cento_chunk_info *info,
                api_error *problem) {
    cento_piece piece = {.kind = CENTO_KIND_CONTEXT};
    cento_error error;
    const json_t *text = field_of(root, "text"), *tokens = field_of(root, "tokens");
    if (!read_kind(root, &piece.kind, problem) || !field_string(root, "label", &piece.label, problem))
        return false;
    if ((text != NULL) == (tokens != NULL) || (text != NULL && !json_is_string(text)) ||
        (tokens != NULL && !json_is_array(tokens)))
        return api_error_set(problem, 400, "missing", "text",
                             "expected either 'text', a string, or 'tokens', an array of token ids");
    piece.text = json_string_value(text);
    piece.text_bytes = json_string_length(text);
    if (tokens != NULL && !tokens_read(memory, tokens, "tokens", &piece.tokens, &piece.token_count, problem))
        return false;
    if (cento_chunk_add(self->server->engine, &piece, false, info, &error) != CENTO_OK)
        return api_error_from(problem, &error);
    return change(self, root, info->content_id, problem);
}

static enum MHD_Result add_or_change(exchange *self, const char *id) {
    enum { MEMORY_MAX = 64 << 20 };
    api_error problem;
    json_t *root = NULL;
    arena memory;
    cento_chunk_info info = {0};
    arena_init(&memory, MEMORY_MAX);
    bool done = body_read(self->body.data, self->body.bytes, &root, &problem) &&
                (id == NULL ? add(self, root, &memory, &info, &problem) : change(self, root, id, &problem));
    arena_free(&memory);
    json_decref(root);
    if (!done)
        return exchange_send_error(self, &problem);
    return send_chunk(self, id == NULL ? 201 : 200, id == NULL ? info.content_id : id);
}

enum MHD_Result chunks_answer(exchange *self, const char *id) {
    cento_error error;
    if (strcmp(self->method, "POST") == 0 || strcmp(self->method, "PATCH") == 0)
        return add_or_change(self, id);
    if (id == NULL)
        return list(self);
    if (strcmp(self->method, "DELETE") != 0)
        return send_chunk(self, 200, id);
    if (cento_chunk_remove(self->server->engine, id, &error) != CENTO_OK)
        return exchange_send_failure(self, &error);
    return exchange_send_json(self, 200,
                              json_pack("{s:s, s:s, s:b}", "id", id, "object", "chunk", "deleted", 1));
}

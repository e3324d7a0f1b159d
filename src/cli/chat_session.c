/* A chat's contents, saved and loaded; see chat_session.h. One thread. */
#include "chat_session.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "settings.h"

enum { SESSION_VERSION = 1, SESSION_BYTES_MAX = 256 << 20 };

/* ------------------------------------------------------------------------------ contents --- */

static void free_document(chat_document *document) {
    mem_free(document->text);
    mem_free(document->label);
}

void chat_session_clear_documents(chat_session *session) {
    for (size_t i = 0; i < session->document_count; i++)
        free_document(&session->documents[i]);
    session->document_count = 0;
}

void chat_session_clear_turns(chat_session *session) {
    for (size_t i = 0; i < session->turn_count; i++) {
        mem_free(session->turns[i].query);
        mem_free(session->turns[i].answer);
    }
    session->turn_count = 0;
}

void chat_session_clear_outputs(chat_session *session) {
    for (size_t i = 0; i < session->output_count; i++)
        mem_free(session->outputs[i].text);
    session->output_count = 0;
}

void chat_session_free(chat_session *session) {
    chat_session_clear_documents(session);
    chat_session_clear_turns(session);
    chat_session_clear_outputs(session);
    mem_free(session->documents);
    mem_free(session->turns);
    mem_free(session->outputs);
    mem_free(session->system);
    mem_free(session->query);
    *session = (chat_session){0};
}

cento_status chat_session_set(char **field, const char *text, cento_error *error) {
    char *copy = NULL;
    if (text != NULL && (copy = mem_strdup(text)) == NULL)
        return error_memory(error, strlen(text));
    mem_free(*field);
    *field = copy;
    return CENTO_OK;
}

cento_status chat_session_add_document(chat_session *session, const char *text, const char *label,
                                       cento_error *error) {
    chat_document document = {.text = mem_strdup(text), .label = label == NULL ? NULL : mem_strdup(label)};
    if (document.text == NULL || (label != NULL && document.label == NULL) ||
        !mem_grow((void **)&session->documents, &session->document_capacity, session->document_count + 1,
                  sizeof *session->documents)) {
        free_document(&document);
        return error_memory(error, strlen(text));
    }
    session->documents[session->document_count++] = document;
    return CENTO_OK;
}

static cento_status add_output(chat_session *session, uint32_t number, const char *text, cento_error *error) {
    char *copy = mem_strdup(text);
    if (copy == NULL || !mem_grow((void **)&session->outputs, &session->output_capacity,
                                  session->output_count + 1, sizeof *session->outputs)) {
        mem_free(copy);
        return error_memory(error, strlen(text));
    }
    session->outputs[session->output_count++] = (chat_output){.number = number, .text = copy};
    if (number >= session->next_output)
        session->next_output = number + 1;
    return CENTO_OK;
}

static cento_status add_turn(chat_session *session, const char *query, const char *answer,
                             cento_error *error) {
    chat_turn turn = {.query = mem_strdup(query), .answer = mem_strdup(answer)};
    if (turn.query == NULL || turn.answer == NULL ||
        !mem_grow((void **)&session->turns, &session->turn_capacity, session->turn_count + 1,
                  sizeof *session->turns)) {
        mem_free(turn.query);
        mem_free(turn.answer);
        return error_memory(error, strlen(answer));
    }
    session->turns[session->turn_count++] = turn;
    return CENTO_OK;
}

cento_status chat_session_add_turn(chat_session *session, const char *query, const char *answer,
                                   cento_error *error) {
    TRY(add_turn(session, query, answer, error));
    uint32_t number = session->next_output == 0 ? 1 : session->next_output;
    return add_output(session, number, answer, error);
}

void chat_session_remove_document(chat_session *session, size_t index) {
    free_document(&session->documents[index]);
    session->document_count--;
    memmove(&session->documents[index], &session->documents[index + 1],
            (session->document_count - index) * sizeof *session->documents);
}

void chat_session_remove_output(chat_session *session, size_t index) {
    mem_free(session->outputs[index].text);
    session->output_count--;
    memmove(&session->outputs[index], &session->outputs[index + 1],
            (session->output_count - index) * sizeof *session->outputs);
}

const chat_output *chat_session_find_output(const chat_session *session, uint32_t number, size_t *index) {
    for (size_t i = 0; i < session->output_count; i++)
        if (session->outputs[i].number == number) {
            *index = i;
            return &session->outputs[i];
        }
    return NULL;
}

/* -------------------------------------------------------------------------------- prompt --- */

static cento_piece piece_of(cento_kind kind, const char *text, const char *label) {
    return (cento_piece){.kind = kind, .text = text, .text_bytes = strlen(text), .label = label};
}

cento_status chat_session_pieces(const chat_session *session, const char *query, cento_piece **pieces,
                                 size_t *count, cento_error *error) {
    size_t most = 2 + session->document_count + 2 * session->turn_count;
    cento_piece *made = mem_zalloc(most, sizeof *made);
    if (made == NULL)
        return error_memory(error, most * sizeof *made);
    size_t used = 0;
    if (session->system != NULL)
        made[used++] = piece_of(CENTO_KIND_SYSTEM, session->system, NULL);
    for (size_t i = 0; i < session->document_count; i++)
        made[used++] = piece_of(CENTO_KIND_CONTEXT, session->documents[i].text, session->documents[i].label);
    for (size_t i = 0; i < session->turn_count; i++) {
        made[used++] = piece_of(CENTO_KIND_QUERY, session->turns[i].query, NULL);
        /* an answer that ended at once is nothing that the template could show */
        if (session->turns[i].answer[0] != '\0')
            made[used++] = piece_of(CENTO_KIND_OUTPUT, session->turns[i].answer, NULL);
    }
    if (query != NULL)
        made[used++] = piece_of(CENTO_KIND_QUERY, query, NULL);
    *pieces = made;
    *count = used;
    return CENTO_OK;
}

/* -------------------------------------------------------------------------------- saving --- */

static json_t *string_or_null(const char *text) {
    return text == NULL ? json_null() : json_string(text);
}

static json_t *session_to_json(const chat_session *session) {
    json_t *contexts = json_array(), *turns = json_array(), *outputs = json_array();
    for (size_t i = 0; i < session->document_count; i++)
        json_array_append_new(contexts,
                              json_pack("{s:o, s:s}", "label", string_or_null(session->documents[i].label),
                                        "text", session->documents[i].text));
    for (size_t i = 0; i < session->turn_count; i++)
        json_array_append_new(turns, json_pack("{s:s, s:s}", "query", session->turns[i].query, "answer",
                                               session->turns[i].answer));
    for (size_t i = 0; i < session->output_count; i++)
        json_array_append_new(outputs,
                              json_pack("{s:I, s:s}", "number", (json_int_t)session->outputs[i].number,
                                        "text", session->outputs[i].text));
    char mode[32];
    mode_text(session->mode, session->link_tokens, mode, sizeof mode);
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:s, s:b}", "version", SESSION_VERSION, "system",
                     string_or_null(session->system), "contexts", contexts, "turns", turns, "outputs",
                     outputs, "query", string_or_null(session->query), "mode", mode, "anchored",
                     (int)session->anchored);
}

cento_status chat_session_save(const chat_session *session, const char *path, cento_error *error) {
    json_t *root = session_to_json(session);
    char *text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (text == NULL)
        return error_memory(error, 0);
    strbuf file = {0};
    strbuf_puts(&file, text);
    strbuf_putc(&file, '\n');
    free(text); /* jansson's own allocation */
    cento_status status = strbuf_check(&file, error);
    if (status == CENTO_OK)
        status = file_write(path, file.data, file.bytes, error);
    strbuf_free(&file);
    return status;
}

/* ------------------------------------------------------------------------------- loading --- */

static cento_status required_string(const json_t *object, const char *where, const char *key,
                                    const char **value, cento_error *error) {
    *value = NULL;
    TRY(json_get_string(object, where, key, value, error));
    if (*value == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: '%s' is missing", where, key);
    return CENTO_OK;
}

typedef cento_status (*load_entry)(chat_session *session, const json_t *entry, const char *where,
                                   cento_error *error);

static cento_status load_document(chat_session *session, const json_t *entry, const char *where,
                                  cento_error *error) {
    const char *text, *label = NULL;
    TRY(required_string(entry, where, "text", &text, error));
    TRY(json_get_string(entry, where, "label", &label, error));
    return chat_session_add_document(session, text, label, error);
}

static cento_status load_turn(chat_session *session, const json_t *entry, const char *where,
                              cento_error *error) {
    const char *query, *answer;
    TRY(required_string(entry, where, "query", &query, error));
    TRY(required_string(entry, where, "answer", &answer, error));
    return add_turn(session, query, answer, error);
}

static cento_status load_output(chat_session *session, const json_t *entry, const char *where,
                                cento_error *error) {
    uint32_t number = 0;
    const char *text;
    size_t index;
    TRY(json_get_u32_required(entry, where, "number", 1, UINT32_MAX - 1, &number, error));
    TRY(required_string(entry, where, "text", &text, error));
    if (chat_session_find_output(session, number, &index) != NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: there are two outputs %u", where, number);
    return add_output(session, number, text, error);
}

static cento_status load_array(chat_session *session, const json_t *root, const char *path, const char *key,
                               load_entry load, cento_error *error) {
    const json_t *array = json_object_get(root, key);
    if (array == NULL)
        return CENTO_OK;
    if (!json_is_array(array))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: '%s' must be an array, found %s", path, key,
                         json_type_name(array));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        char where[512];
        snprintf(where, sizeof where, "%s: %s[%zu]", path, key, i);
        if (!json_is_object(entry))
            return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected an object, found %s", where,
                             json_type_name(entry));
        TRY(load(session, entry, where, error));
    }
    return CENTO_OK;
}

static cento_status load_session(chat_session *session, const json_t *root, const char *path,
                                 cento_error *error) {
    if (!json_is_object(root))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected a saved chat, found %s", path,
                         json_type_name(root));
    uint32_t version = 0;
    TRY(json_get_u32_required(root, path, "version", SESSION_VERSION, SESSION_VERSION, &version, error));
    const char *system = NULL, *query = NULL, *mode = "exact";
    TRY(json_get_string(root, path, "system", &system, error));
    TRY(json_get_string(root, path, "query", &query, error));
    TRY(json_get_string(root, path, "mode", &mode, error));
    TRY(json_get_bool(root, path, "anchored", &session->anchored, error));
    if (cento_mode_parse(mode, &session->mode, &session->link_tokens, error) != CENTO_OK)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%s: 'mode' must be exact, independent or link:K, found '%s'", path, mode);
    TRY(chat_session_set(&session->system, system, error));
    TRY(chat_session_set(&session->query, query, error));
    TRY(load_array(session, root, path, "contexts", load_document, error));
    TRY(load_array(session, root, path, "turns", load_turn, error));
    return load_array(session, root, path, "outputs", load_output, error);
}

cento_status chat_session_load(chat_session *session, const char *path, cento_error *error) {
    json_t *root = NULL;
    TRY(json_read_file(path, SESSION_BYTES_MAX, &root, error));
    chat_session loaded = {0};
    cento_status status = load_session(&loaded, root, path, error);
    json_decref(root);
    if (status != CENTO_OK) {
        chat_session_free(&loaded);
        return status;
    }
    chat_session_free(session);
    *session = loaded;
    return CENTO_OK;
}

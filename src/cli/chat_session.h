/*
 * What a chat holds and what can be saved: system prompt, documents, turns, kept answers, the pending
 * question, how chunks are reused. Knows nothing of terminals and engines.
 */
#ifndef CENTO_CLI_CHAT_SESSION_H
#define CENTO_CLI_CHAT_SESSION_H

#include "cento.h"

/* Strings are owned and NUL-terminated. */
typedef struct chat_document {
    char *text;
    char *label; /* the file's name; NULL: typed */
} chat_document;

typedef struct chat_turn {
    char *query;
    char *answer;
} chat_turn;

typedef struct chat_output {
    uint32_t number; /* as shown by /output; never given twice in a session */
    char *text;
} chat_output;

typedef struct chat_session {
    char *system; /* NULL: none */
    chat_document *documents;
    size_t document_count, document_capacity;
    chat_turn *turns;
    size_t turn_count, turn_capacity;
    chat_output *outputs;
    size_t output_count, output_capacity;
    uint32_t next_output;
    char *query; /* set by /query, not yet asked; NULL: none */
    cento_mode mode;
    uint32_t link_tokens;
    bool anchored;
} chat_session;

void chat_session_free(chat_session *session);

/* All copy their texts. label may be NULL. */
cento_status chat_session_set(char **field, const char *text, cento_error *error);
cento_status chat_session_add_document(chat_session *session, const char *text, const char *label,
                                       cento_error *error);
/* Adds a turn and keeps its answer as an output. */
cento_status chat_session_add_turn(chat_session *session, const char *query, const char *answer,
                                   cento_error *error);
void chat_session_remove_document(chat_session *session, size_t index);
void chat_session_remove_output(chat_session *session, size_t index);
void chat_session_clear_documents(chat_session *session);
void chat_session_clear_turns(chat_session *session);
void chat_session_clear_outputs(chat_session *session);
/* NULL: no such output */
const chat_output *chat_session_find_output(const chat_session *session, uint32_t number, size_t *index);

/* The pieces of the prompt that asks `query`: system, documents, turns, query. They point into the session
 * and to query; the array is released with mem_free. */
cento_status chat_session_pieces(const chat_session *session, const char *query, cento_piece **pieces,
                                 size_t *count, cento_error *error);

/* A JSON file: {"version": 1, "system", "contexts": [{"label", "text"}], "turns": [{"query", "answer"}],
 * "outputs": [{"number", "text"}], "query", "mode", "anchored"}. Loading replaces the session only when the
 * whole file is right. */
cento_status chat_session_save(const chat_session *session, const char *path, cento_error *error);
cento_status chat_session_load(chat_session *session, const char *path, cento_error *error);

#endif

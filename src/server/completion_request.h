/*
 * The body of /v1/chat/completions and /v1/completions as a cento_request.
 *
 * A chat's messages become pieces: system and developer messages the system prompt, assistant messages
 * earlier answers, a user message its chunks and then its text as the query. In a message's content a part
 *   {"type": "chunk", "id": "…"}                                    is a registered chunk,
 *   {"type": "text", "text": "…", "cento": {"chunk": true}}         a chunk by its text.
 */
#ifndef CENTO_SERVER_COMPLETION_REQUEST_H
#define CENTO_SERVER_COMPLETION_REQUEST_H

#include "api_error.h"
#include "base/arena.h"

typedef enum completion_kind { COMPLETION_CHAT, COMPLETION_TEXT } completion_kind;

typedef struct completion_request {
    completion_kind kind;
    arena memory; /* what the request points to, with … */
    json_t *root; /* … the body; both owned */
    cento_request request;
    bool stream, include_usage;
    bool logprobs;
} completion_request;

/* Zeroed or freed before; to be freed also when it fails. `model` is the only name that is known;
 * `sampling` holds for what the body does not say. */
bool completion_request_read(completion_request *self, completion_kind kind, const char *body, size_t bytes,
                             const char *model, const cento_sampling *sampling, api_error *problem);
void completion_request_free(completion_request *self);

/* A body that must be an object. *root is a new reference. Also for other endpoints. */
bool body_read(const char *body, size_t bytes, json_t **root, api_error *problem);
/* The ids of an array. *tokens is of `memory`. */
bool tokens_read(arena *memory, const json_t *array, const char *param, const int32_t **tokens, size_t *count,
                 api_error *problem);

#endif

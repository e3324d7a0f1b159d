/*
 * One request and its answer, as libmicrohttpd brings and takes them. All functions but exchange_wake run on
 * the server's thread.
 */
#ifndef CENTO_SERVER_HTTP_H
#define CENTO_SERVER_HTTP_H

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>

#include "api_error.h"
#include "base/strbuf.h"
#include "completion_request.h"
#include "server.h"

enum { REQUEST_ID_BYTES = 32 };

typedef struct exchange {
    struct server *server;
    struct MHD_Connection *connection;
    struct exchange *next, *previous; /* in server.exchanges */
    char id[REQUEST_ID_BYTES];        /* also in the answer's X-Request-Id */
    char client[64];
    char *method, *path; /* owned */
    uint64_t begin_ns;
    int64_t created; /* seconds since 1970 */
    strbuf body;
    bool too_large, begun;
    unsigned status; /* that was answered; 0: none yet */

    /* a completion under way */
    completion_request completion;
    cento_generation *generation;
    strbuf sending;
    size_t sent; /* bytes of `sending` that are gone */
    uint64_t written_ns;
    bool finished; /* the last event is in `sending` */
    bool used;
    cento_usage usage;

    pthread_mutex_t lock;
    bool ready, suspended; /* under `lock` */
} exchange;

struct server {
    server_options options;
    cento_engine *engine;
    cento_tokenizer *tokenizer;
    char *model_name; /* owned */
    struct MHD_Daemon *daemon;
    uint16_t port;
    int64_t started; /* seconds since 1970 */
    uint32_t context_tokens;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* an exchange has ended, or `stopping` */
    exchange *exchanges;    /* under `lock`, as all below */
    uint64_t answered[6];   /* by status / 100; 0: gone before */
    bool stopping, aborting;
    pthread_t ticker;
    bool ticking;
};

/* There is something to do for a suspended exchange. From any thread. */
void exchange_wake(void *of);
/* False: it has been suspended, and what asks returns; it is called again after exchange_wake. */
bool exchange_await(exchange *self);
/* The client has closed its side, or the server ends: nobody reads an answer any more. */
bool exchange_is_abandoned(const exchange *self);

enum MHD_Result exchange_send(exchange *self, unsigned status, const char *type, const char *text,
                              size_t bytes);
/* Takes the reference; NULL: out of memory. */
enum MHD_Result exchange_send_json(exchange *self, unsigned status, json_t *value);
enum MHD_Result exchange_send_error(exchange *self, const api_error *problem);
/* What the library said. */
enum MHD_Result exchange_send_failure(exchange *self, const cento_error *error);
/* Text as `reader` hands it out. */
enum MHD_Result exchange_send_stream(exchange *self, MHD_ContentReaderCallback reader);

/* routes.c. Called when the body is there, and again whenever a suspended exchange was woken. */
enum MHD_Result routes_answer(exchange *self);

/* completion_answer.c: chat and text completions. */
enum MHD_Result completion_begin(exchange *self, completion_kind kind);
enum MHD_Result completion_go_on(exchange *self);

/* metrics.c */
enum MHD_Result metrics_answer(exchange *self);
/* chunks.c. id: NULL for the collection. */
enum MHD_Result chunks_answer(exchange *self, const char *id);
/* tokens.c */
enum MHD_Result tokenize_answer(exchange *self);
enum MHD_Result detokenize_answer(exchange *self);

#endif

/*
 * The HTTP server over one engine: OpenAI's API and cento's own (docs/api.md), on libmicrohttpd.
 *
 *   socket → http.c (one thread: reads bodies, writes answers, sleeps in between)
 *          → routes.c (which function answers what)
 *          → completion_request.c (JSON → cento_request) → cento_submit
 *   engine's thread: on_ready → wakes the connection → cento_poll → completion_answer.c (→ JSON, SSE)
 *
 * A connection that waits for its tokens is suspended and costs no thread. A client that goes away cancels
 * its request: while text is being sent at the next write, else within TICK_MS.
 *
 * The server prints nothing; on_log gets a line for each request.
 */
#ifndef CENTO_SERVER_SERVER_H
#define CENTO_SERVER_SERVER_H

#include "base/status.h"

typedef struct server server;

/* What happened to one request; texts are valid during the call. */
typedef struct server_log_entry {
    const char *request_id;
    const char *client; /* the address, without the port */
    const char *method, *path;
    unsigned status; /* of HTTP; 0: the client went away before an answer */
    double ms;       /* from its first byte to its last */
    bool generated;  /* whether what follows is there */
    cento_usage usage;
} server_log_entry;

typedef struct server_options {
    const char *host;         /* an address to listen on; NULL: 127.0.0.1 */
    uint16_t port;            /* 0: any that is free */
    const char *model_path;   /* for its tokenizer */
    uint64_t body_bytes_max;  /* 0: 32 MiB */
    uint32_t connections_max; /* 0: 1024 */
    uint32_t idle_timeout_s;  /* of a connection on which nothing moves; 0: 60 */
    const char *cors_origin;  /* for Access-Control-Allow-Origin; NULL: none */
    /* On the server's thread; must not block. May be NULL. */
    void (*on_log)(void *user, const server_log_entry *entry);
    void *on_log_user;
} server_options;

/* Listens and answers until server_stop. The engine must outlive the server. *result is set only on success.
 */
cento_status server_start(cento_engine *engine, const server_options *options, server **result,
                          cento_error *error);
uint16_t server_port(const server *self);
/* Takes no more connections, lets those under way end for at most drain_ms, cancels the others and frees
 * everything. NULL is allowed. */
void server_stop(server *self, uint32_t drain_ms);

#endif

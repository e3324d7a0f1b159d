/* Connections, exchanges and their life; see http.h. */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    BODY_BYTES_MAX = 32 << 20,
    CONNECTIONS_MAX = 1024,
    IDLE_TIMEOUT_S = 60,
    HEADER_BYTES_MAX = 32 << 10,
    STREAM_BLOCK_BYTES = 4 << 10,
    TICK_MS = 250, /* how often those who wait are asked whether they are still there */
};

/* ----------------------------------------------------------------------------- waiting ------ */

void exchange_wake(void *of) {
    exchange *self = of;
    pthread_mutex_lock(&self->lock);
    self->ready = true;
    if (self->suspended) {
        self->suspended = false;
        MHD_resume_connection(self->connection);
    }
    pthread_mutex_unlock(&self->lock);
}

bool exchange_await(exchange *self) {
    pthread_mutex_lock(&self->lock);
    bool ready = self->ready;
    self->ready = false;
    if (!ready) {
        self->suspended = true;
        MHD_suspend_connection(self->connection);
    }
    pthread_mutex_unlock(&self->lock);
    return ready;
}

bool exchange_is_abandoned(const exchange *self) {
    pthread_mutex_lock(&self->server->lock);
    bool aborting = self->server->aborting;
    pthread_mutex_unlock(&self->server->lock);
    if (aborting)
        return true;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(self->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    if (info == NULL)
        return false;
    ssize_t got = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* Wakes all who wait, again and again: suspended connections do not notice that their client is gone. */
static void *tick(void *of) {
    server *self = of;
    pthread_mutex_lock(&self->lock);
    while (self->ticking) {
        struct timespec until = clock_deadline(TICK_MS);
        pthread_cond_timedwait(&self->changed, &self->lock, &until);
        for (exchange *one = self->exchanges; one != NULL; one = one->next)
            exchange_wake(one);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* --------------------------------------------------------------------------- exchanges ------ */

static void client_address(struct MHD_Connection *connection, char *text, size_t bytes) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    text[0] = '\0';
    if (info == NULL || info->client_addr == NULL)
        return;
    const struct sockaddr *address = info->client_addr;
    socklen_t size =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(address, size, text, (socklen_t)bytes, NULL, 0, NI_NUMERICHOST) != 0)
        text[0] = '\0';
}

static void exchange_free(exchange *self) {
    cento_generation_free(self->generation); /* cancels; on_ready is not called any more */
    completion_request_free(&self->completion);
    strbuf_free(&self->body);
    strbuf_free(&self->sending);
    mem_free(self->method);
    mem_free(self->path);
    pthread_mutex_destroy(&self->lock);
    mem_free(self);
}

static exchange *exchange_new(server *of, struct MHD_Connection *connection, const char *path,
                              const char *method) {
    exchange *self = mem_zalloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->server = of;
    self->connection = connection;
    self->begin_ns = self->written_ns = clock_now_ns();
    self->created = (int64_t)time(NULL);
    self->method = mem_strdup(method);
    self->path = mem_strdup(path);
    pthread_mutex_init(&self->lock, NULL);
    if (self->method == NULL || self->path == NULL) {
        exchange_free(self);
        return NULL;
    }
    client_address(connection, self->client, sizeof self->client);
    static uint64_t number; /* the server's thread alone */
    snprintf(self->id, sizeof self->id, "%08llx%08llx", (unsigned long long)of->started & 0xFFFFFFFF,
             (unsigned long long)++number & 0xFFFFFFFF);
    pthread_mutex_lock(&of->lock);
    self->next = of->exchanges;
    if (self->next != NULL)
        self->next->previous = self;
    of->exchanges = self;
    pthread_mutex_unlock(&of->lock);
    return self;
}

static void log_exchange(const exchange *self) {
    const server_options *options = &self->server->options;
    if (options->on_log == NULL)
        return;
    const server_log_entry entry = {
        .request_id = self->id,
        .client = self->client,
        .method = self->method,
        .path = self->path,
        .status = self->status,
        .ms = clock_ms_since(self->begin_ns),
        .generated = self->used,
        .usage = self->usage,
    };
    options->on_log(options->on_log_user, &entry);
}

static void ended(void *of, struct MHD_Connection *connection, void **state,
                  enum MHD_RequestTerminationCode code) {
    server *self = of;
    exchange *one = *state;
    (void)connection;
    if (one == NULL)
        return;
    *state = NULL;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && code != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN)
        one->status = 0;
    log_exchange(one);
    pthread_mutex_lock(&self->lock);
    self->answered[one->status / 100 < 6 ? one->status / 100 : 5]++;
    if (one->previous != NULL)
        one->previous->next = one->next;
    else
        self->exchanges = one->next;
    if (one->next != NULL)
        one->next->previous = one->previous;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    exchange_free(one);
}

static bool announces_too_much(const exchange *self) {
    const char *length =
        MHD_lookup_connection_value(self->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length != NULL && strtoull(length, NULL, 10) > self->server->options.body_bytes_max;
}

static enum MHD_Result handle(void *of, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **state) {
    server *self = of;
    (void)version;
    exchange *one = *state;
    if (one == NULL) {
        *state = one = exchange_new(self, connection, path, method);
        if (one == NULL)
            return MHD_NO;
        one->too_large = announces_too_much(one);
        return one->too_large ? routes_answer(one) : MHD_YES; /* before it is sent */
    }
    if (*upload_bytes > 0) {
        one->too_large = one->too_large || *upload_bytes > self->options.body_bytes_max - one->body.bytes;
        if (!one->too_large)
            strbuf_append(&one->body, upload, *upload_bytes);
        *upload_bytes = 0;
        return MHD_YES;
    }
    return routes_answer(one);
}

/* ----------------------------------------------------------------------------- answers ------ */

static enum MHD_Result queue(exchange *self, unsigned status, const char *type,
                             struct MHD_Response *response) {
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, "X-Request-Id", self->id);
    if (self->server->options.cors_origin != NULL) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin", self->server->options.cors_origin);
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "authorization, content-type");
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE");
    }
    if (status == 429)
        MHD_add_response_header(response, "Retry-After", "1");
    enum MHD_Result queued = MHD_queue_response(self->connection, status, response);
    MHD_destroy_response(response);
    self->status = status;
    return queued;
}

enum MHD_Result exchange_send(exchange *self, unsigned status, const char *type, const char *text,
                              size_t bytes) {
    return queue(self, status, type,
                 MHD_create_response_from_buffer(bytes, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY));
}

enum MHD_Result exchange_send_json(exchange *self, unsigned status, json_t *value) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (text == NULL)
        return MHD_NO;
    size_t bytes = strlen(text);
    struct MHD_Response *response = MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
    return queue(self, status, "application/json", response);
}

enum MHD_Result exchange_send_error(exchange *self, const api_error *problem) {
    return exchange_send_json(self, problem->status, api_error_json(problem));
}

enum MHD_Result exchange_send_failure(exchange *self, const cento_error *error) {
    api_error problem;
    api_error_from(&problem, error);
    return exchange_send_error(self, &problem);
}

enum MHD_Result exchange_send_stream(exchange *self, MHD_ContentReaderCallback reader) {
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, reader, self, NULL);
    if (response != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    return queue(self, 200, "text/event-stream", response);
}

/* ------------------------------------------------------------------------ start and stop ---- */

static cento_status find_address(const server_options *options, struct addrinfo **found, cento_error *error) {
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char port[8];
    snprintf(port, sizeof port, "%u", options->port);
    int failed = getaddrinfo(options->host, port, &wanted, found);
    return failed == 0 ? CENTO_OK
                       : error_set(error, CENTO_INVALID_ARGUMENT, "no address '%.100s': %s", options->host,
                                   gai_strerror(failed));
}

static cento_status start_daemon(server *self, cento_error *error) {
    struct addrinfo *address = NULL;
    TRY(find_address(&self->options, &address, error));
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    if (address->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    errno = 0;
    self->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, handle, self, MHD_OPTION_SOCK_ADDR, address->ai_addr,
                         MHD_OPTION_NOTIFY_COMPLETED, ended, self, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)self->options.connections_max, MHD_OPTION_CONNECTION_TIMEOUT,
                         (unsigned)self->options.idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t)HEADER_BYTES_MAX, MHD_OPTION_END);
    freeaddrinfo(address);
    if (self->daemon == NULL)
        return error_set(error, CENTO_IO, "cannot listen on %s port %u: %s", self->options.host,
                         self->options.port, errno == 0 ? "unknown reason" : strerror(errno));
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_BIND_PORT);
    self->port = info == NULL ? self->options.port : info->port;
    return CENTO_OK;
}

static void free_all(server *self) {
    cento_tokenizer_close(self->tokenizer);
    mem_free(self->model_name);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    mem_free(self);
}

cento_status server_start(cento_engine *engine, const server_options *options, server **result,
                          cento_error *error) {
    server *self = mem_zalloc(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, sizeof *self);
    self->options = *options;
    self->options.host = options->host == NULL ? "127.0.0.1" : options->host;
    self->options.body_bytes_max = options->body_bytes_max == 0 ? BODY_BYTES_MAX : options->body_bytes_max;
    self->options.connections_max =
        options->connections_max == 0 ? CONNECTIONS_MAX : options->connections_max;
    self->options.idle_timeout_s = options->idle_timeout_s == 0 ? IDLE_TIMEOUT_S : options->idle_timeout_s;
    self->engine = engine;
    self->started = (int64_t)time(NULL);
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &clock);
    pthread_condattr_destroy(&clock);
    cento_stats stats;
    cento_engine_stats(engine, &stats);
    self->context_tokens = stats.context_tokens_max;
    self->model_name = mem_strdup(stats.model_name);
    cento_status status = self->model_name == NULL ? error_memory(error, strlen(stats.model_name)) : CENTO_OK;
    if (status == CENTO_OK)
        status = cento_tokenizer_open(options->model_path, &self->tokenizer, error);
    if (status == CENTO_OK)
        status = start_daemon(self, error);
    if (status != CENTO_OK) {
        free_all(self);
        return status;
    }
    self->ticking = true;
    if (pthread_create(&self->ticker, NULL, tick, self) != 0) {
        self->ticking = false;
        server_stop(self, 0);
        return error_set(error, CENTO_OUT_OF_MEMORY, "no thread for the server's clock");
    }
    *result = self;
    return CENTO_OK;
}

uint16_t server_port(const server *self) {
    return self->port;
}

void server_stop(server *self, uint32_t drain_ms) {
    if (self == NULL)
        return;
    MHD_socket listening = MHD_quiesce_daemon(self->daemon);
    struct timespec until = clock_deadline(drain_ms);
    pthread_mutex_lock(&self->lock);
    self->stopping = true;
    while (self->exchanges != NULL && pthread_cond_timedwait(&self->changed, &self->lock, &until) == 0) {
    }
    bool ticked = self->ticking;
    self->ticking = false;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    if (ticked)
        pthread_join(self->ticker, NULL);
    /* a daemon with suspended connections cannot be stopped */
    pthread_mutex_lock(&self->lock);
    self->aborting = true;
    for (exchange *one = self->exchanges; one != NULL; one = one->next)
        exchange_wake(one);
    pthread_mutex_unlock(&self->lock);
    MHD_stop_daemon(self->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
    free_all(self);
}

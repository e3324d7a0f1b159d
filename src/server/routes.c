/* Which function answers what. */
#include <string.h>

#include "http.h"

static enum MHD_Result models_answer(exchange *self) {
    const server *of = self->server;
    return exchange_send_json(self, 200,
                              json_pack("{s:s, s:[{s:s, s:s, s:I, s:s, s:I}]}", "object", "list", "data",
                                        "id", of->model_name, "object", "model", "created",
                                        (json_int_t)of->started, "owned_by", "cento", "max_model_len",
                                        (json_int_t)of->context_tokens));
}

static enum MHD_Result model_answer(exchange *self, const char *name) {
    const server *of = self->server;
    api_error problem;
    if (strcmp(name, of->model_name) == 0)
        return exchange_send_json(self, 200,
                                  json_pack("{s:s, s:s, s:I, s:s}", "id", of->model_name, "object", "model",
                                            "created", (json_int_t)of->started, "owned_by", "cento"));
    api_error_no_model(&problem, name, of->model_name);
    return exchange_send_error(self, &problem);
}

static enum MHD_Result health_answer(exchange *self) {
    return exchange_send_json(self, 200, json_pack("{s:s}", "status", "ok"));
}

/* Whether a request would be taken now. */
static enum MHD_Result ready_answer(exchange *self) {
    server *of = self->server;
    pthread_mutex_lock(&of->lock);
    bool stopping = of->stopping;
    pthread_mutex_unlock(&of->lock);
    return exchange_send_json(self, stopping ? 503 : 200, json_pack("{s:b}", "ready", !stopping));
}

static enum MHD_Result chat_answer(exchange *self) {
    return completion_begin(self, COMPLETION_CHAT);
}

static enum MHD_Result text_answer(exchange *self) {
    return completion_begin(self, COMPLETION_TEXT);
}

static enum MHD_Result collection_answer(exchange *self) {
    return chunks_answer(self, NULL);
}

static const struct {
    const char *method, *path;
    enum MHD_Result (*answer)(exchange *self);
} routes[] = {
    {"GET", "/health", health_answer},
    {"GET", "/ready", ready_answer},
    {"GET", "/metrics", metrics_answer},
    {"GET", "/v1/models", models_answer},
    {"POST", "/v1/chat/completions", chat_answer},
    {"POST", "/v1/completions", text_answer},
    {"GET", "/v1/chunks", collection_answer},
    {"POST", "/v1/chunks", collection_answer},
    {"POST", "/tokenize", tokenize_answer},
    {"POST", "/detokenize", detokenize_answer},
};

/* Of those whose last part is a name. */
static const struct {
    const char *methods, *prefix;
    enum MHD_Result (*answer)(exchange *self, const char *name);
} named_routes[] = {
    {"GET", "/v1/models/", model_answer},
    {"GET PATCH DELETE", "/v1/chunks/", chunks_answer},
};

static enum MHD_Result refuse(exchange *self) {
    api_error problem;
    bool known = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        known = known || strcmp(routes[i].path, self->path) == 0;
    for (size_t i = 0; i < sizeof named_routes / sizeof *named_routes; i++)
        known = known || strncmp(named_routes[i].prefix, self->path, strlen(named_routes[i].prefix)) == 0;
    if (known)
        api_error_set(&problem, 405, "method_not_allowed", NULL, "%s does not take %.20s", self->path,
                      self->method);
    else
        api_error_set(&problem, 404, "not_found", NULL, "there is no %.200s here", self->path);
    return exchange_send_error(self, &problem);
}

enum MHD_Result routes_answer(exchange *self) {
    api_error problem;
    if (self->begun)
        return completion_go_on(self);
    self->begun = true;
    if (self->too_large) {
        api_error_set(&problem, 413, "too_large", NULL, "the body is larger than %llu bytes",
                      (unsigned long long)self->server->options.body_bytes_max);
        return exchange_send_error(self, &problem);
    }
    if (self->body.failed) {
        api_error_memory(&problem);
        return exchange_send_error(self, &problem);
    }
    const char *method = strcmp(self->method, "HEAD") == 0 ? "GET" : self->method;
    if (strcmp(method, "OPTIONS") == 0 && self->server->options.cors_origin != NULL)
        return exchange_send(self, 204, "text/plain", "", 0);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, self->path) == 0 && strcmp(routes[i].method, method) == 0)
            return routes[i].answer(self);
    for (size_t i = 0; i < sizeof named_routes / sizeof *named_routes; i++) {
        size_t bytes = strlen(named_routes[i].prefix);
        if (strncmp(named_routes[i].prefix, self->path, bytes) == 0 && self->path[bytes] != '\0' &&
            strstr(named_routes[i].methods, method) != NULL)
            return named_routes[i].answer(self, self->path + bytes);
    }
    return refuse(self);
}

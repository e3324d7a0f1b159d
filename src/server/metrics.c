/* /metrics: Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). */
#include <stddef.h>
#include <string.h>

#include "http.h"

typedef struct metric {
    const char *name;   /* without "cento_" */
    const char *labels; /* "state=\"free\""; NULL: none. Those of one name stand together */
    enum { U32, U64, F64 } type;
    size_t offset; /* in cento_stats */
    const char *help;
} metric;

#define OF(field) offsetof(cento_stats, field)

static const metric metrics[] = {
    {"pages", "state=\"free\"", U32, OF(pages_free), "KV pages by state"},
    {"pages", "state=\"chunk_used\"", U32, OF(pages_chunk_used), ""},
    {"pages", "state=\"chunk_unused\"", U32, OF(pages_chunk_unused), ""},
    {"pages", "state=\"sequence\"", U32, OF(pages_sequence), ""},
    {"kv_pool_bytes", NULL, U64, OF(kv_pool_bytes), "size of the KV pool"},
    {"kv_logical_bytes", NULL, U64, OF(kv_logical_bytes), "KV that the running requests would hold alone"},
    {"kv_physical_bytes", NULL, U64, OF(kv_physical_bytes), "KV that they hold together"},
    {"memory_savings_ratio", NULL, F64, OF(memory_savings), "1 - physical / logical"},
    {"chunks", NULL, U32, OF(chunks), "registered chunks"},
    {"chunks_pinned", NULL, U32, OF(chunks_pinned), "of these, pinned"},
    {"kv_states", NULL, U32, OF(kv_states), "KV states held"},
    {"kv_lookups_total", "result=\"hit\"", U64, OF(kv_hits), "KV looked for"},
    {"kv_lookups_total", "result=\"miss\"", U64, OF(kv_misses), ""},
    {"chunk_registrations_total", "result=\"hit\"", U64, OF(chunk_hits), "content registered"},
    {"chunk_registrations_total", "result=\"miss\"", U64, OF(chunk_misses), ""},
    {"chunk_evictions_total", NULL, U64, OF(chunk_evictions), "chunks evicted"},
    {"chunk_expirations_total", NULL, U64, OF(chunk_expirations), "chunks whose time was over"},
    {"requests", "state=\"waiting\"", U32, OF(requests_waiting), "requests by state"},
    {"requests", "state=\"running\"", U32, OF(requests_running), ""},
    {"requests_total", "end=\"finished\"", U64, OF(requests_finished), "requests that have ended"},
    {"requests_total", "end=\"cancelled\"", U64, OF(requests_cancelled), ""},
    {"requests_total", "end=\"failed\"", U64, OF(requests_failed), ""},
    {"preemptions_total", NULL, U64, OF(preemptions), "requests that had to give their pages back"},
    {"prompt_tokens_total", NULL, U64, OF(prompt_tokens), "of requests that have ended"},
    {"cached_tokens_total", NULL, U64, OF(cached_tokens), "of these, not computed by the request"},
    {"completion_tokens_total", NULL, U64, OF(completion_tokens), "of requests that have ended"},
    {"forward_tokens_total", NULL, U64, OF(forward_tokens), "rows computed"},
    {"steps_total", NULL, U64, OF(steps), "forward passes of the engine"},
    {"step_milliseconds_total", NULL, F64, OF(step_ms), "time in steps"},
    {"step_part_milliseconds_total", "part=\"plan\"", F64, OF(attention_plan_ms), "of it, by part"},
    {"step_part_milliseconds_total", "part=\"forward\"", F64, OF(forward_ms), ""},
    {"step_part_milliseconds_total", "part=\"sample\"", F64, OF(sample_ms), ""},
    {"kv_read_bytes_total", NULL, U64, OF(kv_bytes_read), "KV read by attention, as planned"},
    {"kv_read_unshared_bytes_total", NULL, U64, OF(kv_bytes_read_unshared),
     "what plans without sharing would have read"},
};

/* By Prometheus' own rule for names. */
static bool is_counter(const char *name) {
    static const char suffix[] = "_total";
    size_t bytes = strlen(name), end = sizeof suffix - 1;
    return bytes > end && strcmp(name + bytes - end, suffix) == 0;
}

static void put_value(strbuf *text, const metric *one, const cento_stats *stats) {
    const char *at = (const char *)stats + one->offset;
    if (one->type == U32)
        strbuf_printf(text, "%u\n", *(const uint32_t *)(const void *)at);
    else if (one->type == U64)
        strbuf_printf(text, "%llu\n", (unsigned long long)*(const uint64_t *)(const void *)at);
    else
        strbuf_printf(text, "%.9g\n", *(const double *)(const void *)at);
}

static void put_answered(strbuf *text, server *of) {
    static const char *const names[6] = {"gone", "1xx", "2xx", "3xx", "4xx", "5xx"};
    strbuf_puts(text, "# HELP cento_http_requests_total answers by status\n"
                      "# TYPE cento_http_requests_total counter\n");
    pthread_mutex_lock(&of->lock);
    for (int i = 0; i < 6; i++)
        if (i != 1 && i != 3)
            strbuf_printf(text, "cento_http_requests_total{status=\"%s\"} %llu\n", names[i],
                          (unsigned long long)of->answered[i]);
    pthread_mutex_unlock(&of->lock);
}

enum MHD_Result metrics_answer(exchange *self) {
    strbuf text = {0};
    cento_stats stats;
    cento_engine_stats(self->server->engine, &stats);
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        const metric *one = &metrics[i];
        if (one->help[0] != '\0')
            strbuf_printf(&text, "# HELP cento_%s %s\n# TYPE cento_%s %s\n", one->name, one->help, one->name,
                          is_counter(one->name) ? "counter" : "gauge");
        strbuf_printf(&text, "cento_%s", one->name);
        if (one->labels != NULL)
            strbuf_printf(&text, "{%s}", one->labels);
        strbuf_putc(&text, ' ');
        put_value(&text, one, &stats);
    }
    put_answered(&text, self->server);
    enum MHD_Result sent =
        text.failed ? MHD_NO : exchange_send(self, 200, "text/plain; version=0.0.4", text.data, text.bytes);
    strbuf_free(&text);
    return sent;
}

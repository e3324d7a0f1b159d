/*
 * cento.h: the whole public API of cento, an LLM inference engine whose prompts are composed of
 * content-addressed chunks that are computed once and reused. Simplest first:
 *
 *   1. Status and errors
 *   2. Opening a model, one-call generation
 *   3. Pieces, modes of composition, sampling: what a request may say
 *   4. Results: text, accounting, timing
 *   5. Many requests at once: submit, poll, wait, cancel; batches; previews
 *   6. Registered chunks
 *   7. Metrics
 *   8. Text without an engine: tokenizer, model description
 *
 * Conventions. Every function that can fail returns a cento_status and, if `error` is not NULL,
 * fills in a message that says what was wrong, where, and what was expected. The library never
 * exits, aborts or prints. Strings are UTF-8; `*_bytes` counts bytes, `*_tokens` counts tokens.
 * Structs that the caller fills in start from their `*_default()` function, so that fields added
 * later keep a sensible value.
 *
 * Threads. A cento_engine has a thread of its own that computes; any thread may submit requests, register
 * chunks and read metrics, and requests of many threads are computed together. Callbacks of a request run on
 * the thread that waits for it or polls it, but for on_ready. One cento_generation is used by one thread at a
 * time, except for cento_generation_cancel. A cento_tokenizer is immutable after opening and may be used by
 * many threads at once.
 */
#ifndef CENTO_H
#define CENTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CENTO_API                               __attribute__((visibility("default")))
#define CENTO_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))
#else
#define CENTO_API
#define CENTO_PRINTF(format_index, first_index)
#endif

/* ---------------------------------------------------------------- 1. status and errors ---- */

/* name, value, message: the one table of status codes */
#define CENTO_STATUS_MAP(X)                                                                                  \
    X(OK, 0, "success")                                                                                      \
    X(INVALID_ARGUMENT, 1, "an argument is not valid")                                                       \
    X(NOT_FOUND, 2, "no such file, chunk or tensor")                                                         \
    X(IO, 3, "reading or writing failed")                                                                    \
    X(OUT_OF_MEMORY, 4, "out of memory")                                                                     \
    X(INVALID_MODEL, 5, "the model's files are damaged or contradictory")                                    \
    X(UNSUPPORTED, 6, "this is not supported")                                                               \
    X(CONTEXT_FULL, 7, "the prompt does not fit the model's context")                                        \
    X(POOL_FULL, 8, "no KV pages are left")                                                                  \
    X(TEMPLATE, 9, "the chat template failed")                                                               \
    X(CANCELLED, 10, "cancelled by the caller")                                                              \
    X(BACKEND, 11, "the compute backend failed")                                                             \
    X(INTERNAL, 12, "a defect in cento")                                                                     \
    X(QUEUE_FULL, 13, "too many requests are waiting")                                                       \
    X(CLOSED, 14, "the engine is being closed")

typedef enum cento_status {
#define CENTO_STATUS_ENUM(name, value, message) CENTO_##name = value,
    CENTO_STATUS_MAP(CENTO_STATUS_ENUM)
#undef CENTO_STATUS_ENUM
} cento_status;

/* Where a failing call says what happened. Owned by the caller; no release needed. */
typedef struct cento_error {
    cento_status status;
    char message[1024]; /* one line, no newline at its end */
} cento_error;

/* "INVALID_MODEL" and "the model's files are …"; for values out of range, "UNKNOWN". */
CENTO_API const char *cento_status_name(cento_status status);
CENTO_API const char *cento_status_message(cento_status status);

/* "0.1.0" */
CENTO_API const char *cento_version(void);

/* ------------------------------------------------- 2. opening a model, one-call use ------- */

typedef struct cento_engine cento_engine;
typedef struct cento_result cento_result;
typedef struct cento_request cento_request;

typedef enum cento_dtype {
    CENTO_DTYPE_BF16 = 0, /* products in bf16 with f32 accumulation (default) */
    CENTO_DTYPE_F32 = 1,
} cento_dtype;

/* Called while loading, on the thread that opens, and during long prefills, on the thread that waits. */
typedef struct cento_progress {
    const char *stage; /* "load" or "prefill" */
    uint64_t done;     /* bytes for "load", tokens for "prefill" */
    uint64_t total;
} cento_progress;
typedef void (*cento_progress_fn)(void *user, const cento_progress *progress);

typedef enum cento_kv_dtype {
    CENTO_KV_DTYPE_AUTO = 0, /* as the compute dtype */
    CENTO_KV_DTYPE_BF16 = 1,
    CENTO_KV_DTYPE_F32 = 2,
} cento_kv_dtype;

typedef struct cento_options {
    const char *model_path; /* a Hugging Face folder (config.json, *.safetensors, tokenizer.json, …) */
    const char
        *device; /* "cpu", "cuda", "cuda:N" (the Nth GPU), or "auto": a GPU if one serves, else the CPU */
    const char *attention;     /* "auto": cento's own kernels; "flashinfer": FlashInfer's, on a GPU, in builds
                                * that     have them */
    cento_dtype compute_dtype; /* of the matrix products */
    cento_kv_dtype kv_dtype;   /* of what the pages hold */
    uint32_t context_tokens_max; /* longest prompt + answer; 0: the model's own limit, at most 8192 */
    uint64_t kv_pool_tokens;     /* KV tokens held for chunks and sequences; 0: 4 × context_tokens_max */
    uint32_t page_tokens;        /* 16, 32 or 64; 0: the default, 32 */
    uint32_t threads;            /* 0: one per physical core */

    /* batching */
    uint32_t max_sequences; /* computed at the same time; 0: the default, 32 */
    uint32_t
        max_batched_tokens; /* rows of one forward pass, prefill and decode together; 0: the default, 512 */
    uint32_t max_waiting;   /* submitted and not begun, beyond which QUEUE_FULL; 0: the default, 1024 */

    /* sharing */
    bool enable_cascade;         /* shared runs of KV are attended to once for all sequences; default true.
                                  * Without it they are still held once, and answers are the same */
    uint32_t max_cascade_levels; /* 1: nothing is attended together; 2: what all sequences share; 3: what any
                                  * two share; 0: the default, 3 */
    bool enable_reuse;           /* KV is kept for later requests and shared by those at work; default true */
    bool deterministic; /* a request's logits are the same bits whatever runs beside it and whatever was
                         * cached; costs speed on a GPU and where the CPU has AMX; default false: the same
                         * but for the last bits */

    /* memory */
    double chunk_page_ratio;       /* what of the pool chunks may hold for certain; 0: the default, 0.5 */
    bool chunk_page_borrow;        /* either side may use what the other does not; default true */
    uint32_t chunk_registry_size;  /* chunks registered at a time; 0: the default, 1000 */
    uint64_t chunk_bytes_max;      /* KV kept for chunks that no request uses; 0: as much as the pool holds */
    double gpu_memory_utilization; /* of a GPU's memory what weights, KV and workspaces may take together; 0:
                                    * the default, 0.9. Without kv_pool_tokens the pool takes what is left of
                                    * it, up to what max_sequences contexts need twice */

    cento_progress_fn on_progress; /* may be NULL */
    void *on_progress_user;
} cento_options;

CENTO_API cento_options cento_options_default(void);

/* Loads a model. *engine is set only on success; one cento_close for each successful open. */
CENTO_API cento_status cento_open(const cento_options *options, cento_engine **engine, cento_error *error);
/* Ends what is under way (CENTO_CLOSED for those who wait), and frees everything. No other call on the engine
 * may be under way or follow but for its generations, which must still be freed. NULL is allowed. */
CENTO_API void cento_close(cento_engine *engine);

/* Runs one request to its end. *result is set only on success (and on CENTO_CANCELLED, with what
 * there was until then); one cento_result_free for each. */
CENTO_API cento_status cento_generate(cento_engine *engine, const cento_request *request,
                                      cento_result **result, cento_error *error);
CENTO_API void cento_result_free(cento_result *result); /* NULL is allowed */
/* Makes every request that is waiting or running end with CENTO_CANCELLED after the forward pass under way.
 * Without any, does nothing. Callable from any thread and from a signal handler. */
CENTO_API void cento_cancel(cento_engine *engine);

/* --------------------------------------- 3. what a request may say ------------------------ */

/* What a piece of a prompt is. Decides its place in the chat template and how long it is kept. */
typedef enum cento_kind {
    CENTO_KIND_SYSTEM = 0,  /* system prompt: the system message */
    CENTO_KIND_CONTEXT = 1, /* a document: stands in the user message before the query */
    CENTO_KIND_QUERY = 2,   /* the user's words: ends a user message */
    CENTO_KIND_OUTPUT = 3,  /* an earlier answer: an assistant message */
    CENTO_KIND_TOOL = 4,    /* a tool's schema: stands in the system message */
} cento_kind;
CENTO_API const char *cento_kind_name(cento_kind kind); /* "system", "context", … */

/* How cached chunks may be used. Only EXACT gives the logits of a prefill without a cache. */
typedef enum cento_mode {
    CENTO_MODE_EXACT = 0,       /* reuse only KV that saw the same tokens before it */
    CENTO_MODE_INDEPENDENT = 1, /* chunks computed alone, reused at any offset, in any order */
    CENTO_MODE_LINK = 2,        /* independent, with the first link_tokens of each recomputed in place */
} cento_mode;

/* One piece of the prompt. Its text is tokenized by itself, so equal pieces are equal chunks. */
typedef struct cento_piece {
    cento_kind kind;
    const char *text; /* UTF-8, not NUL-terminated; exactly one of text, tokens and content_id is set */
    size_t text_bytes;
    const int32_t *tokens; /* token ids instead of text */
    size_t token_count;
    const char *content_id; /* of a registered chunk, 64 hex digits; NOT_FOUND if there is none */
    const char *label;      /* for people: a file name, say; may be NULL */
} cento_piece;

typedef struct cento_logit_bias {
    int32_t token;
    float bias; /* added to the logit */
} cento_logit_bias;

typedef struct cento_sampling {
    float temperature;        /* 0: greedy */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off; keeps tokens with p >= min_p × p of the likeliest */
    float repetition_penalty; /* 1: off; CTRL paper (arXiv:1909.05858), over prompt and answer */
    float presence_penalty;   /* 0: off; subtracted once for each token already in the answer */
    float frequency_penalty;  /* 0: off; subtracted for each occurrence in the answer */
    const cento_logit_bias *logit_bias;
    size_t logit_bias_count;
    bool seed_set; /* false: a seed from the system's random source */
    uint64_t seed;
} cento_sampling;

/* The text that came since the last call. Return false to cancel. Never half a UTF-8 character. */
typedef struct cento_delta {
    const char *text; /* NUL-terminated; may be empty while a stop string may be under way */
    size_t text_bytes;
    uint32_t completion_tokens; /* so far */
} cento_delta;
typedef bool (*cento_delta_fn)(void *user, const cento_delta *delta);

/* Whether the answer becomes a chunk of kind OUTPUT, for later prompts to name. */
typedef enum cento_retain {
    CENTO_RETAIN_NONE = 0, /* its KV is still kept, for prompts that go on with the same tokens */
    CENTO_RETAIN_ANSWER = 1,
    /* Without what stands in <think>…</think>. The rest is computed again behind the prompt, so that its KV
     * is exact for prompts without the thoughts; usage.retained_tokens_computed says what that cost. */
    CENTO_RETAIN_WITHOUT_THINKING = 2,
} cento_retain;

struct cento_request {
    const cento_piece *pieces; /* in the order in which they stand in the prompt */
    size_t piece_count;
    bool raw; /* true: no chat template, the pieces are joined as they are */
    cento_mode mode;
    uint32_t link_tokens; /* for CENTO_MODE_LINK: tokens recomputed at the head of each chunk */
    bool anchored;        /* INDEPENDENT, LINK: chunks see what stands before the first context
                           * piece (system prompt) when their KV is computed */
    const char *salt;     /* requests with different salts share nothing; NULL: none */
    cento_sampling sampling;
    uint32_t completion_tokens_max; /* 0: until the context is full */
    bool ignore_eos;
    const char *const *stop; /* stop strings; not part of the text */
    size_t stop_count;
    const int32_t *stop_tokens; /* further end-of-text ids */
    size_t stop_token_count;
    uint32_t logprobs; /* 0: none; n: of the chosen and of the n likeliest tokens (at most 20), as n+1 is
                        * not a case of its own: logprobs = 1 gives the chosen and the likeliest one */
    int32_t priority;  /* larger goes first; 0 by default */
    cento_retain retain;
    cento_delta_fn on_delta; /* may be NULL */
    void *on_delta_user;
    /* Called on the engine's thread when there is something to poll: text or the end. Must return at once and
     * call nothing of this library; may be NULL. */
    void (*on_ready)(void *user);
    void *on_ready_user;
};

/* exact, the model's generation_config for sampling where it has one is NOT applied: greedy. */
CENTO_API cento_request cento_request_default(void);
/* The sampling that the model's generation_config.json asks for; greedy where it says nothing. */
CENTO_API cento_sampling cento_engine_sampling(const cento_engine *engine);

/* "exact", "independent", "link:16" into mode and link_tokens; INVALID_ARGUMENT otherwise. */
CENTO_API cento_status cento_mode_parse(const char *text, cento_mode *mode, uint32_t *link_tokens,
                                        cento_error *error);

/* ------------------------------------------------------------------- 4. results ---------- */

typedef enum cento_finish {
    CENTO_FINISH_STOP = 0,      /* end-of-text token, stop token or stop string */
    CENTO_FINISH_LENGTH = 1,    /* completion_tokens_max or the context's end */
    CENTO_FINISH_CANCELLED = 2, /* by on_delta, cento_generation_cancel or cento_cancel */
} cento_finish;
CENTO_API const char *cento_finish_name(cento_finish finish); /* "stop", "length", "cancelled" */

/* Where every token of the prompt came from:
 *   prompt_tokens = cached_tokens + computed by this request for the prompt
 *   cached_tokens = exact_tokens + approximate_tokens
 * What another request computed while this one was waiting for it is cached for this one. computed_tokens are
 * the rows that this request brought into forward passes: chunks that it computed first, the answer's tokens,
 * and what was computed again after a preemption included. */
typedef struct cento_usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t cached_tokens;      /* prompt tokens whose KV this request did not compute */
    uint32_t exact_tokens;       /* of these, with the KV a full prefill would give */
    uint32_t approximate_tokens; /* of these, with the KV of a chunk computed without its neighbours */
    uint32_t recomputed_tokens;  /* LINK: tokens at chunk heads, cached but computed again in place */
    uint32_t computed_tokens;
    uint32_t retained_tokens_computed; /* of these, for CENTO_RETAIN_WITHOUT_THINKING */
    uint32_t preemptions;              /* how often it had to give its pages back */
} cento_usage;

typedef struct cento_timing {
    double queue_ms;   /* from submission to the first forward pass that could be its own */
    double ttft_ms;    /* from submission to the first token */
    double prefill_ms; /* chunks and prompt */
    double decode_ms;
    double prefill_tokens_per_s; /* prompt tokens computed per second; 0 if none were */
    double decode_tokens_per_s;
} cento_timing;

typedef enum cento_source {
    CENTO_SOURCE_COMPUTED = 0,   /* computed in this request */
    CENTO_SOURCE_EXACT = 1,      /* reused, exact */
    CENTO_SOURCE_APPROXIMATE = 2 /* reused (or just computed alone), not what a full prefill would give */
} cento_source;
CENTO_API const char *cento_source_name(cento_source source); /* "computed", "exact", "approximate" */

/* A piece of the prompt as it was used. Template text between pieces has kind_is_template. */
typedef struct cento_segment {
    cento_kind kind;
    bool kind_is_template;
    char content_id[65]; /* SHA-256 in hex */
    uint32_t tokens;
    uint32_t offset;        /* position of its first token in the prompt */
    uint32_t cached_tokens; /* of its tokens, not computed by this request */
    cento_source source;
} cento_segment;

typedef struct cento_token_logprob {
    int32_t token;
    float logprob; /* natural log, of the model's distribution before sampling changes it */
} cento_token_logprob;

struct cento_result {
    char *text; /* NUL-terminated */
    size_t text_bytes;
    const int32_t *tokens; /* the answer's token ids, without the token that ended it */
    size_t token_count;
    cento_finish finish;
    cento_mode mode;
    uint32_t link_tokens;
    cento_usage usage;
    cento_timing timing;
    const cento_segment *segments;
    size_t segment_count;
    /* (token_count, 1 + logprobs): for each token the chosen one first, then the likeliest ones;
     * NULL if none were asked for */
    const cento_token_logprob *logprobs;
    size_t logprobs_per_token;
    char output_id[65]; /* content id of the retained answer; "" if none was retained */
};

/* --------------------------------------------------------- 5. many requests at once ---- */

/* A request under way. */
typedef struct cento_generation cento_generation;

/* Checks a request, builds its prompt and queues it. Everything that it needs of the request is copied,
 * callbacks excepted. *generation is set only on success; one cento_generation_free for each. Fails at once
 * with what is wrong with the request, CONTEXT_FULL or POOL_FULL if it can never fit, QUEUE_FULL if
 * max_waiting are waiting. */
CENTO_API cento_status cento_submit(cento_engine *engine, const cento_request *request,
                                    cento_generation **generation, cento_error *error);
/* Calls on_delta with what has come since, on this thread, and says whether the request has ended. Does not
 * block. A false from on_delta cancels. */
CENTO_API bool cento_poll(cento_generation *generation);
/* The same until the end or for timeout_ms (negative: without limit); true: it has ended. */
CENTO_API bool cento_wait(cento_generation *generation, int64_t timeout_ms);
/* It ends with CENTO_CANCELLED after the forward pass under way, or at once if it is waiting. From any
 * thread. */
CENTO_API void cento_generation_cancel(cento_generation *generation);
/* Waits for the end (as cento_wait) and hands over the result, as cento_generate does. INVALID_ARGUMENT when
 * it was handed over before. */
CENTO_API cento_status cento_generation_result(cento_generation *generation, cento_result **result,
                                               cento_error *error);
/* Cancels if need be. Never blocks for longer than a forward pass. NULL is allowed. */
CENTO_API void cento_generation_free(cento_generation *generation);

/* Called on the calling thread, in order of completion. *result may be NULL (failed); it is freed afterwards
 * unless the callback sets it to NULL. error is only valid during the call. Return false to cancel the rest.
 */
typedef bool (*cento_batch_fn)(void *user, size_t index, cento_status status, cento_result **result,
                               const cento_error *error);
/* Runs many requests; keeps as many queued as max_waiting allows. Fails only if none could be run (bad
 * arguments) or if on_result returned false (CANCELLED); what is wrong with one request goes to on_result. */
CENTO_API cento_status cento_generate_batch(cento_engine *engine, const cento_request *requests, size_t count,
                                            cento_batch_fn on_result, void *user, cento_error *error);

/* The layout that a request's prompt would get now. */
typedef struct cento_preview {
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* KV that is there: exact + approximate */
    uint32_t exact_tokens;
    uint32_t approximate_tokens;
    uint32_t computed_tokens; /* rows that would be computed before the first token */
    uint32_t pages_held;      /* pages of what is there */
    uint32_t pages_new;       /* pages that the prompt would take */
    uint32_t pages_available; /* pages that could be had now, by eviction if need be */
    const cento_segment *segments;
    size_t segment_count;
} cento_preview;
/* Looks and changes nothing, not even the order of eviction. *preview is set only on success; one
 * cento_preview_free for each. Fails as cento_submit would. */
CENTO_API cento_status cento_compose_preview(cento_engine *engine, const cento_request *request,
                                             cento_preview **preview, cento_error *error);
CENTO_API void cento_preview_free(cento_preview *preview); /* NULL is allowed */

/* --------------------------------------------------------- 6. registered chunks ---------- */

typedef struct cento_chunk_info {
    char content_id[65];
    cento_kind kind;
    char label[128]; /* cut at its end if longer */
    uint32_t tokens;
    uint64_t uses;  /* by prompts */
    uint32_t users; /* requests that use it now */
    uint32_t pins;
    uint64_t kv_bytes;    /* over all its KV states; 0: registered, not computed yet */
    uint32_t kv_states;   /* how many KV states of it are held (modes, salts, places) */
    double age_s, idle_s; /* since it was registered, since it was last used */
    double ttl_s;         /* until it expires; negative: never */
} cento_chunk_info;

/* Registers a chunk without using it, and with `compute` computes its KV alone (INDEPENDENT) now.
 * Registering known content is a hit and gives the same id. The piece may not be a content_id. */
CENTO_API cento_status cento_chunk_add(cento_engine *engine, const cento_piece *piece, bool compute,
                                       cento_chunk_info *info, cento_error *error);
/* For all below: NOT_FOUND if there is no such chunk, INVALID_ARGUMENT if content_id is not 64 hex digits. */
CENTO_API cento_status cento_chunk_get(cento_engine *engine, const char *content_id, cento_chunk_info *info,
                                       cento_error *error);
/* A pinned chunk and its KV are neither evicted nor do they expire. Pins count. */
CENTO_API cento_status cento_chunk_pin(cento_engine *engine, const char *content_id, cento_error *error);
CENTO_API cento_status cento_chunk_unpin(cento_engine *engine, const char *content_id, cento_error *error);
/* It is removed after ttl_s seconds from now, unless pinned then; 0: never. */
CENTO_API cento_status cento_chunk_set_ttl(cento_engine *engine, const char *content_id, double ttl_s,
                                           cento_error *error);
/* Removes a chunk, pinned or not, and drops its KV once its last user is done. */
CENTO_API cento_status cento_chunk_remove(cento_engine *engine, const char *content_id, cento_error *error);
/* Removes all chunks and all KV that are neither pinned nor in use; returns how many chunks went. */
CENTO_API size_t cento_chunk_clear(cento_engine *engine);
/* Lists chunks, most recently used first. *infos is released with cento_free. */
CENTO_API cento_status cento_chunk_list(cento_engine *engine, cento_chunk_info **infos, size_t *count,
                                        cento_error *error);
CENTO_API void cento_free(void *memory);

/* --------------------------------------------------------------------- 7. metrics -------- */

#define CENTO_LEVELS 3

/* A snapshot; counters count since opening. */
typedef struct cento_stats {
    /* constant */
    double load_ms;
    uint64_t weight_bytes;
    uint64_t kv_pool_bytes;
    uint32_t context_tokens_max;
    uint32_t page_tokens;
    const char *model_name; /* folder name; lives as long as the engine */
    const char *backend;    /* "cpu avx2, 2 threads", same */

    /* pages by state; they add up to pages_total */
    uint32_t pages_total;
    uint32_t pages_free;
    uint32_t pages_chunk_used;   /* of chunks and prefixes, in use by requests */
    uint32_t pages_chunk_unused; /* kept for later; evictable unless pinned */
    uint32_t pages_sequence;     /* of one request alone */

    /* KV of the requests at work: what each would hold alone, and what they hold together */
    uint64_t kv_logical_bytes;
    uint64_t kv_physical_bytes;
    double memory_savings;      /* 1 - physical / logical; 0 if nothing is held */
    double memory_savings_peak; /* at the moment of the most logical bytes */
    uint64_t kv_logical_bytes_peak;
    uint64_t kv_physical_bytes_at_peak;
    uint64_t metadata_bytes; /* ids, tables, tokens: what managing the KV costs */

    /* registry */
    uint32_t chunks, chunks_pinned, kv_states;
    uint64_t chunk_hits, chunk_misses; /* content registered: known, or not */
    uint64_t kv_hits, kv_misses;       /* KV looked for: there, or not */
    uint64_t chunk_evictions, chunk_expirations;

    /* requests */
    uint32_t requests_waiting, requests_running;
    uint64_t requests_finished, requests_cancelled, requests_failed;
    uint64_t preemptions;
    uint64_t prompt_tokens, cached_tokens, completion_tokens; /* of requests that have ended */
    uint64_t forward_tokens;                                  /* rows computed, counted by the backend */

    /* steps */
    uint64_t steps;
    /* in all; plan, forward pass and sampling are parts of step_ms; where the device draws the tokens, that
     * is part of its forward pass */
    double step_ms, attention_plan_ms, forward_ms, sample_ms;
    /* attention, summed over steps, for one layer and KV head: level 0 shared by all sequences of a step, 1
     * by some, 2 read by one */
    uint64_t level_rows[CENTO_LEVELS];
    uint64_t level_tokens[CENTO_LEVELS];
    uint64_t kv_bytes_read;          /* by all layers, as planned */
    uint64_t kv_bytes_read_unshared; /* what a plan without sharing would have read */
} cento_stats;
CENTO_API void cento_engine_stats(cento_engine *engine, cento_stats *stats);

/* ----------------------------------- 8. text without an engine: tokenizer, model info ---- */

typedef struct cento_tokenizer cento_tokenizer;

/* model_path: a folder with tokenizer.json, or a .gguf file with a tokenizer in its metadata. */
CENTO_API cento_status cento_tokenizer_open(const char *model_path, cento_tokenizer **tokenizer,
                                            cento_error *error);
CENTO_API void cento_tokenizer_close(cento_tokenizer *tokenizer);
/* *tokens is released with cento_free. add_special: what the model puts before and after a text (BOS).
 * parse_special: special tokens spelled out in the text become their ids. */
CENTO_API cento_status cento_tokenize(const cento_tokenizer *tokenizer, const char *text, size_t text_bytes,
                                      bool add_special, bool parse_special, int32_t **tokens,
                                      size_t *token_count, cento_error *error);
/* *text is NUL-terminated and released with cento_free. */
CENTO_API cento_status cento_detokenize(const cento_tokenizer *tokenizer, const int32_t *tokens,
                                        size_t token_count, bool skip_special, char **text,
                                        size_t *text_bytes, cento_error *error);

/* The vocabulary's own spelling of a token ("Ġthe" in byte-level vocabularies), which may be less than a
 * character; lives as long as the tokenizer. NULL: no such token. *bytes may be NULL. */
CENTO_API const char *cento_token_spelling(const cento_tokenizer *tokenizer, int32_t token, size_t *bytes);

/* What a model folder holds, read from its headers without loading weights. A JSON object
 * (architecture, sizes, parameters, dtype, files, weight_bytes, kv_bytes_per_token, memory needed
 * for context_tokens); released with cento_free. context_tokens 0: the model's own limit. */
CENTO_API cento_status cento_model_describe(const char *model_path, uint32_t context_tokens, char **json,
                                            cento_error *error);

#ifdef __cplusplus
}
#endif
#endif

/*
 * cento.h: the whole public API of cento, an LLM inference engine whose prompts are composed of
 * content-addressed chunks that are computed once and reused. Simplest first:
 *
 *   1. Status and errors
 *   2. Opening a model, one-call generation
 *   3. Pieces, modes of composition, sampling: what a request may say
 *   4. Results: text, accounting, timing
 *   5. Registered chunks
 *   6. Text without an engine: tokenizer, model description
 *
 * Conventions. Every function that can fail returns a cento_status and, if `error` is not NULL,
 * fills in a message that says what was wrong, where, and what was expected. The library never
 * exits, aborts or prints. Strings are UTF-8; `*_bytes` counts bytes, `*_tokens` counts tokens.
 * Structs that the caller fills in start from their `*_default()` function, so that fields added
 * later keep a sensible value.
 *
 * Threads. A cento_engine may be used from any thread; calls on one engine take turns.
 * A cento_tokenizer is immutable after opening and may be used by many threads at once.
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
    X(QUEUE_FULL, 13, "too many requests are waiting")

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

/* Called while loading and during long prefills, on the calling thread. */
typedef struct cento_progress {
    const char *stage; /* "load" or "prefill" */
    uint64_t done;     /* bytes for "load", tokens for "prefill" */
    uint64_t total;
} cento_progress;
typedef void (*cento_progress_fn)(void *user, const cento_progress *progress);

typedef struct cento_options {
    const char *model_path;      /* a Hugging Face folder (config.json, *.safetensors, tokenizer.json, …) */
    const char *device;          /* "auto" or "cpu" */
    cento_dtype compute_dtype;   /* of the matrix products; the KV follows it */
    uint32_t context_tokens_max; /* longest prompt + answer; 0: the model's own limit, at most 8192 */
    uint64_t kv_pool_tokens;     /* KV tokens held for chunks and sequences; 0: 4 × context_tokens_max */
    uint32_t page_tokens;        /* 16, 32 or 64; 0: the default, 32 */
    uint32_t prefill_tokens_max; /* tokens in one forward pass; 0: the default, 512 */
    uint32_t threads;            /* 0: one per physical core */
    cento_progress_fn on_progress; /* may be NULL */
    void *on_progress_user;
} cento_options;

CENTO_API cento_options cento_options_default(void);

/* Loads a model. *engine is set only on success; one cento_close for each successful open. */
CENTO_API cento_status cento_open(const cento_options *options, cento_engine **engine, cento_error *error);
CENTO_API void cento_close(cento_engine *engine); /* NULL is allowed */

/* Runs one request to its end. *result is set only on success (and on CENTO_CANCELLED, with what
 * there was until then); one cento_result_free for each. */
CENTO_API cento_status cento_generate(cento_engine *engine, const cento_request *request,
                                      cento_result **result, cento_error *error);
CENTO_API void cento_result_free(cento_result *result); /* NULL is allowed */
/* Makes the request that is running end with CENTO_CANCELLED after the forward pass under way, prefill
 * included; without one, does nothing. Callable from any thread and from a signal handler. */
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
    const char *text; /* UTF-8, not NUL-terminated; exactly one of text and tokens is set */
    size_t text_bytes;
    const int32_t *tokens; /* token ids instead of text */
    size_t token_count;
    const char *label; /* for people: a file name, say; may be NULL */
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
    cento_delta_fn on_delta; /* may be NULL */
    void *on_delta_user;
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
    CENTO_FINISH_CANCELLED = 2, /* on_delta returned false */
} cento_finish;
CENTO_API const char *cento_finish_name(cento_finish finish); /* "stop", "length", "cancelled" */

/* Where every token of the prompt came from:
 *   prompt_tokens = cached_tokens + computed in this request for the prompt
 *   cached_tokens = exact_tokens + approximate_tokens
 * computed_tokens is counted by the backend: all tokens that went through the forward pass during
 * this request, chunks that it had to compute first and the answer's tokens included. */
typedef struct cento_usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t cached_tokens;      /* prompt tokens whose KV was there before this request */
    uint32_t exact_tokens;       /* of these, with the KV a full prefill would give */
    uint32_t approximate_tokens; /* of these, with the KV of a chunk computed without its neighbours */
    uint32_t recomputed_tokens;  /* LINK: tokens at chunk heads, cached but computed again in place */
    uint32_t computed_tokens;
} cento_usage;

typedef struct cento_timing {
    double ttft_ms;    /* from the call of cento_generate to the first token */
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
    uint32_t offset; /* position of its first token in the prompt */
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
};

/* What an engine holds, for status lines and metrics. */
typedef struct cento_stats {
    double load_ms;
    uint64_t weight_bytes;
    uint64_t kv_pool_bytes;
    uint32_t context_tokens_max;
    uint32_t page_tokens;
    uint32_t pages_total, pages_used, pages_used_chunks;
    uint32_t chunks; /* registered */
    uint64_t chunk_hits, chunk_misses, chunk_evictions;
    uint64_t forward_tokens;   /* counted by the backend since opening */
    uint64_t kv_logical_bytes; /* what every use of a chunk would hold alone */
    uint64_t kv_physical_bytes;
    const char *model_name; /* folder name; lives as long as the engine */
    const char *backend;    /* "cpu avx2, 2 threads", same */
} cento_stats;
CENTO_API void cento_engine_stats(cento_engine *engine, cento_stats *stats);

/* --------------------------------------------------------- 5. registered chunks ---------- */

typedef struct cento_chunk_info {
    char content_id[65];
    cento_kind kind;
    char label[128]; /* cut at its end if longer */
    uint32_t tokens;
    uint64_t uses;
    uint64_t kv_bytes;  /* over all its kv ids; 0: registered, not computed yet */
    uint32_t kv_states; /* how many kv ids of it are held */
} cento_chunk_info;

/* Registers a chunk without using it, and with `compute` computes its KV alone (INDEPENDENT) now.
 * Registering known content is a hit and gives the same id. */
CENTO_API cento_status cento_chunk_add(cento_engine *engine, const cento_piece *piece, bool compute,
                                       cento_chunk_info *info, cento_error *error);
/* Removes a chunk and drops its KV once its last user is done. NOT_FOUND if there is none. */
CENTO_API cento_status cento_chunk_remove(cento_engine *engine, const char *content_id, cento_error *error);
/* Lists chunks, most recently used first. *infos is released with cento_free. */
CENTO_API cento_status cento_chunk_list(cento_engine *engine, cento_chunk_info **infos, size_t *count,
                                        cento_error *error);
CENTO_API void cento_free(void *memory);

/* ----------------------------------- 6. text without an engine: tokenizer, model info ---- */

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

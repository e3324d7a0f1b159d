/*
 * backend.h: the boundary between the model's forward pass and the machine. One table of operations;
 * cpu/ and cuda/ fill it in. The decoder (src/model/decoder.c) calls nothing else, and knows no instruction
 * set.
 *
 * Activations are f32, row-major (rows, width), in memory from `alloc` (device memory, for a device).
 * Matrices and the KV pool are opaque: the backend packs weights once, in the layout it likes, and they
 * are then held once. Only the engine thread calls a backend; parallelism is inside.
 *
 * A device runs behind its caller: operations that return nothing, and launches that fail later, show in the
 * status of an operation that follows, at the latest of `read`.
 */
#ifndef CENTO_BACKEND_BACKEND_H
#define CENTO_BACKEND_BACKEND_H

#include "cascade/cascade_plan.h"

typedef enum tensor_dtype { TENSOR_F32, TENSOR_F16, TENSOR_BF16 } tensor_dtype;

static inline size_t tensor_dtype_bytes(tensor_dtype dtype) {
    return dtype == TENSOR_F32 ? 4 : 2;
}

/* A matrix as the file holds it: row-major (rows, columns), rows are output features. Borrowed. */
typedef struct tensor_view {
    const void *data; /* may be unaligned; NULL: fill with random values (bench model) */
    tensor_dtype dtype;
    uint32_t rows, columns;
} tensor_view;

typedef struct backend backend;
typedef struct backend_matrix backend_matrix;
typedef struct backend_kv_pool backend_kv_pool;

typedef struct backend_options {
    cento_dtype compute_dtype;
    uint32_t threads; /* 0: one per physical core */
    const char *isa;  /* NULL: the best this CPU has; for tests "portable", "avx2", "avx512", "avx512bf16" and
                       * "amx" (that and attention by tile registers) */
    /* The bits of a row never depend on the batch: no library for products of many rows; on a GPU the simple
     * attention. Without it that holds as well, but for GPUs and where the machine has AMX (products of many
     * rows, not attention). */
    bool deterministic;
    double memory_share;   /* of a GPU's memory that may be used in all; 0: the default, 0.9 */
    const char *attention; /* NULL or "auto": the backend's own; "flashinfer": FlashInfer's, on a GPU */
    const char *note;      /* NULL, or what the description says in brackets */
} backend_options;

/* What the pages hold. Layout per layer: [page][K|V][kv_head][token][head_dim] (DESIGN: KV memory). */
typedef struct kv_pool_shape {
    uint32_t layers, kv_heads, head_dim;
    uint32_t pages, page_tokens;
    cento_dtype dtype; /* of K and V */
} kv_pool_shape;

/* Rotary embedding: x_i, x_{i+d/2} are a pair (the Hugging Face layout), angle = position × inv_freq[i]. */
typedef struct rope_table {
    const double *inv_freq;  /* (head_dim / 2), host memory; the scaling variant is already in it */
    double attention_factor; /* yarn: cos and sin are multiplied by it; else 1 */
} rope_table;

typedef struct attention_shape {
    uint32_t heads, kv_heads, head_dim;
    float scale;     /* of q·k, usually 1/sqrt(head_dim) */
    uint32_t window; /* sliding window in tokens; 0: none */
    float norm_epsilon;
} attention_shape;

/* The rows of one forward pass, as they are known before it. Host memory, valid until batch_end. */
typedef struct backend_batch {
    const void *model; /* whose pass it is: all passes of a model ask for the same operations in one order */
    uint32_t rows, rows_max;                /* rows_max: that the model's activations have room for */
    const int32_t *ids;                     /* (rows) */
    const uint32_t *positions, *kv_slots;   /* (rows) */
    const cascade_plan *plan, *window_plan; /* window_plan: NULL if there is none */
    const backend_kv_pool *pool;
} backend_batch;

typedef struct backend_counters {
    uint64_t forward_tokens;  /* rows that went through `embed` */
    uint64_t kv_bytes_read;   /* by attention */
    uint64_t passes_replayed; /* done as a whole: see batch_begin */
    uint64_t weight_bytes;    /* held in packed matrices and vectors */
} backend_counters;

/* For benchmarks, where the device's time is not the caller's. */
typedef struct backend_measure {
    /* Times `calls` calls of call(user, index), index from 0, which ask for device work and read nothing
     * back: recorded once as one graph and replayed where all that they ask for can be (*recorded), else
     * asked for again each time. us (repetitions): device time of all calls, in microseconds, by events. */
    cento_status (*time)(backend *self, cento_status (*call)(void *user, uint32_t index, cento_error *error),
                         void *user, uint32_t calls, uint32_t repetitions, double *us, bool *recorded,
                         cento_error *error);
    /* The best of some large copies within the device's memory; bytes read and written. */
    cento_status (*copy_bandwidth)(backend *self, double *bytes_per_s, cento_error *error);
    /* All keys and values become measure_fill_value (measure_fill.h). */
    cento_status (*kv_fill)(backend *self, backend_kv_pool *pool, cento_error *error);
} backend_measure;

enum { SAMPLE_LOGPROBS_MAX = 20 };

/* A logit that is changed before anything else: divided by `divisor` if it is positive, else multiplied by
 * it; then `subtracted` is taken from it. */
typedef struct sample_change {
    int32_t token;
    float divisor, subtracted;
} sample_change;

/* What is drawn from a row of logits. engine/sampler.h has the order of the steps and the definitions. */
typedef struct sample_row {
    float temperature; /* 0: the largest logit, and nothing is drawn */
    uint32_t top_k;    /* 0: all */
    float top_p, min_p;
    double random; /* in [0, 1): the request's own next one */
    /* The row's part of `changes`: penalties, then biases; in each of the two a token stands at most once. */
    uint32_t penalty_count, bias_count;
    uint32_t logprobs; /* 0: none; n: of the token drawn and of the n likeliest, before changes */
} sample_row;

typedef struct sample_batch {
    uint32_t row_count, vocab_size;
    const sample_row *rows;       /* (row_count) */
    const sample_change *changes; /* (change_count), row after row */
    size_t change_count;
    uint32_t logprobs_max;         /* of the rows: at most SAMPLE_LOGPROBS_MAX and vocab_size */
    int32_t *tokens;               /* out (row_count); -1: none of the row's logits is finite */
    cento_token_logprob *logprobs; /* out (row_count, 1 + logprobs_max); NULL if logprobs_max is 0 */
} sample_batch;

typedef struct backend_ops {
    void (*destroy)(backend *self);
    /* "cpu avx2, 2 threads"; lives as long as the backend */
    const char *(*describe)(const backend *self);
    const backend_counters *(*counters)(const backend *self);

    /* 64-byte aligned f32 memory for activations; contents undefined. NULL: there is none; what a device has
     * to say about it is the status of the operation that follows. */
    float *(*alloc)(backend *self, size_t count);
    void (*release)(backend *self, float *memory);

    /* Packs matrices stacked along their rows (fused Q|K|V, gate|up: part_count > 1), all with the same
     * number of columns. `gather_rows`: `embed` will be called on it too (tied embeddings). */
    cento_status (*matrix_create)(backend *self, const tensor_view *parts, size_t part_count,
                                  bool gather_rows, backend_matrix **matrix, cento_error *error);
    void (*matrix_free)(backend *self, backend_matrix *matrix);
    /* A vector in f32 (norm weights, biases); parts are stacked. Released with `release`. */
    cento_status (*vector_create)(backend *self, const tensor_view *parts, size_t part_count, float **vector,
                                  cento_error *error);

    /* Both or neither (NULL): around all that a pass asks for from `embed` to its last layer. The rows'
     * arrays go to the device once, and a pass like one before may be done as a whole.
     *
     * *rows: how many the operations are to be asked for, the batch's or more; what they make of rows beyond
     * the batch's is undefined. *done: everything is under way already, ask for nothing. The operations get
     * the batch's arrays, plans and pool as they are here. What rmsnorm, silu_mul, matmul_silu and attention
     * make within a pass is for matmul and may not be read. */
    cento_status (*batch_begin)(backend *self, const backend_batch *batch, uint32_t *rows, bool *done,
                                cento_error *error);
    /* After every batch_begin that succeeded. status: of the operations; it is returned unless something else
     * failed. *again: nothing was computed, begin the same pass once more. */
    cento_status (*batch_end)(backend *self, cento_status status, bool *again, cento_error *error);

    /* x (rows, columns) = table[ids]. Counts forward_tokens. */
    cento_status (*embed)(backend *self, const backend_matrix *table, const int32_t *ids, uint32_t rows,
                          float *x, cento_error *error);
    /* y (rows, N) = x (rows, K) · matrixᵀ (+ bias (N), may be NULL) (+ y if accumulate).
     * A row's result does not depend on the other rows of the call (on a GPU: if `deterministic`; otherwise
     * its last bits may depend on their number). */
    cento_status (*matmul)(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                           const float *bias, bool accumulate, float *y, cento_error *error);
    /* y = x / sqrt(mean(x²) + epsilon) · weight, by row */
    void (*rmsnorm)(backend *self, const float *x, uint32_t rows, uint32_t width, const float *weight,
                    float epsilon, float *y);
    /* hidden (rows, F) = silu(gate_up[:, :F]) · gate_up[:, F:]; gate_up is (rows, 2F) */
    void (*silu_mul)(backend *self, const float *gate_up, uint32_t rows, uint32_t hidden_width,
                     float *hidden);
    /* NULL, or matmul and silu_mul in one: hidden (rows, F) = silu(y[:, :F]) · y[:, F:] for
     * y (rows, 2F) = x · matrixᵀ (+ bias), for which gate_up has room. */
    cento_status (*matmul_silu)(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                                const float *bias, float *gate_up, float *hidden, cento_error *error);
    /* y (count, width) = x[row_ids] */
    void (*gather)(backend *self, const float *x, uint32_t width, const uint32_t *row_ids, uint32_t count,
                   float *y);

    /* Draws a token from each row of logits (row_count, vocab_size), of which only tokens and logprobs come
     * back; waits for them. The logits are the same afterwards. A row's result does not depend on the others.
     * NULL: the caller reads the logits, and draws (engine/sampler.h). */
    cento_status (*sample)(backend *self, float *logits, const sample_batch *batch, cento_error *error);

    cento_status (*kv_pool_create)(backend *self, const kv_pool_shape *shape, backend_kv_pool **pool,
                                   cento_error *error);
    void (*kv_pool_free)(backend *self, backend_kv_pool *pool);
    uint64_t (*kv_pool_bytes)(const backend *self, const kv_pool_shape *shape);
    /* Bytes that a KV pool made now may have, where memory is the device's own; 0: the caller decides. */
    uint64_t (*memory_budget)(const backend *self);

    /* qkv (rows, (heads + 2 kv_heads) · head_dim): normalises q and k by head if q_norm/k_norm are not NULL
     * (weights (head_dim)), leaves q unrotated in place, rotates k for positions[row], writes k and v of the
     * row to slot kv_slots[row] = page · page_tokens + index. */
    cento_status (*write_kv)(backend *self, const attention_shape *shape, const rope_table *rope, float *qkv,
                             uint32_t rows, const uint32_t *positions, const uint32_t *kv_slots,
                             const float *q_norm, const float *k_norm, backend_kv_pool *pool, uint32_t layer,
                             cento_error *error);
    /* out (rows, heads · head_dim) = attention of the q part of qkv over what the plan lays out for the rows;
     * the plan is of this pool's pages, this batch's rows, and the shape's window or none. A row that sees no
     * key gets zeros. A row's bits depend on its keys alone: not on the other rows, on what is shared, or on
     * the threads (on a GPU: if `deterministic`; otherwise its last bits depend on how the step's work is
     * cut, that is on the other rows and on what is shared, and are the same whenever the same step runs
     * again). */
    cento_status (*attention)(backend *self, const attention_shape *shape, const rope_table *rope,
                              const float *qkv, uint32_t rows, const uint32_t *positions,
                              const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                              float *out, cento_error *error);
    /* For plan_options: rows (tokens × heads_per_kv) of a tile, threads, and what sharing saves and costs
     * with this shape and pool: measured (some milliseconds) when asked for the first time, then remembered.
     */
    uint32_t (*plan_tile_rows)(const backend *self);
    uint32_t (*plan_workers)(const backend *self);
    cento_status (*plan_costs)(backend *self, const attention_shape *shape, const backend_kv_pool *pool,
                               plan_costs *costs, cento_error *error);

    /* Copies K and V of all layers of consecutive tokens; both stretches lie within one page each. */
    cento_status (*kv_copy)(backend *self, backend_kv_pool *pool, uint32_t from_slot, uint32_t to_slot,
                            uint32_t token_count, cento_error *error);
    /* Copies between pages of the pool and host memory, for tests: K then V of one token of one layer, f32,
     * (2, kv_heads, head_dim). */
    void (*kv_read)(const backend *self, const backend_kv_pool *pool, uint32_t layer, uint32_t slot,
                    float *kv);
    void (*kv_write)(backend *self, backend_kv_pool *pool, uint32_t layer, uint32_t slot, const float *kv);
    /* float memory ↔ host; for the CPU a memcpy. Reading waits for all that was asked for before. */
    cento_status (*read)(backend *self, const float *memory, size_t count, float *host, cento_error *error);
    cento_status (*write)(backend *self, float *memory, size_t count, const float *host, cento_error *error);
    const backend_measure *measure; /* NULL: calls are done when they return */
} backend_ops;

/* Concrete backends begin with this. */
struct backend {
    const backend_ops *ops;
};

/* By name: "cpu", "cuda" or "cuda:N" (the Nth GPU), or "auto" (as NULL): the first GPU if there is one that
 * serves, else the CPU, whose description then says why (a GPU that is out of memory is an error). *result is
 * set only on success; released with (*result)->ops->destroy. */
cento_status backend_create(const char *device, const backend_options *options, backend **result,
                            cento_error *error);
/* Whether backend_create knows the name: UNSUPPORTED with what is expected. */
cento_status backend_device_check(const char *name, cento_error *error);
/* The same for backend_options.attention, and whether this build has it. */
cento_status backend_attention_check(const char *name, cento_error *error);

cento_status backend_cpu_create(const backend_options *options, backend **result, cento_error *error);
/* UNSUPPORTED where the build, the driver or the GPU does not serve, with the reason. */
cento_status backend_cuda_create(int device, const backend_options *options, backend **result,
                                 cento_error *error);

#endif

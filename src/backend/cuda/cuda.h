/*
 * What the files of the CUDA backend share: the backend itself, its matrices and KV pool, memory on the
 * device, and the kernels' entry points (extern "C" functions that launch into the backend's stream).
 *
 * Everything runs in one stream, so that operations follow one another as they are called; the host waits
 * only in `read`, `kv_read` and `write`. Activations are f32; beside the last two that a norm, SwiGLU or
 * attention wrote lies a copy in bf16, which the product that follows reads. Within a pass (cuda_pass.c) the
 * copy alone is written.
 *
 * Plain C: included by C and by CUDA C++. Engine thread only.
 */
#ifndef CENTO_BACKEND_CUDA_CUDA_H
#define CENTO_BACKEND_CUDA_CUDA_H

#include "attention_schedule.h"
#include "cuda_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Forwards a failed call of the CUDA runtime as CENTO_BACKEND. */
#define CUDA_TRY(call, error)                                                                                \
    do {                                                                                                     \
        cudaError_t code_ = (call);                                                                          \
        if (code_ != cudaSuccess)                                                                            \
            return cuda_error(code_, #call, error);                                                          \
    } while (0)

/* Device memory that grows and stays: no allocation in a steady step. Contents undefined. */
typedef struct device_buffer {
    void *memory;
    size_t bytes;
} device_buffer;

/* A host array as it was last uploaded. Layers of one step ask for the same one, which is copied once. */
typedef struct cuda_upload {
    device_buffer device;
    void *held; /* (held_bytes) the host's copy */
    size_t held_bytes, held_capacity;
} cuda_upload;

/* Pinned memory through which host arrays pass, in parts that are used in turn. */
enum { STAGING_PARTS = 4, STAGING_PART_BYTES = 1 << 20 };
typedef struct cuda_staging {
    char *memory;
    cudaEvent_t done[STAGING_PARTS]; /* the part's copy has run */
    uint32_t part;                   /* the next one */
} cuda_staging;

/* A plan that is on the device; which one, and for which window and positions. */
typedef struct plan_upload {
    uint64_t build_id; /* 0: none */
    uint32_t window;
    uint64_t used; /* the larger, the later */
    cuda_plan plan;
    device_buffer block;
    uint32_t *positions; /* (positions_capacity) host */
    size_t positions_capacity;
} plan_upload;

enum { PLANS_HELD = 2 }; /* of layers with and without a window */

typedef struct plan_store {
    plan_upload plans[PLANS_HELD];
    char *staging; /* pinned (staging_bytes) */
    size_t staging_bytes;
    cudaEvent_t staging_free; /* the last copy from it has run */
    uint64_t clock;
} plan_store;

/* Memory of the host that the device reaches. */
typedef struct pinned_buffer {
    void *memory;
    size_t bytes;
} pinned_buffer;

/* What sampling needs from step to step. */
typedef struct cuda_sampling {
    device_buffer input, work;
    pinned_buffer staged, read; /* what goes up, what has come down */
} cuda_sampling;

/* A plan's schedule (attention_schedule.h) for rows at these positions, a window and heads, on the device. */
typedef struct schedule_upload {
    uint64_t build_id; /* 0: none */
    uint32_t window, kv_heads, heads_per_kv, head_dim;
    uint64_t used;  /* the larger, the later */
    bool too_large; /* for the kernels that take schedules */
    bool sm90;      /* for attention_sm90, not attention_mma */
    schedule_header header;
    device_buffer block;
    uint32_t *positions; /* (positions_capacity) host */
    size_t positions_capacity;
} schedule_upload;

typedef struct schedule_store {
    attention_schedule *builder;        /* made when first needed */
    uint32_t workers, workers_head_dim; /* the kernel's, for heads of this size */
    bool workers_sm90;
    schedule_upload schedules[PLANS_HELD];
    uint64_t clock;
} schedule_store;

/* Where and how kernels are launched. */
typedef struct cuda_lane {
    cudaStream_t stream;
    bool overlap; /* see cuda_launch.cuh */
} cuda_lane;

/* bf16 (rows, width rounded up to 8) of the activations `of`; NULL: of none. */
typedef struct bf16_copy {
    device_buffer memory;
    const float *of;
    uint32_t rows, width;
} bf16_copy;

enum { BF16_COPIES = 2 }; /* what a product reads, and what it writes */

/*
 * A step's attention, the same for all layers of one window: everything that has to be uploaded is. With
 * `schedule` it is one launch whose grid and pointers stay the same from step to step, for layers of one
 * shape as long as `addresses` stays; a captured graph reads all else from the schedule's block. Else it
 * is the simple kernel, over `plan`. Good until the next but one plan or window is prepared.
 */
typedef struct cuda_attention_work {
    attention_shape shape;
    uint32_t rows;
    uint64_t keys_read; /* of the plan, for each KV head */
    const double *turns;
    float rope_factor;
    const schedule_upload *schedule;          /* NULL: the simple kernel */
    const cuda_plan *plan;                    /* NULL with a schedule */
    const struct flashinfer_work *flashinfer; /* if not NULL, neither of them */
} cuda_attention_work;

/* The forward pass that is being asked for, and those that have been captured: cuda_pass.c. */
typedef struct cuda_pass {
    bool active, capturing;
    backend_batch batch;
    uint32_t rows;        /* the batch's and padding */
    device_buffer arrays; /* of `rows` each: ids, positions, KV slots */
    uint32_t *staged;     /* (staged_count) host */
    size_t staged_count;
    cuda_attention_work works[PLANS_HELD]; /* what attention has prepared */
    uint32_t work_count;
    uint64_t kv_bytes_before; /* of the counters */
    struct pass_graph *graph; /* the pass's own; NULL: it is not to be captured */
    struct pass_graph *graphs;
    uint32_t graph_count;
    bool graphs_off; /* for comparisons */
    uint64_t captures;
} cuda_pass;

typedef struct cuda_backend {
    backend base;
    cento_dtype compute_dtype;
    bool deterministic;
    uint32_t few_rows; /* products of at most so many rows are products_few's; 0: none */
    int device, major, minor, multiprocessors;
    double bytes_per_ns; /* of device memory, nominal */
    double memory_share; /* of the device's memory that may be used in all */
    cudaStream_t stream;
    cento_status failed; /* of an operation that returns nothing; reported by the next one that does */
    cento_error failure;
    struct lt_library *lt; /* cuBLASLt and what it has chosen */
    cuda_staging staging;
    cuda_upload ids, positions, slots, row_ids;
    plan_store plans;
    cuda_sampling sampling;
    schedule_store schedules;
    double *inv_freq; /* (turns_count) what `turns` was computed from, host */
    uint32_t turns_count;
    device_buffer turns, attention_workspace;
    device_buffer counters_memory; /* all zero between launches: for kernels that count arrivals */
    bf16_copy copies[BF16_COPIES];
    uint32_t copy_next; /* is written next */
    cuda_pass pass;
    uint64_t addresses; /* another one whenever device memory that a kernel may know of was given back */
    struct flashinfer_attention *flashinfer; /* NULL: attention is our own */
    backend_counters counters;
    char description[160];
} cuda_backend;

static inline cuda_backend *cuda_of(backend *self) {
    return (cuda_backend *)self;
}

static inline cuda_lane cuda_lane_of(const cuda_backend *self) {
    return (cuda_lane){self->stream, self->major >= 9};
}

static inline uint32_t round_up_8(uint32_t value) {
    return (value + 7) / 8 * 8;
}

/* ---- cuda_memory.c */

/* CENTO_BACKEND with what was called and the runtime's words. */
cento_status cuda_error(cudaError_t code, const char *call, cento_error *error);
/* OUT_OF_MEMORY with what was asked for and what is free. */
cento_status cuda_allocate(size_t bytes, const char *purpose, void **memory, cento_error *error);
cento_status device_buffer_reserve(cuda_backend *self, device_buffer *buffer, size_t bytes,
                                   const char *purpose, cento_error *error);
void device_buffer_free(device_buffer *buffer);
cento_status cuda_staging_create(cuda_staging *staging, cento_error *error);
void cuda_staging_free(cuda_staging *staging);
/* Copies host memory, which may change afterwards, to the device in stream order. */
cento_status cuda_stage(cuda_backend *self, void *to, const void *from, size_t bytes, cento_error *error);
/* *memory: the array on the device. Copies nothing if it holds the same bytes as last time. */
cento_status cuda_upload_array(cuda_backend *self, cuda_upload *upload, const void *host, size_t bytes,
                               const void **memory, cento_error *error);
void cuda_upload_free(cuda_upload *upload);
/* inv_freq / π of the rope table, on the device. */
cento_status cuda_turns(cuda_backend *self, const rope_table *rope, uint32_t half, const double **turns,
                        cento_error *error);

/* ---- backend_cuda.c */

/* Makes the backend's device the calling thread's, and reports what failed before. */
cento_status cuda_enter(cuda_backend *self, cento_error *error);
/* For operations that return nothing. */
void cuda_remember(cuda_backend *self, cento_status status, const cento_error *error);
/* Memory for the bf16 copy of x (rows, width), which is about to be written; NULL in *copy if none is wanted.
 */
cento_status cuda_copy_begin(cuda_backend *self, const float *x, uint32_t rows, uint32_t width, void **copy,
                             cento_error *error);
/* x is being written without a copy. */
void cuda_copy_forget(cuda_backend *self, const float *x);
/* The copy that holds these rows, or NULL. */
const void *cuda_copy_find(const cuda_backend *self, const float *x, uint32_t rows, uint32_t width);

/* ---- cuda_pass.c */

cento_status cuda_pass_begin(backend *self, const backend_batch *batch, uint32_t *rows, bool *done,
                             cento_error *error);
cento_status cuda_pass_end(backend *self, cento_status status, bool *again, cento_error *error);
/* The pass's array on the device, where `host` is one of its batch's; else NULL. */
const void *cuda_pass_array(const cuda_backend *self, const void *host);
/* An operation's array of rows: the pass's, or uploaded. */
cento_status cuda_rows_array(cuda_backend *self, cuda_upload *upload, const void *host, uint32_t rows,
                             const void **memory, cento_error *error);
/* backend_ops.attention */
cento_status cuda_pass_attention(backend *self, const attention_shape *shape, const rope_table *rope,
                                 const float *qkv, uint32_t rows, const uint32_t *positions,
                                 const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                                 float *out, cento_error *error);
void cuda_pass_free(cuda_pass *pass);

/* ---- cuda_products.c */

struct backend_matrix {
    uint32_t rows, columns;
    uint32_t stride; /* elements from row to row; the columns beyond are zeros */
    bool bf16;       /* else f32 */
    size_t bytes;
    void *data;
    struct product *chosen; /* used last */
};

cento_status products_create(cuda_backend *self, cento_error *error);
void products_free(struct lt_library *lt);
uint32_t products_version(const struct lt_library *lt);
cento_status products_matrix_create(backend *self, const tensor_view *parts, size_t part_count,
                                    bool gather_rows, backend_matrix **matrix, cento_error *error);
void products_matrix_free(backend *self, backend_matrix *matrix);
cento_status products_matmul(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                             const float *bias, bool accumulate, float *y, cento_error *error);
cento_status products_matmul_silu(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                                  const float *bias, float *gate_up, float *hidden, cento_error *error);

/* ---- cuda_pool.c */

struct backend_kv_pool {
    kv_pool_shape shape;
    bool bf16;
    size_t element_bytes;
    char *data; /* device: [layer][page][K|V][kv_head][token][head_dim] */
};

cento_status cuda_pool_create(backend *self, const kv_pool_shape *shape, backend_kv_pool **pool,
                              cento_error *error);
void cuda_pool_free(backend *self, backend_kv_pool *pool);
cento_status cuda_pool_write(backend *self, const attention_shape *shape, const rope_table *rope, float *qkv,
                             uint32_t rows, const uint32_t *positions, const uint32_t *kv_slots,
                             const float *q_norm, const float *k_norm, backend_kv_pool *pool, uint32_t layer,
                             cento_error *error);
cento_status cuda_pool_copy(backend *self, backend_kv_pool *pool, uint32_t from_slot, uint32_t to_slot,
                            uint32_t token_count, cento_error *error);
void cuda_pool_get(const backend *self, const backend_kv_pool *pool, uint32_t layer, uint32_t slot,
                   float *kv);
void cuda_pool_set(backend *self, backend_kv_pool *pool, uint32_t layer, uint32_t slot, const float *kv);

static inline size_t cuda_pool_layer_bytes(const backend_kv_pool *pool) {
    const kv_pool_shape *shape = &pool->shape;
    return (size_t)shape->pages * 2 * shape->kv_heads * shape->page_tokens * shape->head_dim *
           pool->element_bytes;
}

/* ---- cuda_plan.c */

/* The plan on the device, for rows at these positions and a window. */
cento_status cuda_plan_get(cuda_backend *self, const cascade_plan *plan, uint32_t window,
                           const uint32_t *positions, const cuda_plan **result, cento_error *error);
void plan_store_free(plan_store *store);

/* ---- cuda_attention.c */

/* Partial states of more KV heads than fit are made a few heads at a time. */
#define ATTENTION_WORKSPACE_BYTES ((size_t)256 << 20)

/* Chooses the kernels: backend_options.attention, which backend_attention_check has passed. */
cento_status cuda_attention_open(cuda_backend *self, const char *name, cento_error *error);
void cuda_attention_close(cuda_backend *self);
cento_status cuda_attention_prepare(cuda_backend *self, const attention_shape *shape, const rope_table *rope,
                                    uint32_t rows, const uint32_t *positions, const cascade_plan *plan,
                                    const backend_kv_pool *pool, cuda_attention_work *work,
                                    cento_error *error);
/* One layer; uploads nothing. out (rows, heads · head_dim), and its copy in bf16. */
cento_status cuda_attention_launch(cuda_backend *self, const cuda_attention_work *work, const float *qkv,
                                   const backend_kv_pool *pool, uint32_t layer, float *out,
                                   cento_error *error);
/* Both, as backend_ops.attention. */
cento_status cuda_attention_layer(backend *self, const attention_shape *shape, const rope_table *rope,
                                  const float *qkv, uint32_t rows, const uint32_t *positions,
                                  const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                                  float *out, cento_error *error);
cento_status cuda_attention_costs(backend *self, const attention_shape *shape, const backend_kv_pool *pool,
                                  plan_costs *costs, cento_error *error);

/* ---- cuda_measure.c */

extern const backend_measure cuda_measure;

/* ---- measure.cu */

/* bf16 or f32 pages [layer][page][K|V][kv_head][token][head_dim] of measure_fill_value. */
cudaError_t measure_fill_pages(void *pages, bool bf16, const kv_pool_shape *shape, size_t count,
                               cudaStream_t stream);

/* ---- cuda_sample.c */

cento_status cuda_sample(backend *self, float *logits, const sample_batch *batch, cento_error *error);
void cuda_sampling_free(cuda_sampling *sampling);

/* ---- cuda_schedule.c */

/* The plan's schedule on the device; too_large: there is none that the kernel takes. */
cento_status cuda_schedule_get(cuda_backend *self, const attention_shape *shape, const cascade_plan *plan,
                               const uint32_t *positions, const schedule_upload **result, cento_error *error);
void schedule_store_free(schedule_store *store);

/* ---- products_few.cu: a product of at most PRODUCTS_FEW_ROWS rows, bf16; pointers are device memory */

enum { PRODUCTS_FEW_ROWS = 16 };
typedef struct products_few {
    const void *weights; /* (features, stride) bf16, 16-byte aligned */
    const void *x;       /* (rows, stride) bf16, 16-byte aligned; zeros beyond the columns */
    const float *bias;   /* (features) or NULL */
    float *y;            /* (rows, features) */
    void *hidden;        /* NULL, or instead of y silu(first half)·(second half), bf16 (rows,
                          * round_up_8(features / 2)) */
    uint32_t features, stride, rows;
    uint32_t tiles;   /* of 8 features that a block makes: 1, 2, 4; 0: as is best */
    uint32_t lengthy; /* a long ring: 1 no, 2 yes; 0: as is best */
    bool accumulate;  /* y += */
    bool overlap;     /* see cuda_launch.cuh */
} products_few;
cudaError_t products_few_prepare(void); /* on the current device, before the first run */
cudaError_t products_few_run(const products_few *call, cudaStream_t stream);

/* ---- rows.cu: one launch each; all pointers are device memory */

cudaError_t rows_prepare(void); /* on the current device, before the first of the others */
/* x (rows, width) = table[ids]; table (…, stride) bf16 or f32 */
cudaError_t rows_embed(const void *table, bool bf16, uint32_t stride, const int32_t *ids, uint32_t rows,
                       uint32_t width, float *x, cuda_lane lane);
/* copy: NULL or bf16 (rows, round_up_8(width)), whose columns beyond width become zeros. With a copy the
 * result in f32 may be NULL: not wanted. */
cudaError_t rows_rmsnorm(const float *x, uint32_t rows, uint32_t width, const float *weight, float epsilon,
                         float *y, void *copy, cuda_lane lane);
cudaError_t rows_silu_mul(const float *gate_up, uint32_t rows, uint32_t width, float *hidden, void *copy,
                          cuda_lane lane);
cudaError_t rows_gather(const float *x, uint32_t width, const uint32_t *row_ids, uint32_t count, float *y,
                        cuda_lane lane);
cudaError_t rows_to_bf16(const float *x, uint32_t rows, uint32_t width, void *copy, cuda_lane lane);
/* matrix (rows, stride) of uniform values with the variance 1/columns; rows count from row_begin */
cudaError_t rows_random(void *matrix, bool bf16, uint32_t rows, uint32_t columns, uint32_t stride,
                        cudaStream_t stream);

/* What write_kv does; layer_pages: where the layer begins in the pool. */
typedef struct rows_kv_write {
    float *qkv;
    uint32_t rows, heads, kv_heads, head_dim, page_tokens;
    const uint32_t *positions, *slots;
    const float *q_norm, *k_norm;
    const double *turns;
    float rope_factor, epsilon;
    void *layer_pages;
    bool bf16;
} rows_kv_write;
cudaError_t rows_write_kv(const rows_kv_write *call, cuda_lane lane);
/* token_count tokens of all layers' and heads' K and V; token_bytes of one head's K */
cudaError_t rows_copy_kv(void *pool, const kv_pool_shape *shape, uint32_t token_bytes, uint32_t from_slot,
                         uint32_t to_slot, uint32_t token_count, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif

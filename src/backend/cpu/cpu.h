/*
 * What the files of the CPU backend share: the backend itself, its matrices and KV pool, scratch memory.
 * Engine thread only; parallelism is inside the operations (OpenMP, `threads` wide).
 */
#ifndef CENTO_BACKEND_CPU_CPU_H
#define CENTO_BACKEND_CPU_CPU_H

#include "backend/backend.h"
#include "kernels.h"

static inline uint32_t divided_up(uint32_t value, uint32_t by) {
    return value / by + (value % by != 0);
}

static inline size_t rounded_up(size_t value, size_t to) {
    return (value + to - 1) / to * to;
}

/* Scratch that grows and stays: no allocation in a steady step. Contents undefined. */
typedef struct scratch {
    void *memory; /* 64-byte aligned */
    size_t bytes;
} scratch;

cento_status scratch_reserve(scratch *area, size_t bytes, cento_error *error);
void scratch_free(scratch *area);

/* cos and sin of (position × inv_freq) for a list of positions. Layers of one step ask for the same list in
 * the same order, so entry i is recomputed only when its position differs from last time. */
typedef struct rope_memo {
    uint32_t half;    /* head_dim / 2 */
    double *inv_freq; /* (half), what the entries were computed with */
    double factor;
    size_t capacity;
    int64_t *positions; /* (capacity) */
    float *cos_sin;     /* (capacity, 2, half) */
    size_t valid;       /* entries [0, valid) are computed */
} rope_memo;

typedef struct cpu_backend {
    backend base;
    cento_dtype compute_dtype;
    int threads;
    const cpu_kernels *kernels;
    const attention_kernels *attention_amx; /* NULL: no AMX */
    struct onednn *onednn;                  /* NULL: not used */
    backend_counters counters;
    rope_memo key_rope, query_rope;
    scratch packed_rows, positions, attention_tables, attention_work;
    attention_shape costs_shape; /* what `costs` was measured for; heads 0: not yet */
    bool costs_bf16;
    plan_costs costs;
    char description[sizeof((cento_error *)NULL)->message + 96];
} cpu_backend;

static inline cpu_backend *cpu_of(backend *self) {
    return (cpu_backend *)self;
}

/* Large memory: 64-byte aligned, on huge pages where the system gives them. Released with mem_free. */
void *large_alloc(size_t bytes);

/* ---- isa.c */

/* The kernels named, or the best for NULL; UNSUPPORTED names what there is. */
cento_status isa_choose(const char *name, const cpu_kernels **kernels, cento_error *error);
/* Physical cores that this process may use. */
int isa_core_count(void);

/* ---- gemm.c */

struct backend_matrix {
    uint32_t rows, columns;
    gemm_kind kind;
    size_t bytes;
    uint32_t *panels;             /* see kernels.h */
    struct onednn_matrix *onednn; /* NULL: products by our own kernels at every number of rows */
};

cento_status gemm_matrix_create(backend *self, const tensor_view *parts, size_t part_count, bool gather_rows,
                                backend_matrix **matrix, cento_error *error);
void gemm_matrix_free(backend *self, backend_matrix *matrix);
cento_status gemm_embed(backend *self, const backend_matrix *table, const int32_t *ids, uint32_t rows,
                        float *x, cento_error *error);
cento_status gemm_matmul(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                         const float *bias, bool accumulate, float *y, cento_error *error);

/* ---- kv_pool.c */

struct backend_kv_pool {
    kv_pool_shape shape;
    bool bf16;
    size_t element_bytes;
    char *data; /* [layer][page][K|V][kv_head][token][head_dim] */
};

cento_status kv_pool_create(backend *self, const kv_pool_shape *shape, backend_kv_pool **pool,
                            cento_error *error);
void kv_pool_free(backend *self, backend_kv_pool *pool);
cento_status kv_pool_write(backend *self, const attention_shape *shape, const rope_table *rope, float *qkv,
                           uint32_t rows, const uint32_t *positions, const uint32_t *kv_slots,
                           const float *q_norm, const float *k_norm, backend_kv_pool *pool, uint32_t layer,
                           cento_error *error);
void kv_pool_get(const backend *self, const backend_kv_pool *pool, uint32_t layer, uint32_t slot, float *kv);
cento_status kv_pool_copy(backend *self, backend_kv_pool *pool, uint32_t from_slot, uint32_t to_slot,
                          uint32_t token_count, cento_error *error);
void kv_pool_set(backend *self, backend_kv_pool *pool, uint32_t layer, uint32_t slot, const float *kv);

/* Where the K (part 0) or V (part 1) of one token and head begins. */
static inline char *kv_pool_at(const backend_kv_pool *pool, uint32_t layer, uint32_t page, uint32_t part,
                               uint32_t head, uint32_t token) {
    const kv_pool_shape *shape = &pool->shape;
    size_t tile = (((size_t)layer * shape->pages + page) * 2 + part) * shape->kv_heads + head;
    return pool->data + (tile * shape->page_tokens + token) * shape->head_dim * pool->element_bytes;
}

/* ---- rope.c */

/* Makes entries [0, count) of the memo those of `positions`. */
cento_status rope_memo_fill(rope_memo *memo, const rope_table *rope, uint32_t half, const int64_t *positions,
                            size_t count, int threads, cento_error *error);
void rope_memo_free(rope_memo *memo);

static inline const float *rope_memo_cos_sin(const rope_memo *memo, size_t entry) {
    return memo->cos_sin + entry * 2 * memo->half;
}

/* y = x rotated; x and y may be the same. */
static inline void rope_rotate(const float *x, const float *cos_sin, uint32_t half, float scale, float *y) {
    for (uint32_t i = 0; i < half; i++) {
        float a = x[i], b = x[half + i], cosine = cos_sin[i], sine = cos_sin[half + i];
        y[i] = (a * cosine - b * sine) * scale;
        y[half + i] = (b * cosine + a * sine) * scale;
    }
}

/* ---- attention.c */

cento_status attention_run(backend *self, const attention_shape *shape, const rope_table *rope,
                           const float *qkv, uint32_t rows, const uint32_t *positions,
                           const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer, float *out,
                           cento_error *error);
uint32_t attention_tile_rows(const backend *self);
const attention_kernels *attention_kernels_of(const cpu_backend *self, const attention_shape *shape,
                                              bool bf16);

/* ---- attention_costs.c */

cento_status attention_costs(backend *self, const attention_shape *shape, const backend_kv_pool *pool,
                             plan_costs *costs, cento_error *error);

#endif

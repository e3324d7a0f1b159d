/*
 * Weights on the device and products by cuBLASLt, which is found at run time (dlopen): a program built with
 * CUDA starts where there is none.
 *
 * y (rows, N) = x (rows, K) · Wᵀ is, column by column, yᵀ (N, rows) = W · xᵀ with W and xᵀ as they lie in
 * memory. In bf16 mode W and x are bf16, sums and y f32; in f32 mode all is f32 (no TF32). Rows of bf16 are
 * padded to 8 elements with zeros, so that every shape has aligned rows. Bias goes in through the epilogue,
 * accumulation through beta.
 *
 * Products of few rows are those of products_few.cu. For the others the algorithm is chosen once for each
 * shape and bucket of rows by cuBLASLt's heuristic. When results must
 * not depend on the batch there is one bucket and no split of K: a row is then summed in the same order
 * whatever the others are.
 */
#include <cublasLt.h>
#include <dlfcn.h>
#include <string.h>

#include "backend/backend_check.h"
#include "backend/cpu/convert.h"
#include "base/mem.h"
#include "cuda.h"

enum {
    WORKSPACE_BYTES = 32 << 20,
    CONVERT_BYTES = 8 << 20,
    ROWS_DETERMINISTIC = 64,
    BUCKET_DOUBLING_MAX = 1024,
};

#define FUNCTIONS(X)                                                                                         \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtGetVersion)                                                                                    \
    X(cublasLtGetStatusString)                                                                               \
    X(cublasLtMatmul)                                                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)                                                                           \
    X(cublasLtMatrixLayoutSetAttribute)                                                                      \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)

/* What an algorithm is chosen for. */
typedef struct product_key {
    uint32_t features, depth; /* N, K with padding */
    uint32_t rows;            /* the bucket's */
    uint32_t x_alignment, y_alignment;
    bool bias, bf16;
    bool exact; /* for this number of rows alone: the bucket's algorithm did not take it */
} product_key;

typedef struct product {
    product_key key;
    struct product *next;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t weights, x, y;
    cublasLtMatmulAlgo_t algorithm;
} product;

typedef struct lt_library {
    void *library;
#define MEMBER(name) __typeof__(&name) name;
    FUNCTIONS(MEMBER)
#undef MEMBER
    cublasLtHandle_t handle;
    void *workspace;
    bool deterministic;
    product *list;
    uint32_t version;
} lt_library;

/* ------------------------------------------------------------------------------ the library -- */

static cento_status open_library(lt_library *self, cento_error *error) {
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                        "/usr/local/cuda/lib64/libcublasLt.so.13",
                                        "/usr/local/cuda/lib64/libcublasLt.so.12"};
    for (size_t i = 0; i < sizeof names / sizeof *names && self->library == NULL; i++)
        self->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (self->library == NULL)
        return error_set(error, CENTO_UNSUPPORTED,
                         "libcublasLt.so.13 (or .12) is not installed where the loader looks");
#define FIND(name)                                                                                           \
    if ((*(void **)&self->name = dlsym(self->library, #name)) == NULL)                                       \
        return error_set(error, CENTO_UNSUPPORTED, "libcublasLt has no %s", #name);
    FUNCTIONS(FIND)
#undef FIND
    return CENTO_OK;
}

static cento_status product_error(const lt_library *self, cublasStatus_t status, const char *call,
                                  cento_error *error) {
    return error_set(error, status == CUBLAS_STATUS_ALLOC_FAILED ? CENTO_OUT_OF_MEMORY : CENTO_BACKEND,
                     "cuBLASLt: %s (%s)", self->cublasLtGetStatusString(status), call);
}

#define LT_TRY(self, function, ...)                                                                          \
    do {                                                                                                     \
        cublasStatus_t code_ = (self)->function(__VA_ARGS__);                                                \
        if (code_ != CUBLAS_STATUS_SUCCESS)                                                                  \
            return product_error(self, code_, #function, error);                                             \
    } while (0)

cento_status products_create(cuda_backend *owner, cento_error *error) {
    lt_library *self = mem_zalloc(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, sizeof *self);
    owner->lt = self;
    self->deterministic = owner->deterministic;
    TRY(open_library(self, error));
    LT_TRY(self, cublasLtCreate, &self->handle);
    self->version = (uint32_t)self->cublasLtGetVersion();
    return cuda_allocate(WORKSPACE_BYTES, "cuBLASLt's workspace", &self->workspace, error);
}

static void product_free(const lt_library *self, product *chosen) {
    if (chosen->weights != NULL)
        self->cublasLtMatrixLayoutDestroy(chosen->weights);
    if (chosen->x != NULL)
        self->cublasLtMatrixLayoutDestroy(chosen->x);
    if (chosen->y != NULL)
        self->cublasLtMatrixLayoutDestroy(chosen->y);
    if (chosen->description != NULL)
        self->cublasLtMatmulDescDestroy(chosen->description);
    mem_free(chosen);
}

void products_free(lt_library *self) {
    if (self == NULL)
        return;
    while (self->list != NULL) {
        product *next = self->list->next;
        product_free(self, self->list);
        self->list = next;
    }
    if (self->handle != NULL)
        self->cublasLtDestroy(self->handle);
    cudaFree(self->workspace);
    /* the library stays: closing it while its own threads and hooks live is not safe */
    mem_free(self);
}

uint32_t products_version(const lt_library *self) {
    return self->version;
}

/* -------------------------------------------------------------------------------- weights ---- */

/* Rows of the file that are not as they shall lie on the device, a few at a time through host memory. */
static cento_status upload_converted(cuda_backend *self, const backend_matrix *matrix,
                                     const tensor_view *part, char *to, char *block, size_t block_rows,
                                     cento_error *error) {
    size_t element = matrix->bf16 ? 2 : 4, columns = part->columns;
    for (size_t row = 0; row < part->rows; row += block_rows) {
        size_t rows = part->rows - row < block_rows ? part->rows - row : block_rows;
        for (size_t i = 0; i < rows * columns; i++) {
            float value = tensor_element(part->data, part->dtype, row * columns + i);
            if (matrix->bf16)
                ((uint16_t *)(void *)block)[i] = bf16_of_f32(value);
            else
                ((float *)(void *)block)[i] = value;
        }
        CUDA_TRY(cudaMemcpy2DAsync(to + row * matrix->stride * element, matrix->stride * element, block,
                                   columns * element, columns * element, rows, cudaMemcpyHostToDevice,
                                   self->stream),
                 error);
        CUDA_TRY(cudaStreamSynchronize(self->stream), error); /* the block is written again */
    }
    return CENTO_OK;
}

static cento_status upload_part(cuda_backend *self, const backend_matrix *matrix, const tensor_view *part,
                                char *to, cento_error *error) {
    size_t element = matrix->bf16 ? 2 : 4, row_bytes = part->columns * element;
    if (part->data == NULL) {
        CUDA_TRY(rows_random(to, matrix->bf16, part->rows, part->columns, matrix->stride, self->stream),
                 error);
        return CENTO_OK;
    }
    if (part->dtype == (matrix->bf16 ? TENSOR_BF16 : TENSOR_F32)) {
        CUDA_TRY(cudaMemcpy2DAsync(to, matrix->stride * element, part->data, row_bytes, row_bytes, part->rows,
                                   cudaMemcpyHostToDevice, self->stream),
                 error);
        /* the file's pages may be dropped after this */
        CUDA_TRY(cudaStreamSynchronize(self->stream), error);
        return CENTO_OK;
    }
    size_t block_rows = CONVERT_BYTES / row_bytes > 0 ? CONVERT_BYTES / row_bytes : 1;
    char *block = mem_alloc(block_rows, row_bytes);
    if (block == NULL)
        return error_memory(error, block_rows * row_bytes);
    cento_status status = upload_converted(self, matrix, part, to, block, block_rows, error);
    mem_free(block);
    return status;
}

static cento_status fill(cuda_backend *self, backend_matrix *matrix, const tensor_view *parts,
                         size_t part_count, cento_error *error) {
    TRY(cuda_allocate(matrix->bytes, "a matrix of weights", &matrix->data, error));
    if (matrix->stride != matrix->columns)
        CUDA_TRY(cudaMemsetAsync(matrix->data, 0, matrix->bytes, self->stream), error);
    char *to = matrix->data;
    for (size_t i = 0; i < part_count; i++) {
        TRY(upload_part(self, matrix, &parts[i], to, error));
        to += (size_t)parts[i].rows * matrix->stride * (matrix->bf16 ? 2 : 4);
    }
    return CENTO_OK;
}

cento_status products_matrix_create(backend *base, const tensor_view *parts, size_t part_count,
                                    bool gather_rows, backend_matrix **result, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    uint32_t rows;
    (void)gather_rows; /* rows lie one after another */
    TRY(cuda_enter(self, error));
    TRY(backend_check_parts(parts, part_count, INT32_MAX - 8, &rows, error));
    backend_matrix *matrix = mem_zalloc(1, sizeof *matrix);
    if (matrix == NULL)
        return error_memory(error, sizeof *matrix);
    matrix->rows = rows;
    matrix->columns = parts[0].columns;
    matrix->bf16 = self->compute_dtype == CENTO_DTYPE_BF16;
    matrix->stride = matrix->bf16 ? round_up_8(matrix->columns) : matrix->columns;
    matrix->bytes = (size_t)rows * matrix->stride * (matrix->bf16 ? 2 : 4);
    cento_status status = fill(self, matrix, parts, part_count, error);
    if (status != CENTO_OK) {
        cudaFree(matrix->data);
        mem_free(matrix);
        return status;
    }
    self->counters.weight_bytes += matrix->bytes;
    *result = matrix;
    return CENTO_OK;
}

void products_matrix_free(backend *base, backend_matrix *matrix) {
    if (matrix == NULL)
        return;
    cudaSetDevice(cuda_of(base)->device);
    cuda_of(base)->counters.weight_bytes -= matrix->bytes;
    cuda_of(base)->addresses++;
    cudaFree(matrix->data);
    mem_free(matrix);
}

/* ------------------------------------------------------------------- choosing an algorithm --- */

static uint32_t bucket_of(const lt_library *self, uint32_t rows) {
    if (self->deterministic)
        return ROWS_DETERMINISTIC;
    uint32_t bucket = 1;
    while (bucket < rows && bucket < BUCKET_DOUBLING_MAX)
        bucket *= 2;
    return bucket >= rows ? bucket
                          : (rows + BUCKET_DOUBLING_MAX - 1) / BUCKET_DOUBLING_MAX * BUCKET_DOUBLING_MAX;
}

static bool keys_equal(const product_key *a, const product_key *b) {
    return a->features == b->features && a->depth == b->depth && a->rows == b->rows &&
           a->x_alignment == b->x_alignment && a->y_alignment == b->y_alignment && a->bias == b->bias &&
           a->bf16 == b->bf16 && a->exact == b->exact;
}

static uint32_t alignment_of(const void *memory) {
    uintptr_t address = (uintptr_t)memory;
    return address % 256 == 0 ? 256 : address % 16 == 0 ? 16 : 4;
}

static cento_status describe_product(const lt_library *self, product *chosen, cento_error *error) {
    const product_key *key = &chosen->key;
    cudaDataType_t input = key->bf16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cudaDataType_t bias_type = CUDA_R_32F;
    LT_TRY(self, cublasLtMatmulDescCreate, &chosen->description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    LT_TRY(self, cublasLtMatmulDescSetAttribute, chosen->description, CUBLASLT_MATMUL_DESC_TRANSA,
           &transposed, sizeof transposed);
    if (key->bias) {
        LT_TRY(self, cublasLtMatmulDescSetAttribute, chosen->description, CUBLASLT_MATMUL_DESC_EPILOGUE,
               &epilogue, sizeof epilogue);
        LT_TRY(self, cublasLtMatmulDescSetAttribute, chosen->description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
               &bias_type, sizeof bias_type);
    }
    LT_TRY(self, cublasLtMatrixLayoutCreate, &chosen->weights, input, key->depth, key->features, key->depth);
    LT_TRY(self, cublasLtMatrixLayoutCreate, &chosen->x, input, key->depth, key->rows, key->depth);
    LT_TRY(self, cublasLtMatrixLayoutCreate, &chosen->y, CUDA_R_32F, key->features, key->rows, key->features);
    return CENTO_OK;
}

static cento_status set_preference(const lt_library *self, const product_key *key,
                                   cublasLtMatmulPreference_t preference, cento_error *error) {
    uint64_t workspace = WORKSPACE_BYTES;
    uint32_t whole = CUBLASLT_REDUCTION_SCHEME_NONE;
    uint32_t weights_alignment = 256;
#define PREFER(attribute, value)                                                                             \
    LT_TRY(self, cublasLtMatmulPreferenceSetAttribute, preference, attribute, &(value), sizeof(value))
    PREFER(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weights_alignment);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key->x_alignment);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key->y_alignment);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key->y_alignment);
    if (self->deterministic)
        PREFER(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, whole);
#undef PREFER
    return CENTO_OK;
}

static cento_status choose_algorithm(const lt_library *self, product *chosen,
                                     cublasLtMatmulPreference_t preference, cento_error *error) {
    const product_key *key = &chosen->key;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    TRY(set_preference(self, key, preference, error));
    cublasStatus_t code =
        self->cublasLtMatmulAlgoGetHeuristic(self->handle, chosen->description, chosen->weights, chosen->x,
                                             chosen->y, chosen->y, preference, 1, &found, &count);
    if (code != CUBLAS_STATUS_SUCCESS || count == 0)
        return error_set(error, CENTO_BACKEND, "cuBLASLt: %s for a product of %u × %u × %u in %s",
                         code != CUBLAS_STATUS_SUCCESS ? self->cublasLtGetStatusString(code) : "no algorithm",
                         key->rows, key->features, key->depth, key->bf16 ? "bf16" : "f32");
    chosen->algorithm = found.algo;
    return CENTO_OK;
}

static cento_status product_new(lt_library *self, const product_key *key, product **result,
                                cento_error *error) {
    cublasLtMatmulPreference_t preference = NULL;
    product *chosen = mem_zalloc(1, sizeof *chosen);
    if (chosen == NULL)
        return error_memory(error, sizeof *chosen);
    chosen->key = *key;
    cento_status status = describe_product(self, chosen, error);
    if (status == CENTO_OK && self->cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        status = error_set(error, CENTO_BACKEND, "cuBLASLt: no memory for a preference");
    if (status == CENTO_OK)
        status = choose_algorithm(self, chosen, preference, error);
    if (preference != NULL)
        self->cublasLtMatmulPreferenceDestroy(preference);
    if (status != CENTO_OK) {
        product_free(self, chosen);
        return status;
    }
    chosen->next = self->list;
    self->list = chosen;
    *result = chosen;
    return CENTO_OK;
}

static cento_status product_find(lt_library *self, const product_key *key, product **result,
                                 cento_error *error) {
    for (product *chosen = self->list; chosen != NULL; chosen = chosen->next)
        if (keys_equal(&chosen->key, key)) {
            *result = chosen;
            return CENTO_OK;
        }
    return product_new(self, key, result, error);
}

/* -------------------------------------------------------------------------------- products --- */

/* x in bf16: the copy that was made when it was written, or one made now. */
static cento_status bf16_rows(cuda_backend *self, const float *x, uint32_t rows, uint32_t width,
                              const void **result, cento_error *error) {
    void *copy;
    *result = cuda_copy_find(self, x, rows, width);
    if (*result != NULL)
        return CENTO_OK;
    TRY(cuda_copy_begin(self, x, rows, width, &copy, error));
    CUDA_TRY(rows_to_bf16(x, rows, width, copy, cuda_lane_of(self)), error);
    *result = copy;
    return CENTO_OK;
}

static cento_status multiply(const cuda_backend *self, product *chosen, const backend_matrix *matrix,
                             const void *x, uint32_t rows, const float *bias, bool accumulate, float *y,
                             cublasStatus_t *code, cento_error *error) {
    const lt_library *lt = self->lt;
    const float alpha = 1.0f, beta = accumulate ? 1.0f : 0.0f;
    uint64_t count = rows;
    if (bias != NULL)
        LT_TRY(lt, cublasLtMatmulDescSetAttribute, chosen->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
               &bias, sizeof bias);
    LT_TRY(lt, cublasLtMatrixLayoutSetAttribute, chosen->x, CUBLASLT_MATRIX_LAYOUT_COLS, &count,
           sizeof count);
    LT_TRY(lt, cublasLtMatrixLayoutSetAttribute, chosen->y, CUBLASLT_MATRIX_LAYOUT_COLS, &count,
           sizeof count);
    *code = lt->cublasLtMatmul(lt->handle, chosen->description, &alpha, matrix->data, chosen->weights, x,
                               chosen->x, &beta, y, chosen->y, y, chosen->y, &chosen->algorithm,
                               lt->workspace, WORKSPACE_BYTES, self->stream);
    return CENTO_OK;
}

/* Product of few rows into y, or its SwiGLU into hidden (bf16). */
static cento_status multiply_few(const cuda_backend *self, const backend_matrix *matrix, const void *x,
                                 uint32_t rows, const float *bias, bool accumulate, float *y, void *hidden,
                                 cento_error *error) {
    const cuda_lane lane = cuda_lane_of(self);
    const products_few call = {
        .weights = matrix->data,
        .x = x,
        .bias = bias,
        .y = y,
        .hidden = hidden,
        .features = matrix->rows,
        .stride = matrix->stride,
        .rows = rows,
        .accumulate = accumulate,
        .overlap = lane.overlap,
    };
    CUDA_TRY(products_few_run(&call, lane.stream), error);
    return CENTO_OK;
}

cento_status products_matmul(backend *base, const backend_matrix *matrix, const float *x, uint32_t rows,
                             const float *bias, bool accumulate, float *y, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    lt_library *lt = self->lt;
    const void *input = x;
    cublasStatus_t code;
    TRY(cuda_enter(self, error));
    if (rows == 0)
        return CENTO_OK;
    if (matrix->bf16)
        TRY(bf16_rows(self, x, rows, matrix->columns, &input, error));
    cuda_copy_forget(self, y);
    if (matrix->bf16 && rows <= self->few_rows)
        return multiply_few(self, matrix, input, rows, bias, accumulate, y, NULL, error);
    product_key key = {
        .features = matrix->rows,
        .depth = matrix->stride,
        .rows = bucket_of(lt, rows),
        .x_alignment = alignment_of(input),
        .y_alignment = alignment_of(y),
        .bias = bias != NULL,
        .bf16 = matrix->bf16,
    };
    product *chosen = matrix->chosen;
    if (chosen == NULL || !keys_equal(&chosen->key, &key))
        TRY(product_find(lt, &key, &chosen, error));
    ((backend_matrix *)matrix)->chosen = chosen;
    TRY(multiply(self, chosen, matrix, input, rows, bias, accumulate, y, &code, error));
    if (code == CUBLAS_STATUS_NOT_SUPPORTED || code == CUBLAS_STATUS_INVALID_VALUE) {
        key.rows = rows;
        key.exact = true;
        TRY(product_find(lt, &key, &chosen, error));
        TRY(multiply(self, chosen, matrix, input, rows, bias, accumulate, y, &code, error));
    }
    return code == CUBLAS_STATUS_SUCCESS ? CENTO_OK : product_error(lt, code, "cublasLtMatmul", error);
}

cento_status products_matmul_silu(backend *base, const backend_matrix *matrix, const float *x, uint32_t rows,
                                  const float *bias, float *gate_up, float *hidden, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    const void *input;
    void *copy;
    uint32_t width = matrix->rows / 2;
    TRY(cuda_enter(self, error));
    if (rows == 0)
        return CENTO_OK;
    if (self->pass.active && matrix->bf16 && rows <= self->few_rows) {
        TRY(bf16_rows(self, x, rows, matrix->columns, &input, error));
        TRY(cuda_copy_begin(self, hidden, rows, width, &copy, error)); /* another one than the input's */
        return multiply_few(self, matrix, input, rows, bias, false, NULL, copy, error);
    }
    TRY(products_matmul(base, matrix, x, rows, bias, false, gate_up, error));
    base->ops->silu_mul(base, gate_up, rows, width, hidden);
    return CENTO_OK;
}

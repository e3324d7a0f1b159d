/*
 * What benchmarks need beyond the operations: device time, bandwidth, filled pages. See backend.h,
 * backend_measure.
 *
 * Calls are captured as a graph and replayed, so that the host's launches do not show. What cannot be
 * captured (something waits, or allocates) is launched call after call between the same two events instead.
 */
#include "backend/backend_check.h"
#include "cuda.h"

#define COPY_BYTES ((size_t)1 << 30)
enum { COPIES_TIMED = 8 };

typedef struct timer {
    cudaEvent_t begin, end;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
} timer;

static void timer_free(timer *held) {
    if (held->replay != NULL)
        cudaGraphExecDestroy(held->replay);
    if (held->graph != NULL)
        cudaGraphDestroy(held->graph);
    if (held->begin != NULL)
        cudaEventDestroy(held->begin);
    if (held->end != NULL)
        cudaEventDestroy(held->end);
    cudaGetLastError();
}

static cento_status timer_create(timer *held, cento_error *error) {
    CUDA_TRY(cudaEventCreate(&held->begin), error);
    CUDA_TRY(cudaEventCreate(&held->end), error);
    return CENTO_OK;
}

typedef cento_status (*measured_call)(void *user, uint32_t index, cento_error *error);

static cento_status call_all(measured_call call, void *user, uint32_t calls, cento_error *error) {
    for (uint32_t i = 0; i < calls; i++)
        TRY(call(user, i, error));
    return CENTO_OK;
}

/* held->replay stays NULL if the calls cannot be captured. */
static void record(cuda_backend *self, timer *held, measured_call call, void *user, uint32_t calls) {
    cento_error ignored;
    if (cudaStreamBeginCapture(self->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError();
        return;
    }
    cento_status status = call_all(call, user, calls, &ignored);
    cudaError_t code = cudaStreamEndCapture(self->stream, &held->graph);
    cudaGetLastError();
    self->failed = CENTO_OK; /* what failed because of the capture is no failure */
    if (status == CENTO_OK && code == cudaSuccess && held->graph != NULL &&
        cudaGraphInstantiate(&held->replay, held->graph, 0) != cudaSuccess) {
        held->replay = NULL;
        cudaGetLastError();
    }
}

static cento_status run_once(cuda_backend *self, timer *held, measured_call call, void *user, uint32_t calls,
                             double *us, cento_error *error) {
    float ms = 0.0f;
    CUDA_TRY(cudaEventRecord(held->begin, self->stream), error);
    if (held->replay != NULL)
        CUDA_TRY(cudaGraphLaunch(held->replay, self->stream), error);
    else
        TRY(call_all(call, user, calls, error));
    CUDA_TRY(cudaEventRecord(held->end, self->stream), error);
    CUDA_TRY(cudaStreamSynchronize(self->stream), error);
    CUDA_TRY(cudaEventElapsedTime(&ms, held->begin, held->end), error);
    *us = (double)ms * 1e3;
    return CENTO_OK;
}

static cento_status time_with(cuda_backend *self, timer *held, measured_call call, void *user, uint32_t calls,
                              uint32_t repetitions, double *us, cento_error *error) {
    double unused;
    TRY(timer_create(held, error));
    TRY(call(user, 0, error)); /* uploads and reserves what the others then find */
    CUDA_TRY(cudaStreamSynchronize(self->stream), error);
    record(self, held, call, user, calls);
    TRY(run_once(self, held, call, user, calls, &unused, error));
    for (uint32_t i = 0; i < repetitions; i++)
        TRY(run_once(self, held, call, user, calls, &us[i], error));
    return CENTO_OK;
}

static cento_status time_calls(backend *base, measured_call call, void *user, uint32_t calls,
                               uint32_t repetitions, double *us, bool *recorded, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    timer held = {0};
    TRY(cuda_enter(self, error));
    cento_status status = time_with(self, &held, call, user, calls, repetitions, us, error);
    *recorded = held.replay != NULL;
    timer_free(&held);
    return status;
}

static cento_status copy_and_time(cuda_backend *self, const timer *held, char *memory, size_t bytes,
                                  double *bytes_per_s, cento_error *error) {
    *bytes_per_s = 0.0;
    CUDA_TRY(cudaMemsetAsync(memory, 0, 2 * bytes, self->stream), error);
    for (int i = 0; i < COPIES_TIMED; i++) {
        float ms = 0.0f;
        CUDA_TRY(cudaEventRecord(held->begin, self->stream), error);
        CUDA_TRY(cudaMemcpyAsync(memory + bytes, memory, bytes, cudaMemcpyDeviceToDevice, self->stream),
                 error);
        CUDA_TRY(cudaEventRecord(held->end, self->stream), error);
        CUDA_TRY(cudaStreamSynchronize(self->stream), error);
        CUDA_TRY(cudaEventElapsedTime(&ms, held->begin, held->end), error);
        double found = 2.0 * (double)bytes / ((double)ms * 1e-3);
        *bytes_per_s = found > *bytes_per_s ? found : *bytes_per_s;
    }
    return CENTO_OK;
}

static cento_status copy_bandwidth(backend *base, double *bytes_per_s, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    timer held = {0};
    void *memory = NULL;
    TRY(cuda_enter(self, error));
    TRY(cuda_allocate(2 * COPY_BYTES, "the measured copy", &memory, error));
    cento_status status = timer_create(&held, error);
    if (status == CENTO_OK)
        status = copy_and_time(self, &held, memory, COPY_BYTES, bytes_per_s, error);
    timer_free(&held);
    cudaFree(memory);
    return status;
}

static cento_status kv_fill(backend *base, backend_kv_pool *pool, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    size_t elements;
    TRY(cuda_enter(self, error));
    TRY(kv_pool_elements(&pool->shape, &elements, error));
    CUDA_TRY(measure_fill_pages(pool->data, pool->bf16, &pool->shape, elements, self->stream), error);
    return CENTO_OK;
}

const backend_measure cuda_measure = {
    .time = time_calls,
    .copy_bandwidth = copy_bandwidth,
    .kv_fill = kv_fill,
};

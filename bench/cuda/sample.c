/*
 * Bench of sampling on the GPU: one call of the backend's `sample`, by rows and options.
 *
 *   bench_cuda_sample [vocabulary [calls]]
 *
 * Medians over calls (40), in microseconds: of the device, behind work that hides the launches, with a cold
 * L2 (events); and for a caller whose device was idle. Logits of two shapes: peaked as a trained model's, and
 * flat as random weights give them.
 *
 * Build: cmake --build --preset release --target bench_cuda_sample
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backend/cuda/cuda.h"
#include "random.h"

enum { CALLS_MAX = 1000, ROWS_MAX = 256 };
#define SWEPT_BYTES ((size_t)768 << 20) /* takes longer to write than the launches take */

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != CENTO_OK) {                                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, error.message);                    \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

typedef struct option {
    const char *name;
    sample_row row;
    uint32_t penalties;
} option;

static const option options[] = {
    {"greedy", {.top_p = 1}, 0},
    {"temperature 0.6", {.temperature = 0.6f, .top_p = 1}, 0},
    {"top-p 0.95", {.temperature = 0.6f, .top_p = 0.95f}, 0},
    {"top-k 40", {.temperature = 0.6f, .top_p = 1, .top_k = 40}, 0},
    {"top-k 20, top-p 0.8", {.temperature = 0.7f, .top_p = 0.8f, .top_k = 20}, 0},
    {"min-p 0.05", {.temperature = 1, .top_p = 1, .min_p = 0.05f}, 0},
    {"temperature 0.6, 500 penalties", {.temperature = 0.6f, .top_p = 1}, 500},
    {"temperature 0.6, 5 logprobs", {.temperature = 0.6f, .top_p = 1, .logprobs = 5}, 0},
};

static cento_error error;
static void *swept;
static int call_count = 40;

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void measure(backend *device, float *logits, uint32_t rows, uint32_t vocab, const option *how,
                    double *device_us, double *caller_us) {
    static sample_row asked[ROWS_MAX];
    static int32_t tokens[ROWS_MAX];
    static cento_token_logprob logprobs[ROWS_MAX * (1 + SAMPLE_LOGPROBS_MAX)];
    sample_change *changes = malloc((size_t)rows * how->penalties * sizeof *changes + 1);
    double on_device[CALLS_MAX] = {0}, for_caller[CALLS_MAX] = {0};
    cudaStream_t stream = ((cuda_backend *)device)->stream;
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (uint32_t i = 0; i < rows * how->penalties; i++)
        changes[i] = (sample_change){(int32_t)(i % how->penalties * 97 % vocab), 1.1f, 0.5f};
    const sample_batch batch = {.row_count = rows,
                                .vocab_size = vocab,
                                .rows = asked,
                                .changes = changes,
                                .change_count = (size_t)rows * how->penalties,
                                .logprobs_max = how->row.logprobs,
                                .tokens = tokens,
                                .logprobs = logprobs};
    for (int call = -6; call < 2 * call_count; call++) {
        bool behind = call % 2 != 0;
        float took_ms;
        for (uint32_t i = 0; i < rows; i++) {
            asked[i] = how->row;
            asked[i].random = (double)(random_bits() >> 11) * 0x1p-53;
            asked[i].penalty_count = how->penalties;
        }
        if (behind)
            cudaMemsetAsync(swept, 0, SWEPT_BYTES, stream);
        double began = now_us();
        cudaEventRecord(begin, stream);
        OK(device->ops->sample(device, logits, &batch, &error));
        double ended = now_us();
        cudaEventRecord(end, stream);
        cudaEventSynchronize(end);
        cudaEventElapsedTime(&took_ms, begin, end);
        if (call >= 0 && behind)
            on_device[call / 2] = (double)took_ms * 1e3;
        else if (call >= 0)
            for_caller[call / 2] = ended - began;
    }
    *device_us = median(on_device, call_count);
    *caller_us = median(for_caller, call_count);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    free(changes);
}

int main(int argc, char **argv) {
    static const uint32_t row_counts[] = {1, 8, 64, 256};
    uint32_t vocab = argc > 1 ? (uint32_t)atoi(argv[1]) : 151936;
    if (argc > 2 && atoi(argv[2]) > 0 && atoi(argv[2]) < CALLS_MAX)
        call_count = atoi(argv[2]);
    size_t count = (size_t)ROWS_MAX * vocab;
    const backend_options how = {.compute_dtype = CENTO_DTYPE_BF16};
    backend *device;
    OK(backend_create("cuda", &how, &device, &error));
    float *logits = device->ops->alloc(device, count), *host = malloc(count * sizeof *host);
    if (cudaMalloc(&swept, SWEPT_BYTES) != cudaSuccess)
        return 1;
    printf("%s\n%u logits; µs on the device / for the caller\n", device->ops->describe(device), vocab);
    for (int flat = 0; flat < 2; flat++) {
        for (size_t i = 0; i < count; i++) {
            double unit = ((double)(random_bits() >> 11) + 0.5) * 0x1p-53;
            float bulk = 1.2f * (float)(random_bits() >> 40) * 0x1p-24f;
            /* trained: an exponential tail above the bulk; random weights: nearly nothing stands out */
            host[i] = flat ? 0.6f * random_normal() : bulk + 1.5f * (float)-log(unit);
        }
        OK(device->ops->write(device, logits, count, host, &error));
        printf("%-32s", flat ? "flat" : "peaked");
        for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++)
            printf("  %8u rows", row_counts[r]);
        printf("\n");
        for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
            printf("%-32s", options[i].name);
            for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
                double device_us, caller_us;
                measure(device, logits, row_counts[r], vocab, &options[i], &device_us, &caller_us);
                printf("  %6.1f/%6.1f", device_us, caller_us);
            }
            printf("\n");
            fflush(stdout);
        }
    }
    cudaFree(swept);
    device->ops->release(device, logits);
    device->ops->destroy(device);
    free(host);
    return 0;
}

/*
 * What cuda_sample.c and the kernels of sample.cu share: the rows as they lie on the device, and the
 * launches. Plain C: included by C and by CUDA C++.
 */
#ifndef CENTO_BACKEND_CUDA_CUDA_SAMPLE_H
#define CENTO_BACKEND_CUDA_CUDA_SAMPLE_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SAMPLE_SLICE = 8192,      /* logits that a block scans */
    SAMPLE_FEW = 16,          /* rows that go with the launch */
    SAMPLE_GROUPS = 64,       /* of a slice: each tells its largest logit */
    SAMPLE_SLICES_MAX = 1024, /* of a row: sums of weights then fit in 64 bits */
};

typedef struct cuda_sample_row {
    sample_row row;
    uint32_t change_begin; /* its part of `changes` */
} cuda_sample_row;

/* What the scan says of a slice. */
typedef struct sample_slice {
    uint64_t best; /* the order of its likeliest token; 0: none of its logits is finite */
    double sum;    /* of the weights, relative to the likeliest's */
} sample_slice;

/* All pointers are memory that the device reaches; read_…: the host's. */
typedef struct sample_call {
    float *logits; /* (row_count, vocab_size) */
    uint32_t row_count, vocab_size, slice_count;
    const cuda_sample_row *rows;  /* (row_count); NULL: `few` */
    const sample_change *changes; /* of all rows */
    float *saved;                 /* (changes) the logits before them */
    const uint32_t *listed;       /* (listed_count) rows of which logprobs are told; NULL: tokens are drawn */
    uint32_t listed_count, logprobs_max;
    sample_slice *slices;               /* (row_count, slice_count) */
    float *groups;                      /* (row_count, slice_count, SAMPLE_GROUPS) */
    int32_t *tokens, *read_tokens;      /* (row_count) */
    cento_token_logprob *read_logprobs; /* (row_count, 1 + logprobs_max) */
    sample_row few[SAMPLE_FEW];         /* (row_count), where nothing is changed and no logprobs are told */
} sample_call;

/* Makes the changes of all rows; takes them back. */
cudaError_t sample_change_logits(const sample_call *call, cudaStream_t stream);
cudaError_t sample_restore_logits(const sample_call *call, cudaStream_t stream);
/* Draws a token from each row; or, with `listed`, tells the logprobs of the tokens drawn before. */
cudaError_t sample_rows(const sample_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif

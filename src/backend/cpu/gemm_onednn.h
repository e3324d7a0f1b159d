/* Products of many rows by oneDNN, on our packed panels. */
#ifndef CENTO_BACKEND_CPU_GEMM_ONEDNN_H
#define CENTO_BACKEND_CPU_GEMM_ONEDNN_H

#include "cpu.h"

#define ONEDNN_ROWS_MIN 32

typedef struct onednn_matrix onednn_matrix;

/* NULL: oneDNN is not used on this machine. */
struct onednn *onednn_create(const cpu_backend *self);
void onednn_free(struct onednn *engine);
/* NULL: oneDNN is not used for it (not an error). */
onednn_matrix *onednn_matrix_create(cpu_backend *self, const backend_matrix *matrix);
void onednn_matrix_free(onednn_matrix *matrix);
cento_status onednn_matmul(cpu_backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                           const float *bias, bool accumulate, float *y, cento_error *error);

#endif

/*
 * Products of many rows by oneDNN, where it has matrix units to use that our kernels do not: AMX. It reads
 * our packed panels as they are (kernels.h; BA16a64b2a in its notation), so weights are held once and
 * products of few rows and embeddings still use our kernels on the same memory. Activations are rounded to
 * bf16 on both paths. A row's result may differ in its last bits between fewer and more than ONEDNN_ROWS_MIN
 * rows.
 */
#ifndef CENTO_BACKEND_CPU_GEMM_ONEDNN_H
#define CENTO_BACKEND_CPU_GEMM_ONEDNN_H

#include "cpu.h"

#define ONEDNN_ROWS_MIN 32

typedef struct onednn onednn;
typedef struct onednn_matrix onednn_matrix;

/* NULL: oneDNN is not used on this machine (not an error). `wanted`: also where there is no AMX. */
onednn *onednn_create(const cpu_backend *self, bool wanted);
void onednn_free(onednn *engine);
/* NULL: oneDNN is not used for this matrix. */
onednn_matrix *onednn_matrix_create(cpu_backend *self, const backend_matrix *matrix);
void onednn_matrix_free(onednn_matrix *matrix);
cento_status onednn_matmul(cpu_backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                           const float *bias, bool accumulate, float *y, cento_error *error);

#endif

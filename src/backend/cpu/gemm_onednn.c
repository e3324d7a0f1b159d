/* Products of many rows by oneDNN: not yet. */
#include "gemm_onednn.h"

struct onednn *onednn_create(const cpu_backend *self) {
    (void)self;
    return NULL;
}

void onednn_free(struct onednn *engine) {
    (void)engine;
}

onednn_matrix *onednn_matrix_create(cpu_backend *self, const backend_matrix *matrix) {
    (void)self;
    (void)matrix;
    return NULL;
}

void onednn_matrix_free(onednn_matrix *matrix) {
    (void)matrix;
}

cento_status onednn_matmul(cpu_backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                           const float *bias, bool accumulate, float *y, cento_error *error) {
    (void)self, (void)matrix, (void)x, (void)rows, (void)bias, (void)accumulate, (void)y;
    return error_set(error, CENTO_INTERNAL, "oneDNN is not used");
}

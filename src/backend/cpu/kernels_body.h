/*
 * The kernels of one instruction set: included by kernels_NAME.c, which defines KERNELS (the table's
 * identifier) and KERNELS_NAME. See kernels.h.
 */
#include "attention_body.h"
#include "gemm_body.h"
#include "rows_body.h"

static const cpu_kernels kernels_table = {
    .name = KERNELS_NAME,
    .panel_width = PANEL_WIDTH,
    .tile_rows = TILE_ROWS,
    .stream_panels = STREAM_VECTORS / PANEL_VECTORS,
#if defined(__AVX512BF16__)
    .pairs = true,
#endif
    .pack_rows = pack_rows,
    .gemm = gemm,
    .read = read_words,
    .multiply = multiply,
    .rmsnorm = rmsnorm_row,
    .silu_mul = silu_mul_row,
    .bf16_of_f32 = bf16_of_f32_row,
    .attention = {.keys = KEYS,
                  .width = PANEL,
                  .scratch_bytes = scratch_bytes,
                  .pack_queries = pack_queries,
                  .attend_block = attend_block,
                  .read_state = read_state},
    .fold_state = fold_state,
};

const cpu_kernels *const KERNELS = &kernels_table;

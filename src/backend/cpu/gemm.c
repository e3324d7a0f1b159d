/*
 * Weights and products: packs matrices into panels, hands panels and row blocks to threads, gathers
 * embedding rows from panels. The arithmetic is in gemm_body.h; on CPUs with AMX products of many rows go to
 * oneDNN (gemm_onednn.c), which reads the same panels.
 */
#include <math.h>
#include <sys/mman.h>

#include "backend/backend_check.h"
#include "base/mem.h"
#include "convert.h"
#include "cpu.h"
#include "gemm_onednn.h"

#define PACK_WORDS         64           /* words of a row that are packed at a time: a block stays in L1 */
#define FEW_ROWS           64           /* up to here a task's time is mostly its weights' */
#define FEW_ROWS_BYTES     (256u << 10) /* of weights for a task of few rows */
#define BLOCK_TASK_COLUMNS 512          /* of a task of many rows */
#define SERIAL_PACK        32768        /* activations that are not worth a barrier */
#define SERIAL_PRODUCTS    1000000      /* below this a product is not worth waking threads for */

void *large_alloc(size_t bytes) {
    char *memory = mem_alloc_aligned(bytes);
    const size_t page = 4096, huge_page = (size_t)2 << 20;
    if (memory != NULL && bytes >= 2 * huge_page) {
        char *begin = memory + (page - (uintptr_t)memory % page) % page;
        madvise(begin, (bytes - (size_t)(begin - memory)) / page * page, MADV_HUGEPAGE);
    }
    return memory;
}

static uint32_t matrix_words(const backend_matrix *matrix) {
    return matrix->kind == GEMM_F32 ? matrix->columns : divided_up(matrix->columns, 2);
}

/* ------------------------------------------------------------------------------ packing ---- */

/* One row of the stacked matrix. */
typedef struct row_source {
    const char *data; /* NULL: random */
    tensor_dtype dtype;
    uint64_t random;
} row_source;

static row_source row_find(const tensor_view *parts, size_t row) {
    row_source source = {.random = 0x9E3779B97F4A7C15u * (row + 1)};
    while (row >= parts->rows) {
        row -= parts->rows;
        parts++;
    }
    source.dtype = parts->dtype;
    if (parts->data != NULL)
        source.data = (const char *)parts->data + row * parts->columns * tensor_dtype_bytes(parts->dtype);
    return source;
}

/* Uniform with the variance 1/columns that keeps activations at their size. */
static float random_weight(uint64_t *state, float spread) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return ((float)(*state >> 40) * 0x1p-24f - 0.5f) * spread;
}

static float source_element(row_source *source, uint32_t column, float spread) {
    return source->data != NULL ? tensor_element(source->data, source->dtype, column)
                                : random_weight(&source->random, spread);
}

/* Words [begin, end) of a row, as they stand in a panel. */
static void source_words(row_source *source, gemm_kind kind, uint32_t columns, uint32_t begin, uint32_t end,
                         uint32_t *words) {
    float spread = sqrtf(12.0f / (float)columns);
    if (kind == GEMM_F32) {
        for (uint32_t w = begin; w < end; w++)
            words[w - begin] = bits_of_f32(source_element(source, w, spread));
        return;
    }
    uint32_t whole = end * 2 > columns ? end - 1 : end;
    if (source->data != NULL && source->dtype == TENSOR_BF16) {
        memcpy(words, source->data + (size_t)begin * 4, (size_t)(whole - begin) * 4);
    } else {
        for (uint32_t w = begin; w < whole; w++) {
            uint32_t low = bf16_of_f32(source_element(source, 2 * w, spread));
            words[w - begin] = low | (uint32_t)bf16_of_f32(source_element(source, 2 * w + 1, spread)) << 16;
        }
    }
    if (whole < end)
        words[whole - begin] = bf16_of_f32(source_element(source, 2 * whole, spread));
}

static void pack_panel(const backend_matrix *matrix, const tensor_view *parts, uint32_t panel,
                       uint32_t panel_width) {
    uint32_t words = matrix_words(matrix), first = panel * panel_width;
    uint32_t *out = matrix->panels + (size_t)panel * words * panel_width;
    for (uint32_t i = 0; i < panel_width; i++) {
        if (first + i >= matrix->rows) {
            for (uint32_t w = 0; w < words; w++)
                out[(size_t)w * panel_width + i] = 0;
            continue;
        }
        row_source source = row_find(parts, first + i);
        for (uint32_t begin = 0; begin < words; begin += PACK_WORDS) {
            uint32_t end = words - begin < PACK_WORDS ? words : begin + PACK_WORDS, block[PACK_WORDS];
            source_words(&source, matrix->kind, matrix->columns, begin, end, block);
            for (uint32_t w = begin; w < end; w++)
                out[(size_t)w * panel_width + i] = block[w - begin];
        }
    }
}

/* bf16 weights of the file are kept as they are in f32 mode too: the products are the same, in half the
 * memory. */
static gemm_kind storage_kind(const cpu_backend *self, const tensor_view *parts, size_t part_count) {
    if (self->compute_dtype == CENTO_DTYPE_BF16)
        return self->kernels->pairs ? GEMM_PAIRS : GEMM_BF16;
    for (size_t i = 0; i < part_count; i++)
        if (parts[i].dtype != TENSOR_BF16)
            return GEMM_F32;
    return GEMM_BF16;
}

cento_status gemm_matrix_create(backend *base, const tensor_view *parts, size_t part_count, bool gather_rows,
                                backend_matrix **result, cento_error *error) {
    cpu_backend *self = cpu_of(base);
    uint32_t rows;
    TRY(backend_check_parts(parts, part_count, INT32_MAX, &rows, error));
    backend_matrix *matrix = mem_zalloc(1, sizeof *matrix);
    if (matrix == NULL)
        return error_memory(error, sizeof *matrix);
    matrix->rows = rows;
    matrix->columns = parts[0].columns;
    matrix->kind = storage_kind(self, parts, part_count);
    uint32_t panel_width = self->kernels->panel_width, panels = divided_up(matrix->rows, panel_width);
    matrix->bytes = (size_t)panels * panel_width * matrix_words(matrix) * sizeof(uint32_t);
    matrix->panels = large_alloc(matrix->bytes);
    if (matrix->panels == NULL) {
        size_t bytes = matrix->bytes;
        mem_free(matrix);
        return error_memory(error, bytes);
    }
#pragma omp parallel for schedule(dynamic, 4) num_threads(self->threads)
    for (uint32_t panel = 0; panel < panels; panel++)
        pack_panel(matrix, parts, panel, panel_width);
    if (!gather_rows)
        matrix->onednn = onednn_matrix_create(self, matrix);
    self->counters.weight_bytes += matrix->bytes;
    *result = matrix;
    return CENTO_OK;
}

void gemm_matrix_free(backend *base, backend_matrix *matrix) {
    if (matrix == NULL)
        return;
    cpu_of(base)->counters.weight_bytes -= matrix->bytes;
    onednn_matrix_free(matrix->onednn);
    mem_free(matrix->panels);
    mem_free(matrix);
}

/* --------------------------------------------------------------------------- embeddings ---- */

static void embed_row(const cpu_backend *self, const backend_matrix *table, uint32_t id, float *x) {
    uint32_t panel_width = self->kernels->panel_width, words = matrix_words(table);
    const uint32_t *word =
        table->panels + (size_t)(id / panel_width) * words * panel_width + id % panel_width;
    for (uint32_t w = 0; w < words; w++, word += panel_width) {
        if (table->kind == GEMM_F32) {
            x[w] = f32_of_bits(*word);
            continue;
        }
        x[2 * w] = f32_of_bits(*word << 16);
        if (2 * w + 1 < table->columns)
            x[2 * w + 1] = f32_of_bits(*word & 0xFFFF0000u);
    }
}

cento_status gemm_embed(backend *base, const backend_matrix *table, const int32_t *ids, uint32_t rows,
                        float *x, cento_error *error) {
    cpu_backend *self = cpu_of(base);
    TRY(backend_check_ids(ids, rows, table->rows, error));
#pragma omp parallel for num_threads(self->threads) if ((size_t)rows * table->columns >= 65536)
    for (uint32_t row = 0; row < rows; row++)
        embed_row(self, table, (uint32_t)ids[row], x + (size_t)row * table->columns);
    self->counters.forward_tokens += rows;
    return CENTO_OK;
}

/* ----------------------------------------------------------------------------- products ---- */

/* How a product is cut: tasks of `panels` panels × `tiles` tiles of rows. */
typedef struct gemm_cut {
    uint32_t panels, tiles;
    uint32_t across, down; /* tasks along columns and rows */
} gemm_cut;

static gemm_cut cut_product(const cpu_backend *self, const backend_matrix *matrix, uint32_t rows) {
    uint32_t width = self->kernels->panel_width, panels = divided_up(matrix->rows, width);
    uint32_t tiles = divided_up(rows, self->kernels->tile_rows), threads = (uint32_t)self->threads;
    uint32_t wanted = 4 * threads, most = BLOCK_TASK_COLUMNS / width, group = 1;
    gemm_cut cut = {.tiles = tiles};
    if (rows <= FEW_ROWS)
        most = divided_up(FEW_ROWS_BYTES, matrix_words(matrix) * width * 4);
    if (rows <= 2 && panels >= threads * self->kernels->stream_panels)
        group = self->kernels->stream_panels / rows; /* panels side by side: keep groups whole */
    cut.panels = divided_up(divided_up(panels, wanted), group) * group;
    most = divided_up(most, group) * group;
    if (cut.panels > most)
        cut.panels = most;
    if (tiles > 1 && divided_up(panels, cut.panels) < wanted)
        cut.tiles = divided_up(tiles, divided_up(wanted, divided_up(panels, cut.panels)));
    cut.across = divided_up(panels, cut.panels);
    cut.down = divided_up(tiles, cut.tiles);
    return cut;
}

static size_t packed_row_words(const backend_matrix *matrix) {
    return matrix->kind == GEMM_BF16 ? (size_t)matrix_words(matrix) * 2 : matrix_words(matrix);
}

cento_status gemm_matmul(backend *base, const backend_matrix *matrix, const float *x, uint32_t rows,
                         const float *bias, bool accumulate, float *y, cento_error *error) {
    cpu_backend *self = cpu_of(base);
    if (rows == 0)
        return CENTO_OK;
    if (matrix->onednn != NULL && rows >= ONEDNN_ROWS_MIN)
        return onednn_matmul(self, matrix, x, rows, bias, accumulate, y, error);

    const cpu_kernels *kernels = self->kernels;
    gemm_job job = {
        .kind = matrix->kind,
        .rows = rows,
        .columns = matrix->rows,
        .depth = matrix->columns,
        .packed_rows = x,
        .panels = matrix->panels,
        .bias = bias,
        .accumulate = accumulate,
        .y = y,
    };
    uint32_t tiles = divided_up(rows, kernels->tile_rows),
             panels = divided_up(matrix->rows, kernels->panel_width);
    uint32_t pack_units = divided_up(job.depth, GEMM_DEPTH) * tiles;
    bool serial = (uint64_t)rows * matrix->rows * matrix->columns < SERIAL_PRODUCTS;
    /* one row of even length is packed as it is */
    bool pack = rows > 1 || matrix->kind == GEMM_PAIRS || packed_row_words(matrix) != matrix->columns;
    if (pack) {
        TRY(scratch_reserve(&self->packed_rows, (size_t)rows * packed_row_words(matrix) * 4, error));
        job.packed_rows = self->packed_rows.memory;
        if (serial || (size_t)rows * job.depth < SERIAL_PACK) {
            kernels->pack_rows(job.kind, x, rows, job.depth, 0, pack_units, self->packed_rows.memory);
            pack = false;
        }
    }
    gemm_cut cut = cut_product(self, matrix, rows);
    uint32_t tasks = cut.across * cut.down;
#pragma omp parallel num_threads(self->threads) if (!serial)
    {
        if (pack) {
#pragma omp for schedule(dynamic, 1)
            for (uint32_t unit = 0; unit < pack_units; unit++)
                kernels->pack_rows(job.kind, x, rows, job.depth, unit, unit + 1, self->packed_rows.memory);
        }
#pragma omp for schedule(dynamic, 1) nowait
        for (uint32_t task = 0; task < tasks; task++) {
            uint32_t panel = task / cut.down * cut.panels, tile = task % cut.down * cut.tiles;
            kernels->gemm(&job, panel, panels - panel < cut.panels ? panels : panel + cut.panels, tile,
                          tiles - tile < cut.tiles ? tiles : tile + cut.tiles);
        }
    }
    return CENTO_OK;
}

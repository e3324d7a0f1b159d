/* Promises of the CPU backend's matrices and row operations, for every instruction set this CPU has. */
#include "support.h"

#include "base/mem.h"
#include "reference.h"

static const char *isa_label(const char *isa) {
    return isa == NULL ? "best" : isa;
}

/* A (rows, columns) matrix in the given dtype, unaligned, and what it means in f64. */
typedef struct test_matrix {
    char *memory;
    double *values;
    tensor_view view;
} test_matrix;

static test_matrix matrix_random(tensor_dtype dtype, uint32_t rows, uint32_t columns) {
    size_t count = (size_t)rows * columns;
    test_matrix matrix = {.memory = malloc(count * 4 + 1), .values = malloc(count * sizeof(double))};
    char *data = matrix.memory + 1;
    matrix.view = (tensor_view){.data = data, .dtype = dtype, .rows = rows, .columns = columns};
    for (size_t i = 0; i < count; i++) {
        float value = random_normal();
        uint16_t half = dtype == TENSOR_F16 ? (uint16_t)(random_bits() & 0xBFFFu) : reference_bf16(value);
        if (dtype == TENSOR_F32)
            memcpy(data + i * 4, &value, 4);
        else
            memcpy(data + i * 2, &half, 2);
        matrix.values[i] = dtype == TENSOR_F32   ? (double)value
                           : dtype == TENSOR_F16 ? reference_f16_value(half)
                                                 : (double)reference_bf16_value(half);
    }
    return matrix;
}

static void matrix_release(test_matrix *matrix) {
    free(matrix->memory);
    free(matrix->values);
}

/* Compares y with the f64 product; weights and activations rounded as the backend says it does. */
static void expect_product(const backend *device, cento_dtype dtype, const test_matrix *matrix,
                           const float *x, uint32_t rows, const float *bias, const float *before,
                           const float *y) {
    uint32_t columns = matrix->view.columns, outputs = matrix->view.rows;
    bool round_x = rounds_activations(device, dtype);
    size_t weight_count = (size_t)outputs * columns, x_count = (size_t)rows * columns;
    double *weights = malloc(weight_count * sizeof *weights), *values = malloc(x_count * sizeof *values);
    for (size_t i = 0; i < weight_count; i++)
        weights[i] = dtype == CENTO_DTYPE_BF16 ? (double)reference_bf16_round((float)matrix->values[i])
                                               : matrix->values[i];
    for (size_t i = 0; i < x_count; i++)
        values[i] = round_x ? reference_bf16_round(x[i]) : x[i];
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t n = 0; n < outputs; n++) {
            double sum = bias != NULL ? bias[n] : 0.0, size = fabs(sum);
            if (before != NULL)
                sum += before[(size_t)row * outputs + n];
            for (uint32_t k = 0; k < columns; k++) {
                double product = weights[(size_t)n * columns + k] * values[(size_t)row * columns + k];
                sum += product;
                size += fabs(product);
            }
            double got = y[(size_t)row * outputs + n];
            if (!(fabs(got - sum) <= 1e-6 * size + 1e-6))
                fail_msg("%s: %u rows, %u x %u, y[%u][%u] = %.9g, expected %.9g",
                         device->ops->describe(device), rows, outputs, columns, row, n, got, sum);
        }
    free(weights);
    free(values);
}

static void check_product(backend *device, cento_dtype dtype, tensor_dtype stored, uint32_t rows,
                          uint32_t outputs, uint32_t columns) {
    cento_error error;
    test_matrix matrix = matrix_random(stored, outputs, columns);
    backend_matrix *packed;
    ASSERT_OK(device->ops->matrix_create(device, &matrix.view, 1, false, &packed, &error));
    float *x = random_floats((size_t)rows * columns), *bias = random_floats(outputs);
    float *y = random_floats((size_t)rows * outputs),
          *before = malloc((size_t)rows * outputs * sizeof(float));
    memcpy(before, y, (size_t)rows * outputs * sizeof(float));

    ASSERT_OK(device->ops->matmul(device, packed, x, rows, bias, true, y, &error));
    expect_product(device, dtype, &matrix, x, rows, bias, before, y);
    ASSERT_OK(device->ops->matmul(device, packed, x, rows, NULL, false, y, &error));
    expect_product(device, dtype, &matrix, x, rows, NULL, NULL, y);
    ASSERT_OK(device->ops->matmul(device, packed, x, rows, bias, false, y, &error));
    expect_product(device, dtype, &matrix, x, rows, bias, NULL, y);

    device->ops->matrix_free(device, packed);
    assert_int_equal(device->ops->counters(device)->weight_bytes, 0);
    matrix_release(&matrix);
    free(x);
    free(bias);
    free(y);
    free(before);
}

static void products_match_f64(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1},    {7, 3},    {16, 16},   {17, 33},  {64, 256},
                                         {65, 255}, {96, 257}, {130, 512}, {31, 777}, {200, 64}};
    static const uint32_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 25, 31, 33, 70};
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            backend *device = backend_for(reference_isas[i], (cento_dtype)dtype, 2);
            if (device == NULL)
                continue;
            for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; shape++)
                for (size_t r = (shape + dtype) % 3; r < sizeof row_counts / sizeof *row_counts; r += 3)
                    check_product(device, (cento_dtype)dtype, (tensor_dtype)((shape + r) % 3), row_counts[r],
                                  shapes[shape][0], shapes[shape][1]);
            device->ops->destroy(device);
        }
}

/* Few rows of great depth (panels are gone down in several spans), then more than one row block and more
 * than one task. */
static void large_products_match_f64(void **state) {
    (void)state;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            backend *device = backend_for(reference_isas[i], (cento_dtype)dtype, 3);
            if (device == NULL)
                continue;
            check_product(device, (cento_dtype)dtype, TENSOR_BF16, 17, 140, 4500);
            check_product(device, (cento_dtype)dtype, TENSOR_BF16, 301, 700, 530);
            device->ops->destroy(device);
        }
}

static void a_row_does_not_depend_on_its_company(void **state) {
    (void)state;
    enum { ROWS = 300, OUTPUTS = 150, COLUMNS = 1100 };
    static const uint32_t counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 25, 32, 64, 58};
    cento_error error;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            backend *device = backend_for(reference_isas[i], (cento_dtype)dtype, 2);
            if (device == NULL)
                continue;
            if (strstr(device->ops->describe(device), "oneDNN") != NULL && dtype == CENTO_DTYPE_BF16) {
                device->ops->destroy(device); /* promised for our own kernels only */
                continue;
            }
            test_matrix matrix = matrix_random(TENSOR_BF16, OUTPUTS, COLUMNS);
            backend_matrix *packed;
            ASSERT_OK(device->ops->matrix_create(device, &matrix.view, 1, false, &packed, &error));
            float *x = random_floats((size_t)ROWS * COLUMNS), *all = random_floats((size_t)ROWS * OUTPUTS);
            float *some = random_floats((size_t)ROWS * OUTPUTS), *bias = random_floats(OUTPUTS);
            ASSERT_OK(device->ops->matmul(device, packed, x, ROWS, bias, false, all, &error));
            uint32_t row = 0;
            for (size_t c = 0; c < sizeof counts / sizeof *counts; row += counts[c++])
                ASSERT_OK(device->ops->matmul(device, packed, x + (size_t)row * COLUMNS, counts[c], bias,
                                              false, some + (size_t)row * OUTPUTS, &error));
            assert_int_equal(row, ROWS);
            assert_memory_equal(all, some, (size_t)ROWS * OUTPUTS * sizeof(float));
            device->ops->matrix_free(device, packed);
            device->ops->destroy(device);
            matrix_release(&matrix);
            free(x);
            free(all);
            free(some);
            free(bias);
        }
}

static void thread_count_does_not_change_a_product(void **state) {
    (void)state;
    enum { OUTPUTS = 333, COLUMNS = 700, RUNS = 4 };
    static const uint32_t row_counts[RUNS] = {1, 2, 50, 100};
    cento_error error;
    if (test_on_gpu())
        skip(); /* it has none; what differs there is `deterministic` */
    for (size_t i = 0; i < REFERENCE_ISAS; i++) {
        test_matrix matrix = matrix_random(TENSOR_F32, OUTPUTS, COLUMNS);
        float *x = random_floats((size_t)100 * COLUMNS), *first[RUNS] = {NULL};
        for (uint32_t threads = 1; threads <= 3; threads++) {
            backend *device = backend_for(reference_isas[i], CENTO_DTYPE_BF16, threads);
            if (device == NULL)
                break;
            backend_matrix *packed;
            ASSERT_OK(device->ops->matrix_create(device, &matrix.view, 1, false, &packed, &error));
            for (int run = 0; run < RUNS; run++) {
                uint32_t rows = row_counts[run];
                float *y = random_floats((size_t)rows * OUTPUTS);
                ASSERT_OK(device->ops->matmul(device, packed, x, rows, NULL, false, y, &error));
                if (first[run] == NULL) {
                    first[run] = y;
                } else {
                    assert_memory_equal(first[run], y, (size_t)rows * OUTPUTS * sizeof(float));
                    free(y);
                }
            }
            device->ops->matrix_free(device, packed);
            device->ops->destroy(device);
        }
        matrix_release(&matrix);
        free(x);
        for (int run = 0; run < RUNS; run++)
            free(first[run]);
    }
}

static void stacked_matrices_are_one_and_embeddings_are_its_rows(void **state) {
    (void)state;
    cento_error error;
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            backend *device = backend_for(reference_isas[i], (cento_dtype)dtype, 2);
            if (device == NULL)
                continue;
            test_matrix parts[3] = {matrix_random(TENSOR_F32, 40, 75), matrix_random(TENSOR_BF16, 9, 75),
                                    matrix_random(TENSOR_F16, 90, 75)};
            tensor_view views[3] = {parts[0].view, parts[1].view, parts[2].view};
            backend_matrix *packed;
            ASSERT_OK(device->ops->matrix_create(device, views, 3, true, &packed, &error));
            int32_t ids[139];
            for (int row = 0; row < 139; row++)
                ids[row] = (row * 50) % 139;
            float *x = random_floats(139 * 75);
            ASSERT_OK(device->ops->embed(device, packed, ids, 139, x, &error));
            assert_int_equal(device->ops->counters(device)->forward_tokens, 139);
            for (int row = 0; row < 139; row++) {
                int id = ids[row], part = id < 40 ? 0 : id < 49 ? 1 : 2;
                int first = part == 0 ? 0 : part == 1 ? 40 : 49;
                for (int k = 0; k < 75; k++) {
                    float expected = (float)parts[part].values[(id - first) * 75 + k];
                    if (dtype == CENTO_DTYPE_BF16)
                        expected = reference_bf16_round(expected);
                    assert_memory_equal(&x[row * 75 + k], &expected, sizeof expected);
                }
            }
            /* tied embeddings: the same matrix gives logits */
            float *y = random_floats(3 * 139), *input = random_floats(3 * 75);
            ASSERT_OK(device->ops->matmul(device, packed, input, 3, NULL, false, y, &error));
            bool round_x = rounds_activations(device, (cento_dtype)dtype);
            for (int row = 0; row < 139; row++) { /* x row j holds table row ids[j] */
                double sum = 0.0;
                for (int k = 0; k < 75; k++)
                    sum += (double)x[row * 75 + k] *
                           (round_x ? reference_bf16_round(input[75 + k]) : input[75 + k]);
                if (isfinite(sum) && fabs(sum) < 1e4)
                    assert_true(fabs(sum - y[139 + ids[row]]) < 1e-3 * (1.0 + fabs(sum)));
            }
            ids[5] = 139;
            ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "139",
                         device->ops->embed(device, packed, ids, 9, x, &error));
            ids[5] = -1;
            ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "-1", device->ops->embed(device, packed, ids, 9, x, &error));
            views[1].columns = 74;
            backend_matrix *refused;
            ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "74",
                         device->ops->matrix_create(device, views, 3, true, &refused, &error));
            device->ops->matrix_free(device, packed);
            device->ops->destroy(device);
            for (int part = 0; part < 3; part++)
                matrix_release(&parts[part]);
            free(x);
            free(y);
            free(input);
        }
}

static void random_matrices_have_the_variance_that_keeps_activations(void **state) {
    (void)state;
    cento_error error;
    backend *device = backend_for(NULL, CENTO_DTYPE_BF16, 2);
    tensor_view view = {.data = NULL, .dtype = TENSOR_BF16, .rows = 500, .columns = 300};
    backend_matrix *packed;
    ASSERT_OK(device->ops->matrix_create(device, &view, 1, true, &packed, &error));
    int32_t ids[500];
    for (int i = 0; i < 500; i++)
        ids[i] = i;
    float *x = random_floats(500 * 300);
    ASSERT_OK(device->ops->embed(device, packed, ids, 500, x, &error));
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < 500 * 300; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
    }
    assert_true(fabs(sum / 150000) < 0.001);
    assert_true(fabs(squares / 150000 * 300 - 1.0) < 0.02);
    device->ops->matrix_free(device, packed);
    device->ops->destroy(device);
    free(x);
}

static void norms_and_activations_match_f64(void **state) {
    (void)state;
    cento_error error;
    static const uint32_t widths[] = {1, 3, 8, 16, 33, 80, 256, 1027};
    for (size_t i = 0; i < REFERENCE_ISAS; i++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            backend *device = backend_for(reference_isas[i], CENTO_DTYPE_F32, 2);
            if (device == NULL)
                continue;
            uint32_t width = widths[w], rows = 37;
            float *x = random_floats((size_t)rows * 2 * width), *y = random_floats((size_t)rows * width);
            float *raw = random_floats(width), *weight;
            tensor_view view = {.data = raw, .dtype = TENSOR_F32, .rows = 1, .columns = width};
            ASSERT_OK(device->ops->vector_create(device, &view, 1, &weight, &error));
            double *expected = malloc(width * sizeof *expected);
            device->ops->rmsnorm(device, x, rows, width, weight, 1e-5f, y);
            for (uint32_t row = 0; row < rows; row++) {
                reference_rmsnorm(x + (size_t)row * width, width, raw, (double)1e-5f, expected);
                for (uint32_t k = 0; k < width; k++)
                    assert_true(fabs(y[(size_t)row * width + k] - expected[k]) <=
                                2e-6 * (1.0 + fabs(expected[k])));
            }
            /* gates over the whole range, the ends included */
            x[0] = 90.0f;
            x[2 * width] = -90.0f;
            x[4 * width] = -1e30f;
            x[6 * width] = 0.0f;
            device->ops->silu_mul(device, x, rows, width, y);
            for (uint32_t row = 0; row < rows; row++)
                for (uint32_t k = 0; k < width; k++) {
                    double gate = x[(size_t)row * 2 * width + k], up = x[((size_t)row * 2 + 1) * width + k];
                    double silu = gate / (1.0 + exp(-gate)) * up;
                    if (!(fabs(y[(size_t)row * width + k] - silu) <= 3e-6 * fabs(silu) + 1e-7))
                        fail_msg("%s: silu(%g)·%g = %g, expected %g", isa_label(reference_isas[i]), gate, up,
                                 (double)y[(size_t)row * width + k], silu);
                }
            uint32_t ids[] = {5, 0, 36, 5};
            device->ops->gather(device, x, width, ids, 4, y);
            for (int row = 0; row < 4; row++)
                assert_memory_equal(y + row * width, x + ids[row] * width, width * sizeof(float));
            device->ops->release(device, weight);
            device->ops->destroy(device);
            free(x);
            free(y);
            free(raw);
            free(expected);
        }
}

static void a_failed_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    cento_error error;
    if (test_on_gpu())
        skip(); /* counts the CPU's allocations */
    backend *device = backend_for(NULL, CENTO_DTYPE_BF16, 1);
    tensor_view view = {.data = NULL, .dtype = TENSOR_BF16, .rows = 50, .columns = 60};
    backend_matrix *matrix;
    for (int countdown = 0; countdown < 2; countdown++) {
        mem_fail_after(countdown);
        cento_status status = device->ops->matrix_create(device, &view, 1, false, &matrix, &error);
        mem_fail_after(-1);
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        kv_pool_shape shape = {.layers = 1, .kv_heads = 1, .head_dim = 16, .pages = 2, .page_tokens = 16};
        backend_kv_pool *pool;
        mem_fail_after(countdown);
        status = device->ops->kv_pool_create(device, &shape, &pool, &error);
        mem_fail_after(-1);
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
    }
    ASSERT_OK(device->ops->matrix_create(device, &view, 1, false, &matrix, &error));
    float x[7 * 60] = {0}, y[7 * 50];
    mem_fail_after(0);
    cento_status status = device->ops->matmul(device, matrix, x, 7, NULL, false, y, &error);
    mem_fail_after(-1);
    assert_int_equal(status, CENTO_OUT_OF_MEMORY);
    ASSERT_OK(device->ops->matmul(device, matrix, x, 7, NULL, false, y, &error));
    device->ops->matrix_free(device, matrix);
    device->ops->destroy(device);

    backend_options options = {.isa = "vax"};
    ASSERT_FAILS(CENTO_UNSUPPORTED, "portable", backend_cpu_create(&options, &device, &error));
    options = (backend_options){.threads = 100000};
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "100000", backend_cpu_create(&options, &device, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_f64),
        cmocka_unit_test(large_products_match_f64),
        cmocka_unit_test(a_row_does_not_depend_on_its_company),
        cmocka_unit_test(thread_count_does_not_change_a_product),
        cmocka_unit_test(stacked_matrices_are_one_and_embeddings_are_its_rows),
        cmocka_unit_test(random_matrices_have_the_variance_that_keeps_activations),
        cmocka_unit_test(norms_and_activations_match_f64),
        cmocka_unit_test(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    for (size_t i = 0; i < REFERENCE_ISAS && !test_on_gpu(); i++) {
        backend *device = backend_for(reference_isas[i], CENTO_DTYPE_BF16, 2);
        printf("%s: %s\n", isa_label(reference_isas[i]),
               device ? device->ops->describe(device) : "not on this CPU");
        if (device != NULL)
            device->ops->destroy(device);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

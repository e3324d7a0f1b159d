/* Promises about choosing a device by name, and about what a GPU says when it does not serve. */
#include "support.h"

#include <string.h>

#include "backend/backend.h"

static const backend_options options = {.compute_dtype = CENTO_DTYPE_F32, .threads = 1};

static void names_of_devices_are_checked(void **state) {
    (void)state;
    cento_error error;
    const char *known[] = {"auto", "cpu", "cuda", "cuda:0", "cuda:12"};
    const char *unknown[] = {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:1000", "cuda1"};
    backend *device = NULL;
    ASSERT_OK(backend_device_check(NULL, &error));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        ASSERT_OK(backend_device_check(known[i], &error));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        ASSERT_FAILS(CENTO_UNSUPPORTED, unknown[i], backend_device_check(unknown[i], &error));
        ASSERT_FAILS(CENTO_UNSUPPORTED, "cuda:N", backend_create(unknown[i], &options, &device, &error));
        assert_null(device);
    }
}

static void names_of_attention_are_checked_and_a_cpu_has_its_own_alone(void **state) {
    (void)state;
    cento_error error;
    backend *device = NULL;
    ASSERT_OK(backend_attention_check(NULL, &error));
    ASSERT_OK(backend_attention_check("auto", &error));
    ASSERT_FAILS(CENTO_UNSUPPORTED, "attention 'flash': expected", backend_attention_check("flash", &error));
    backend_options chosen = options;
    chosen.attention = "flashinfer";
    /* whether it is built in or not */
    ASSERT_FAILS(CENTO_UNSUPPORTED, "attention 'flashinfer'",
                 backend_create("cpu", &chosen, &device, &error));
    assert_null(device);
    chosen.attention = "auto";
    ASSERT_OK(backend_create("cpu", &chosen, &device, &error));
    device->ops->destroy(device);
}

static void the_device_is_the_one_named_and_auto_always_finds_one(void **state) {
    (void)state;
    cento_error error, why;
    backend *device = NULL;
    ASSERT_OK(backend_create("cpu", &options, &device, &error));
    assert_ptr_equal(strstr(device->ops->describe(device), "cpu "), device->ops->describe(device));
    assert_null(strchr(device->ops->describe(device), '('));
    device->ops->destroy(device);

    backend *gpu = NULL;
    cento_status status = backend_create("cuda", &options, &gpu, &why);
    ASSERT_OK(backend_create("auto", &options, &device, &error));
    const char *described = device->ops->describe(device);
    if (status == CENTO_OK) {
        assert_non_null(strstr(gpu->ops->describe(gpu), "cuda "));
        assert_non_null(strstr(described, "cuda "));
        gpu->ops->destroy(gpu);
    } else {
        assert_int_equal(status, CENTO_UNSUPPORTED);
        assert_null(gpu);
        assert_ptr_equal(strstr(why.message, "device 'cuda': "), why.message);
        assert_ptr_equal(strstr(described, "cpu "), described);
        /* a build with CUDA says why it is the CPU */
        const char *reason = why.message + strlen("device 'cuda': ");
        if (strstr(reason, "without CUDA") == NULL)
            assert_non_null(strstr(described, reason));
    }
    device->ops->destroy(device);
    device = NULL;
    ASSERT_FAILS(CENTO_UNSUPPORTED, "device 'cuda:200'",
                 backend_create("cuda:200", &options, &device, &error));
    assert_null(device);
}

static void a_gpu_that_is_out_of_memory_says_what_was_asked_for_and_what_is_free(void **state) {
    (void)state;
    cento_error error;
    backend *device = NULL;
    if (backend_create("cuda", &options, &device, &error) != CENTO_OK) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    const kv_pool_shape shape = {
        .layers = 100, .kv_heads = 64, .head_dim = 128, .pages = 100000, .page_tokens = 64};
    backend_kv_pool *pool = NULL;
    assert_true(device->ops->kv_pool_bytes(device, &shape) > device->ops->memory_budget(device));
    ASSERT_FAILS(CENTO_OUT_OF_MEMORY, "wanted for the KV pool",
                 device->ops->kv_pool_create(device, &shape, &pool, &error));
    assert_non_null(strstr(error.message, "MB free"));
    assert_null(pool);
    /* and goes on */
    float values[3] = {1, 2, 3}, back[3] = {0};
    float *memory = device->ops->alloc(device, 3);
    assert_non_null(memory);
    ASSERT_OK(device->ops->write(device, memory, 3, values, &error));
    ASSERT_OK(device->ops->read(device, memory, 3, back, &error));
    assert_memory_equal(values, back, sizeof values);
    device->ops->release(device, memory);
    assert_null(device->ops->alloc(device, (size_t)1 << 50));
    ASSERT_FAILS(CENTO_OUT_OF_MEMORY, "wanted for activations",
                 device->ops->read(device, values, 0, back, &error));
    ASSERT_OK(device->ops->read(device, values, 0, back, &error)); /* said once */
    device->ops->destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_devices_are_checked),
        cmocka_unit_test(names_of_attention_are_checked_and_a_cpu_has_its_own_alone),
        cmocka_unit_test(the_device_is_the_one_named_and_auto_always_finds_one),
        cmocka_unit_test(a_gpu_that_is_out_of_memory_says_what_was_asked_for_and_what_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * safetensors files, one damage at a time: what is wrong is found before a tensor can be used, and the
 * message says file, tensor, place, found and expected. Well-formed files are made by hand here from the
 * format's specification; those written by the reference implementation are read in test_decoder_reference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/safetensors.h"
#include "support.h"

/* Length, header and `data_bytes` bytes 0, 1, 2, …; an exact allocation, so that ASan sees every byte read
 * beyond it. */
static uint8_t *make_file(const char *header, size_t data_bytes, size_t *bytes) {
    size_t header_bytes = strlen(header);
    *bytes = 8 + header_bytes + data_bytes;
    uint8_t *file = malloc(*bytes);
    for (size_t i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)header_bytes >> (8 * i));
    memcpy(file + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + header_bytes + i] = (uint8_t)i;
    return file;
}

static cento_status open_header(const char *header, size_t data_bytes, cento_error *error) {
    size_t bytes;
    uint8_t *file = make_file(header, data_bytes, &bytes);
    safetensors *tensors = NULL;
    cento_status status = safetensors_open_bytes("m.safetensors", file, bytes, &tensors, error);
    safetensors_close(tensors);
    free(file);
    return status;
}

static void a_well_formed_file_is_read(void **state) {
    (void)state;
    /* out of order, an empty tensor, a scalar, metadata, padding, data at an odd address, an unusable dtype
     */
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]},"
                         "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                         "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[12,12]},"
                         "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]}}  ";
    cento_error error = {0};
    size_t bytes;
    uint8_t *file = make_file(header, 28, &bytes);
    safetensors *tensors = NULL;
    ASSERT_OK(safetensors_open_bytes("m.safetensors", file, bytes, &tensors, &error));
    assert_int_equal(safetensors_count(tensors), 4);
    const safetensor *a = safetensors_find(tensors, "a");
    assert_string_equal(a->dtype, "BF16");
    assert_true(a->rank == 2 && a->shape[0] == 2 && a->shape[1] == 3 && a->bytes == 12);
    assert_true(a->data[0] == 0 && a->data[11] == 11);
    const safetensor *b = safetensors_find(tensors, "b");
    assert_true(b->data[0] == 12 && b->bytes == 8 && b->offset == 8 + strlen(header) + 12);
    assert_true(safetensors_find(tensors, "scalar")->rank == 0);
    assert_true(safetensors_find(tensors, "empty")->bytes == 0);
    assert_null(safetensors_find(tensors, "c"));
    assert_null(safetensors_find(tensors, "__metadata__"));
    safetensors_close(tensors);
    free(file);
    assert_int_equal(open_header("{}", 0, &error), CENTO_OK);
}

static void damaged_headers_are_refused_with_place_and_expectation(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *message;
    } cases[] = {
        /* not JSON, or not of the form */
        {"", 0, "the header at byte 8 must begin with '{'"},
        {" {}", 0, "the header at byte 8 must begin with '{'"},
        {"[]", 0, "the header at byte 8 must begin with '{'"},
        {"{", 0, "line 1, column 1"},
        {"{} x", 0, "line 1, column 4"},
        {"{\"a\":\"\xff\"}", 0, "line 1"},
        {"{\"a\":5}", 0, "tensor 'a' must be an object, found an integer"},
        {"{\"__metadata__\":[]}", 0, "'__metadata__' must be an object, found an array"},
        {"{\"__metadata__\":{\"format\":1}}", 0,
         "'__metadata__'.'format' must be a string, found an integer"},
        /* dtype and shape */
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor 'a': 'dtype' is nothing"},
        {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor 'a': 'dtype' is f32"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4,
         "tensor 'a': 'shape' must be an array of at most 8 sizes, found an integer"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "'shape' must be an array of at most 8 sizes, found an array of 9"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
         "tensor 'a': 'shape'[0] must be a size of 0 or more"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4,
         "'shape'[0] must be a size of 0 or more, found a number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4,
         "shape [4294967296, 4294967296] has more elements than 64 bits can count"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4]}}", 4,
         "has more elements than 64 bits can count"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2,
         "shape [3] of F4 does not end at a whole byte"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
         "tensor 'a' has 8 bytes, its shape [3] of F32 implies 12"},
        /* offsets */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'data_offsets' must be an array of two sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4,
         "'data_offsets' must be an array of two sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
         "'data_offsets' must be an array of two sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,1e2]}}", 4,
         "'data_offsets' must be an array of two sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}", 8,
         "'data_offsets' are [8, 4], expected begin <= end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7,
         "tensor 'a' lies at bytes 0 to 8 of the data, the file holds 7 (truncated?)"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9223372036854775799,9223372036854775807]}"
         "}",
         8, "the file holds 8"},
        /* layout */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         12, "tensor 'b' begins at byte 4 of the data, inside of tensor 'a', which ends at 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         8, "tensor 'b' begins at byte 0 of the data, inside of tensor 'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         12, "tensor 'b' begins at byte 8 of the data, expected 4: bytes between belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
         "tensor 'a' begins at byte 4 of the data, expected 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 9,
         "bytes at its end belong to no tensor"},
        /* names */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, "duplicate object key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cento_error error = {0};
        ASSERT_FAILS(CENTO_INVALID_MODEL, cases[i].message,
                     open_header(cases[i].header, cases[i].data_bytes, &error));
        assert_int_equal(strncmp(error.message, "m.safetensors: ", 15), 0);
    }
}

static void truncated_and_oversized_lengths_are_refused(void **state) {
    (void)state;
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    size_t bytes;
    uint8_t *file = make_file(header, 8, &bytes);
    safetensors *tensors = NULL;
    cento_error error = {0};
    ASSERT_OK(safetensors_open_bytes("m.safetensors", file, bytes, &tensors, &error));
    safetensors_close(tensors);
    /* every shorter file is refused */
    for (size_t cut = 0; cut < bytes; cut++) {
        uint8_t *shorter = malloc(cut == 0 ? 1 : cut);
        memcpy(shorter, file, cut);
        tensors = NULL;
        ASSERT_FAILS(CENTO_INVALID_MODEL, "m.safetensors: ",
                     safetensors_open_bytes("m.safetensors", shorter, cut, &tensors, &error));
        assert_null(tensors);
        free(shorter);
    }
    ASSERT_FAILS(CENTO_INVALID_MODEL, "the file has 7 bytes, expected at least 8",
                 safetensors_open_bytes("m.safetensors", file, 7, &tensors, &error));
    memset(file, 0xFF, 8);
    ASSERT_FAILS(CENTO_INVALID_MODEL,
                 "the header's length at byte 0 is 18446744073709551615, expected at most",
                 safetensors_open_bytes("m.safetensors", file, bytes, &tensors, &error));
    memset(file, 0, 8);
    file[1] = 16;
    ASSERT_FAILS(CENTO_INVALID_MODEL, "the header's length at byte 0 is 4096, but only",
                 safetensors_open_bytes("m.safetensors", file, bytes, &tensors, &error));
    free(file);
}

/* ------------------------------------------------------------------ sharded folders ------ */

static const char *put(const char *folder, const char *name, const void *data, size_t bytes) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    write_file(path, data, bytes);
    return path;
}

static void put_shard(const char *folder, const char *name, const char *tensor) {
    char header[256];
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
             tensor);
    size_t bytes;
    uint8_t *file = make_file(header, 4, &bytes);
    put(folder, name, file, bytes);
    free(file);
}

static cento_status open_index(const char *index, cento_error *error) {
    const char *folder = temporary_folder();
    put_shard(folder, "one.safetensors", "a");
    put_shard(folder, "two.safetensors", "b");
    put_shard(folder, "again.safetensors", "a");
    put(folder, "model.safetensors.index.json", index, strlen(index));
    safetensors *tensors = NULL;
    cento_status status = safetensors_open(folder, &tensors, error);
    if (status == CENTO_OK) {
        assert_int_equal(safetensors_count(tensors), safetensors_file_count(tensors));
        assert_non_null(safetensors_find(tensors, "a"));
    }
    safetensors_close(tensors);
    return status;
}

static void an_index_is_checked_against_its_files(void **state) {
    (void)state;
    cento_error error = {0};
    ASSERT_OK(
        open_index("{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"two.safetensors\"}}", &error));
    static const struct {
        const char *index, *message;
        cento_status status;
    } cases[] = {
        {"{\"weight_map\": {\"a\": \"one.safetensors\", \"c\": \"two.safetensors\"}}",
         "tensor 'c' is not in file 'two.safetensors' (found: nowhere)", CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"two.safetensors\", \"b\": \"one.safetensors\"}}",
         "tensor 'a' is not in file 'two.safetensors' (found: one.safetensors)", CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"three.safetensors\"}}",
         "tensor 'b' is in file 'three.safetensors', which is not there", CENTO_NOT_FOUND},
        {"{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"again.safetensors\"}}",
         "tensor 'a' is also in one.safetensors", CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"../one.safetensors\"}}",
         "tensor 'a' is in file '../one.safetensors', expected the name of a .safetensors file beside the "
         "index",
         CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "expected the name of a .safetensors file",
         CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"..\"}}", "expected the name of a .safetensors file",
         CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \".safetensors\"}}", "expected the name of a .safetensors file",
         CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"\"}}", "expected the name of a .safetensors file", CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"one\\u0000.safetensors\"}}", "expected the name of a .safetensors file",
         CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": \"o\\nne.safetensors\"}}", "expected the name of a .safetensors file",
         CENTO_INVALID_MODEL},
        {"{\"weight_map\": {\"a\": 1}}", "is in file 'an integer'", CENTO_INVALID_MODEL},
        {"{\"weight_map\": {}}", "'weight_map' must be an object", CENTO_INVALID_MODEL},
        {"{}", "'weight_map' must be an object of tensor names and their files, found nothing",
         CENTO_INVALID_MODEL},
        {"[]", "'weight_map' must be an object", CENTO_INVALID_MODEL},
        {"", "model.safetensors.index.json: line 1", CENTO_INVALID_MODEL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ASSERT_FAILS(cases[i].status, cases[i].message, open_index(cases[i].index, &error));
}

static void a_folder_without_weights_is_not_found(void **state) {
    (void)state;
    cento_error error = {0};
    safetensors *tensors = NULL;
    ASSERT_FAILS(CENTO_NOT_FOUND, "neither model.safetensors nor model.safetensors.index.json is there",
                 safetensors_open("/nonexistent", &tensors, &error));
}

static void a_failing_allocation_at_any_place_leaks_nothing(void **state) {
    (void)state;
    cento_error error = {0};
    const char *folder = source_path("tests/vectors/models/llama-f32-sharded");
    int64_t failures = 0;
    for (;; failures++) {
        safetensors *tensors = NULL;
        mem_fail_after(failures);
        cento_status status = safetensors_open(folder, &tensors, &error);
        mem_fail_after(-1);
        if (status == CENTO_OK) {
            safetensors_close(tensors);
            break;
        }
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_null(tensors);
    }
    assert_true(failures > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_well_formed_file_is_read),
        cmocka_unit_test(damaged_headers_are_refused_with_place_and_expectation),
        cmocka_unit_test(truncated_and_oversized_lengths_are_refused),
        cmocka_unit_test(an_index_is_checked_against_its_files),
        cmocka_unit_test(a_folder_without_weights_is_not_found),
        cmocka_unit_test(a_failing_allocation_at_any_place_leaks_nothing),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}

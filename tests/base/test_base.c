/* Promises of src/base: UTF-8, SHA-256, maps, JSON, files. Expected values: RFC 3629, FIPS 180-4. */
#include "support.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/strmap.h"
#include "base/utf8.h"

static void utf8_round_trips_every_code_point(void **state) {
    (void)state;
    for (uint32_t codepoint = 0; codepoint <= 0x10FFFF; codepoint++) {
        if (codepoint == 0xD800)
            codepoint = 0xE000;
        char encoded[4];
        uint32_t decoded;
        size_t bytes = utf8_encode(codepoint, encoded);
        assert_int_equal(utf8_decode(encoded, bytes, &decoded), bytes);
        assert_int_equal(decoded, codepoint);
        assert_int_equal(utf8_decode(encoded, bytes - 1, &decoded), 0);
    }
}

static void utf8_refuses_overlong_forms_surrogates_and_what_lies_above(void **state) {
    (void)state;
    static const char *const invalid[] = {
        "\xC0\x80",         "\xC1\xBF",         "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80",         "\xFF",         "\xE2\x82"};
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        assert_int_equal(utf8_invalid_offset(invalid[i], strlen(invalid[i])), 0);
}

static void utf8_streaming_never_cuts_a_character(void **state) {
    (void)state;
    const char *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
    static const size_t complete[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
    for (size_t bytes = 0; bytes <= 10; bytes++)
        assert_int_equal(utf8_complete_prefix(text, bytes), complete[bytes]);
    assert_int_equal(utf8_complete_prefix("a\xFF", 2), 2);
}

static void sha256_gives_the_published_digests(void **state) {
    (void)state;
    cento_error error;
    sha256 hash;
    uint8_t digest[SHA256_BYTES], parsed[SHA256_BYTES];
    char hex[65];
    sha256_init(&hash);
    sha256_update(&hash, "abc", 3);
    ASSERT_OK(sha256_final(&hash, digest, &error));
    sha256_hex(digest, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(sha256_parse(hex, parsed));
    assert_memory_equal(parsed, digest, SHA256_BYTES);
    hex[5] = 'x';
    assert_false(sha256_parse(hex, parsed));
}

static void a_strmap_finds_what_was_set_and_nothing_else(void **state) {
    (void)state;
    cento_error error;
    static char keys[5000][8];
    strmap map = {0};
    for (uint32_t i = 0; i < 5000; i++) {
        int bytes = snprintf(keys[i], sizeof keys[i], "k%u", i);
        ASSERT_OK(strmap_set(&map, keys[i], (size_t)bytes, i, &error));
    }
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(strmap_get(&map, keys[i], strlen(keys[i])), i);
    assert_int_equal(strmap_get(&map, "k5000", 5), STRMAP_MISSING);
    assert_int_equal(strmap_get(&map, "", 0), STRMAP_MISSING);
    assert_int_equal(map.count, 5000);
    strmap_free(&map);
}

static void json_errors_name_the_place_and_what_was_expected(void **state) {
    (void)state;
    cento_error error;
    json_t *root;
    ASSERT_FAILS(CENTO_INVALID_MODEL, "c.json: line 2", json_read_bytes("c.json", "{\n]", 3, &root, &error));
    const char *text = "{\"layers\": -1, \"name\": 3}";
    ASSERT_OK(json_read_bytes("c.json", text, strlen(text), &root, &error));
    uint32_t layers = 0;
    const char *name = NULL;
    ASSERT_FAILS(CENTO_INVALID_MODEL, "c.json: 'layers' is -1, expected 1 to 9",
                 json_get_u32(root, "c.json", "layers", 1, 9, &layers, &error));
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'name' must be a string, found an integer",
                 json_get_string(root, "c.json", "name", &name, &error));
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'heads' is missing",
                 json_get_u32_required(root, "c.json", "heads", 1, 9, &layers, &error));
    json_decref(root);
}

static void a_file_is_written_whole_or_not_at_all(void **state) {
    (void)state;
    cento_error error;
    char *path = path_join(temporary_folder(), "file");
    ASSERT_OK(file_write(path, "one", 3, &error));
    file_map map;
    ASSERT_OK(file_map_open(path, &map, &error));
    assert_int_equal(map.bytes, 3);
    assert_memory_equal(map.data, "one", 3);
    file_map_close(&map);
    strbuf contents = {0};
    ASSERT_FAILS(CENTO_IO, "larger than 2 bytes", file_read(path, 2, &contents, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, "/nowhere/at-all", file_read("/nowhere/at-all", 2, &contents, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, "/nowhere/at-all", file_write("/nowhere/at-all", "x", 1, &error));
    strbuf_free(&contents);
    mem_free(path);
}

static void a_failed_allocation_is_reported_and_loses_nothing(void **state) {
    (void)state;
    cento_error error;
    strbuf buffer = {0};
    strbuf_puts(&buffer, "kept");
    mem_fail_after(0);
    for (int i = 0; i < 100; i++)
        strbuf_puts(&buffer, "this cannot be appended");
    mem_fail_after(-1);
    ASSERT_FAILS(CENTO_OUT_OF_MEMORY, "could not allocate", strbuf_check(&buffer, &error));
    assert_memory_equal(buffer.data, "kept", 4);
    strbuf_free(&buffer);
    assert_null(mem_alloc(SIZE_MAX / 2, 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_round_trips_every_code_point),
        cmocka_unit_test(utf8_refuses_overlong_forms_surrogates_and_what_lies_above),
        cmocka_unit_test(utf8_streaming_never_cuts_a_character),
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(a_strmap_finds_what_was_set_and_nothing_else),
        cmocka_unit_test(json_errors_name_the_place_and_what_was_expected),
        cmocka_unit_test(a_file_is_written_whole_or_not_at_all),
        cmocka_unit_test(a_failed_allocation_is_reported_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

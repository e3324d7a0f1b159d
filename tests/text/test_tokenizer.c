/* Tokenizers against Hugging Face: ids and decoded text for trained tokenizers of each kind. The vectors and
 * their format are made and described by tools/make_tokenizer_vectors.py. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/tokenizer.h"

static cento_error error;

/* ------------------------------------------------------------------ vectors ---------------- */

static int base64_value(char character) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = character == '\0' ? NULL : strchr(alphabet, character);
    return found == NULL ? -1 : (int)(found - alphabet);
}

static void decode_base64(const char *text, size_t length, strbuf *bytes) {
    uint32_t bits = 0;
    unsigned int count = 0;
    strbuf_clear(bytes);
    strbuf_append(bytes, "", 0);
    for (size_t i = 0; i < length && base64_value(text[i]) >= 0; i++) {
        bits = bits << 6 | (uint32_t)base64_value(text[i]);
        count += 6;
        if (count >= 8) {
            count -= 8;
            strbuf_putc(bytes, (char)(bits >> count & 0xFF));
        }
    }
}

typedef struct lines {
    strbuf text;
    size_t at;
} lines;

static lines open_lines(const char *path) {
    lines file = {0};
    ASSERT_OK(file_read(path, 16u << 20, &file.text, &error));
    return file;
}

static bool next_line(lines *file, const char **line, size_t *length) {
    if (file->at >= file->text.bytes)
        return false;
    *line = file->text.data + file->at;
    const char *end = strchr(*line, '\n');
    *length = (size_t)(end - *line);
    file->at += *length + 1;
    return true;
}

static size_t next_column(const char **line, size_t *left, const char **column) {
    const char *tab = memchr(*line, '\t', *left);
    size_t length = tab == NULL ? *left : (size_t)(tab - *line);
    *column = *line;
    size_t step = tab == NULL ? *left : length + 1;
    *line += step;
    *left -= step;
    return length;
}

static void decode_ids(const char *column, size_t length, token_vec *ids) {
    ids->count = 0;
    for (size_t i = 0; i + 1 < length; i += 2)
        ASSERT_OK(token_vec_push(ids, base64_value(column[i]) << 6 | base64_value(column[i + 1]), &error));
}

static void print_ids(const char *label, const token_vec *ids) {
    printf("%s:", label);
    for (size_t i = 0; i < ids->count; i++)
        printf(" %d", ids->ids[i]);
    printf("\n");
}

static void assert_same_ids(const char *kind, size_t line, const strbuf *text, const token_vec *expected,
                            const token_vec *found) {
    if (expected->count == found->count &&
        (found->count == 0 || memcmp(expected->ids, found->ids, found->count * sizeof *found->ids) == 0))
        return;
    print_ids("expected", expected);
    print_ids("found", found);
    fail_msg("%s, string %zu: other ids for '%s'", kind, line + 1, text->data);
}

/* Decodes in one go and token by token: both must be the same text, and no part may cut a character. */
static void decode_both_ways(const tokenizer *tokens, const token_vec *ids, bool skip_special, strbuf *text) {
    strbuf streamed = {0};
    strbuf_clear(text);
    ASSERT_OK(tokenizer_decode(tokens, ids->ids, ids->count, skip_special, text, &error));
    detokenizer stream;
    detokenizer_init(&stream, tokens, skip_special);
    size_t begin = 0;
    for (size_t i = 0; i <= ids->count; i++) {
        if (i < ids->count)
            ASSERT_OK(detokenizer_push(&stream, ids->ids[i], &streamed, &error));
        else
            ASSERT_OK(detokenizer_finish(&stream, &streamed, &error));
        for (size_t at = begin; at < streamed.bytes; at++)
            if (at == begin)
                assert_true(((unsigned char)streamed.data[at] & 0xC0) != 0x80);
        begin = streamed.bytes;
    }
    assert_int_equal(streamed.bytes, text->bytes);
    if (text->bytes > 0)
        assert_memory_equal(streamed.data, text->data, text->bytes);
    strbuf_free(&streamed);
}

static void assert_same_text(const char *kind, size_t line, const strbuf *expected, const strbuf *found) {
    if (expected->bytes != found->bytes ||
        (found->bytes > 0 && memcmp(expected->data, found->data, found->bytes) != 0))
        fail_msg("%s, string %zu: decoded to '%s', expected '%s'", kind, line + 1,
                 found->data == NULL ? "" : found->data, expected->data);
}

static size_t compare_all(const char *kind, const char *tokenizer_path) {
    char path[256];
    tokenizer *tokens = NULL;
    ASSERT_OK(tokenizer_open_json(tokenizer_path, NULL, &tokens, &error));
    lines strings = open_lines(source_path("tests/vectors/tokenizer/strings.txt"));
    snprintf(path, sizeof path, "tests/vectors/tokenizer/%s/expected.txt", kind);
    lines expected = open_lines(source_path(path));
    strbuf text = {0}, want = {0}, got = {0};
    token_vec ids = {0}, found = {0};
    const char *line = "", *row = "", *column = "";
    size_t length = 0, left = 0, count = 0;
    for (; next_line(&expected, &row, &left); count++) {
        assert_true(next_line(&strings, &line, &length));
        decode_base64(line, length, &text);
        decode_ids(column, 0, &ids);
        length = next_column(&row, &left, &column);
        decode_ids(column, length, &ids);
        found.count = 0;
        ASSERT_OK(tokenizer_encode(tokens, text.data, text.bytes, true, true, &found, &error));
        assert_same_ids(kind, count, &text, &ids, &found);

        length = next_column(&row, &left, &column);
        decode_both_ways(tokens, &ids, true, &got);
        if (length == 1 && *column == '=')
            assert_same_text(kind, count, &text, &got);
        else if (length != 1 || *column != '-') {
            decode_base64(column, length, &want);
            assert_same_text(kind, count, &want, &got);
        }

        found.count = 0;
        ASSERT_OK(tokenizer_encode(tokens, text.data, text.bytes, false, false, &found, &error));
        token_vec bare = {0};
        length = next_column(&row, &left, &column);
        if (length == 1 && *column == '=')
            ASSERT_OK(tokenizer_encode(tokens, text.data, text.bytes, false, true, &bare, &error));
        else
            decode_ids(column, length, &bare);
        assert_same_ids(kind, count, &text, &bare, &found);
        token_vec_free(&bare);

        length = next_column(&row, &left, &column);
        decode_both_ways(tokens, &ids, false, &got);
        if (length > 0) {
            decode_base64(column, length, &want);
            assert_same_text(kind, count, &want, &got);
        }
    }
    strbuf_free(&text);
    strbuf_free(&want);
    strbuf_free(&got);
    strbuf_free(&strings.text);
    strbuf_free(&expected.text);
    token_vec_free(&ids);
    token_vec_free(&found);
    tokenizer_close(tokens);
    return count;
}

static void ids_and_text_equal_hugging_face_for(const char *kind, size_t strings_min) {
    char path[256];
    snprintf(path, sizeof path, "tests/vectors/tokenizer/%s/tokenizer.json", kind);
    size_t compared = compare_all(kind, source_path(path));
    if (compared < strings_min)
        fail_msg("%s: %zu strings compared, expected %zu", kind, compared, strings_min);
}

#define KIND_TEST(name, kind, strings_min)                                                                   \
    static void name##_equals_hugging_face(void **state) {                                                   \
        (void)state;                                                                                         \
        ids_and_text_equal_hugging_face_for(kind, strings_min);                                              \
    }
KIND_TEST(gpt2, "gpt2", 2000)
KIND_TEST(gpt2_prefix, "gpt2-prefix", 480)
KIND_TEST(llama3, "llama3", 2000)
KIND_TEST(qwen2, "qwen2", 2000)
KIND_TEST(gpt4o, "gpt4o", 480)
KIND_TEST(deepseek_llm, "deepseek-llm", 2000)
KIND_TEST(deepseek_v3, "deepseek-v3", 2000)
KIND_TEST(llama2, "llama2", 2000)
KIND_TEST(mistral, "mistral", 2000)
KIND_TEST(gemma, "gemma", 480)
KIND_TEST(plain_words, "plain-words", 480)
KIND_TEST(metaspace_words, "metaspace-words", 480)
KIND_TEST(odd_splits, "odd-splits", 480)
KIND_TEST(whitespace, "whitespace", 480)

static void the_default_model_equals_hugging_face(void **state) {
    (void)state;
    if (!file_exists(source_path("tests/vectors/tokenizer/cento-tiny/expected.txt"))) {
        printf("skipped: no vectors for cento-tiny\n");
        skip();
    }
    assert_true(compare_all("cento-tiny", source_path("models/cento-tiny/tokenizer.json")) >= 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_equals_hugging_face),
        cmocka_unit_test(gpt2_prefix_equals_hugging_face),
        cmocka_unit_test(llama3_equals_hugging_face),
        cmocka_unit_test(qwen2_equals_hugging_face),
        cmocka_unit_test(gpt4o_equals_hugging_face),
        cmocka_unit_test(deepseek_llm_equals_hugging_face),
        cmocka_unit_test(deepseek_v3_equals_hugging_face),
        cmocka_unit_test(llama2_equals_hugging_face),
        cmocka_unit_test(mistral_equals_hugging_face),
        cmocka_unit_test(gemma_equals_hugging_face),
        cmocka_unit_test(plain_words_equals_hugging_face),
        cmocka_unit_test(metaspace_words_equals_hugging_face),
        cmocka_unit_test(odd_splits_equals_hugging_face),
        cmocka_unit_test(whitespace_equals_hugging_face),
        cmocka_unit_test(the_default_model_equals_hugging_face),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* GGUF: tokenizers of real models against the ids that llama.cpp's test data expects, and the reader on good
 * and broken files. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

static cento_error error;

/* ------------------------------------------------------------------ real vocabularies ------ */

static const char separator[] = "\n__ggml_vocab_test__\n";

static void assert_ids_of_line(const char *name, size_t line, const char *expected, size_t bytes,
                               const int32_t *ids, size_t count) {
    strbuf found = {0};
    for (size_t i = 0; i < count; i++)
        strbuf_printf(&found, " %d", ids[i]);
    strbuf_append(&found, "", 0);
    /* both " 1 2" with spaces at the ends as the file has them */
    while (bytes > 0 && expected[bytes - 1] == ' ')
        bytes--;
    if (found.bytes != bytes || memcmp(found.data, expected, bytes) != 0)
        fail_msg("%s, case %zu: found '%s', expected '%.*s'", name, line, found.data, (int)bytes, expected);
    strbuf_free(&found);
}

static void ids_equal_expected_for(const char *name) {
    char relative[128];
    snprintf(relative, sizeof relative, "vocab/ggml-vocab-%s.gguf", name);
    const char *path = shared_data_path(relative);
    if (path == NULL)
        skip();
    char *model_path = mem_strdup(path);
    cento_tokenizer *handle = NULL;
    ASSERT_OK(cento_tokenizer_open(model_path, &handle, &error));
    strbuf input = {0}, output = {0}, file_name = {0};
    strbuf_printf(&file_name, "%s.inp", model_path);
    ASSERT_OK(file_read(file_name.data, 1 << 20, &input, &error));
    strbuf_clear(&file_name);
    strbuf_printf(&file_name, "%s.out", model_path);
    ASSERT_OK(file_read(file_name.data, 1 << 20, &output, &error));
    const char *text = input.data, *line = output.data;
    size_t cases = 0;
    for (;; cases++) {
        const char *text_end = strstr(text, separator);
        const char *line_end = strchr(line, '\n');
        size_t bytes = text_end == NULL ? strlen(text) : (size_t)(text_end - text);
        if (line_end == NULL)
            break;
        int32_t *ids;
        size_t count;
        ASSERT_OK(cento_tokenize(handle, text, bytes, false, false, &ids, &count, &error));
        assert_ids_of_line(name, cases, line, (size_t)(line_end - line), ids, count);
        char *decoded;
        size_t decoded_bytes;
        ASSERT_OK(cento_detokenize(handle, ids, count, false, &decoded, &decoded_bytes, &error));
        assert_int_equal(decoded_bytes, bytes);
        assert_memory_equal(decoded, text, bytes);
        cento_free(decoded);
        cento_free(ids);
        line = line_end + 1;
        if (text_end == NULL)
            break;
        text = text_end + strlen(separator);
    }
    printf("%s: %zu cases\n", name, cases);
    assert_true(cases >= 40);
    strbuf_free(&input);
    strbuf_free(&output);
    strbuf_free(&file_name);
    cento_tokenizer_close(handle);
    mem_free(model_path);
}

static void gpt2_vocabulary_gives_the_expected_ids(void **state) {
    (void)state;
    ids_equal_expected_for("gpt-2");
}

static void deepseek_coder_vocabulary_gives_the_expected_ids(void **state) {
    (void)state;
    ids_equal_expected_for("deepseek-coder");
}

static void llama_vocabulary_gives_the_expected_ids(void **state) {
    (void)state;
    ids_equal_expected_for("llama-spm");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_vocabulary_gives_the_expected_ids),
        cmocka_unit_test(deepseek_coder_vocabulary_gives_the_expected_ids),
        cmocka_unit_test(llama_vocabulary_gives_the_expected_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

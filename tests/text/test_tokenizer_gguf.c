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

/* ------------------------------------------------------------------ made files ------------- */

/* Writes GGUF files piece by piece, also wrong ones. */
static void put_u32(strbuf *file, uint32_t value) {
    for (int i = 0; i < 4; i++)
        strbuf_putc(file, (char)(value >> (8 * i)));
}

static void put_u64(strbuf *file, uint64_t value) {
    put_u32(file, (uint32_t)value);
    put_u32(file, (uint32_t)(value >> 32));
}

static void put_string(strbuf *file, const char *text) {
    put_u64(file, strlen(text));
    strbuf_puts(file, text);
}

static void put_header(strbuf *file, uint32_t version, uint64_t tensors, uint64_t values) {
    strbuf_clear(file);
    strbuf_puts(file, "GGUF");
    put_u32(file, version);
    put_u64(file, tensors);
    put_u64(file, values);
}

static void put_key(strbuf *file, const char *key, uint32_t type) {
    put_string(file, key);
    put_u32(file, type);
}

static void put_strings(strbuf *file, const char *key, const char *const *texts, size_t count) {
    put_key(file, key, GGUF_ARRAY);
    put_u32(file, GGUF_STRING);
    put_u64(file, count);
    for (size_t i = 0; i < count; i++)
        put_string(file, texts[i]);
}

static void put_f32s(strbuf *file, const char *key, const float *numbers, size_t count) {
    put_key(file, key, GGUF_ARRAY);
    put_u32(file, GGUF_F32);
    put_u64(file, count);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &numbers[i], 4);
        put_u32(file, bits);
    }
}

static void put_i32s(strbuf *file, const char *key, const int32_t *numbers, size_t count) {
    put_key(file, key, GGUF_ARRAY);
    put_u32(file, GGUF_I32);
    put_u64(file, count);
    for (size_t i = 0; i < count; i++)
        put_u32(file, (uint32_t)numbers[i]);
}

static void put_tensor(strbuf *file, const char *name, uint64_t columns, uint64_t rows, uint32_t type,
                       uint64_t offset) {
    put_string(file, name);
    put_u32(file, 2);
    put_u64(file, columns);
    put_u64(file, rows);
    put_u32(file, type);
    put_u64(file, offset);
}

static void pad_to(strbuf *file, size_t alignment) {
    while (file->bytes % alignment != 0)
        strbuf_putc(file, '\0');
}

static cento_status open_file(const strbuf *file, gguf_file *opened) {
    /* exactly so many bytes, so that ASan sees a read behind them */
    uint8_t *exact = malloc(file->bytes + 1);
    memcpy(exact, file->data, file->bytes);
    cento_status status = gguf_open_bytes("t.gguf", exact, file->bytes, opened, &error);
    if (status == CENTO_OK)
        gguf_close(opened);
    free(exact);
    return status;
}

static void values_and_tensors_are_read_as_the_format_says(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        strbuf file = {0};
        put_header(&file, version, 2, 6);
        put_key(&file, "general.alignment", GGUF_U32);
        put_u32(&file, 64);
        put_key(&file, "a.string", GGUF_STRING);
        put_string(&file, "text");
        put_key(&file, "a.bool", GGUF_BOOL);
        strbuf_putc(&file, 1);
        put_key(&file, "an.i16", GGUF_I16);
        strbuf_append(&file, "\xfe\xff", 2);
        put_key(&file, "nested", GGUF_ARRAY);
        put_u32(&file, GGUF_ARRAY);
        put_u64(&file, 2);
        for (int i = 0; i < 2; i++) {
            put_u32(&file, GGUF_U8);
            put_u64(&file, 1);
            strbuf_putc(&file, 7);
        }
        put_key(&file, "big", GGUF_U64);
        put_u64(&file, UINT64_MAX);
        put_tensor(&file, "first", 32, 3, 8, 0);    /* Q8_0: 3 blocks of 34 bytes */
        put_tensor(&file, "second", 5, 2, 30, 128); /* BF16 */
        pad_to(&file, 64);
        size_t data = file.bytes;
        for (size_t i = 0; i < 148; i++)
            strbuf_putc(&file, 'x');

        gguf_file opened;
        ASSERT_OK(gguf_open_bytes("t.gguf", file.data, file.bytes, &opened, &error));
        assert_int_equal(opened.version, version);
        assert_int_equal(opened.alignment, 64);
        char *text = NULL;
        ASSERT_OK(gguf_get_string(&opened, "a.string", &text, &error));
        assert_string_equal(text, "text");
        mem_free(text);
        bool flag = false;
        ASSERT_OK(gguf_get_bool(&opened, "a.bool", &flag, &error));
        assert_true(flag);
        int64_t integer = 5;
        ASSERT_OK(gguf_get_integer(&opened, "an.i16", -10, 10, &integer, &error));
        assert_int_equal(integer, -2);
        ASSERT_OK(gguf_get_integer(&opened, "none", -10, 10, &integer, &error));
        assert_int_equal(integer, -2);
        ASSERT_FAILS(CENTO_INVALID_MODEL, "t.gguf: 'an.i16' is -2, expected 0 to 10",
                     gguf_get_integer(&opened, "an.i16", 0, 10, &integer, &error));
        ASSERT_FAILS(CENTO_INVALID_MODEL, "'a.string' must be an integer, found string",
                     gguf_get_integer(&opened, "a.string", 0, 10, &integer, &error));
        ASSERT_FAILS(CENTO_INVALID_MODEL, "'nested' must be a bool, found an array of array",
                     gguf_get_bool(&opened, "nested", &flag, &error));
        ASSERT_FAILS(CENTO_INVALID_MODEL, "'big' must be an integer",
                     gguf_get_integer(&opened, "big", 0, INT64_MAX, &integer, &error));
        const gguf_tensor *tensor = gguf_find_tensor(&opened, "first");
        assert_int_equal(tensor->bytes, 102);
        assert_int_equal(tensor->offset, data);
        assert_string_equal(gguf_tensor_type_name(tensor->type), "Q8_0");
        tensor = gguf_find_tensor(&opened, "second");
        assert_int_equal(tensor->bytes, 20);
        assert_int_equal(tensor->offset, data + 128);
        assert_int_equal(tensor->shape[0], 5);
        assert_null(gguf_find_tensor(&opened, "third"));
        gguf_close(&opened);

        /* cut anywhere it is refused */
        for (size_t bytes = 0; bytes < file.bytes; bytes++) {
            strbuf cut = file;
            cut.bytes = bytes;
            assert_int_equal(open_file(&cut, &opened), CENTO_INVALID_MODEL);
        }
        strbuf_free(&file);
    }
}

static void broken_gguf_files_are_refused_with_the_place(void **state) {
    (void)state;
    strbuf file = {0};
    gguf_file opened;
    strbuf_puts(&file, "GGML....................");
    ASSERT_FAILS(CENTO_INVALID_MODEL, "t.gguf: not a GGUF file", open_file(&file, &opened));
    put_header(&file, 1, 0, 0);
    ASSERT_FAILS(CENTO_UNSUPPORTED, "GGUF version 1, expected 2 or 3", open_file(&file, &opened));
    put_header(&file, 0x03000000, 0, 0);
    ASSERT_FAILS(CENTO_UNSUPPORTED, "a big-endian file", open_file(&file, &opened));
    put_header(&file, 3, 0, UINT64_MAX);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "18446744073709551615 values", open_file(&file, &opened));
    put_header(&file, 3, UINT64_MAX / 2, 0);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "do not fit in 24 bytes", open_file(&file, &opened));

    put_header(&file, 3, 0, 1);
    put_key(&file, "key", 13);
    put_u64(&file, 0);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'key' has type 13", open_file(&file, &opened));
    put_header(&file, 3, 0, 1);
    put_u64(&file, UINT64_MAX - 3);
    put_u64(&file, 0);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "a key at byte 24", open_file(&file, &opened));
    put_header(&file, 3, 0, 1);
    put_key(&file, "key", GGUF_STRING);
    put_u64(&file, 1000);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "in 'key': t.gguf: a string", open_file(&file, &opened));
    put_header(&file, 3, 0, 1);
    put_key(&file, "key", GGUF_ARRAY);
    put_u32(&file, GGUF_U64);
    put_u64(&file, (UINT64_MAX >> 3) + 1); /* times 8 overflows */
    put_u64(&file, 0);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "in 'key'", open_file(&file, &opened));
    put_header(&file, 3, 0, 1);
    put_key(&file, "key", GGUF_BOOL);
    strbuf_putc(&file, 2);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'key' holds 2, a bool is 0 or 1", open_file(&file, &opened));
    put_header(&file, 3, 0, 1);
    put_key(&file, "key", GGUF_ARRAY);
    for (int i = 0; i < 40; i++) {
        put_u32(&file, GGUF_ARRAY);
        put_u64(&file, 1);
    }
    ASSERT_FAILS(CENTO_UNSUPPORTED, "nested deeper", open_file(&file, &opened));
    put_header(&file, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_key(&file, "twice", GGUF_U8);
        strbuf_putc(&file, 0);
    }
    ASSERT_FAILS(CENTO_INVALID_MODEL, "two values 'twice'", open_file(&file, &opened));
    put_header(&file, 3, 0, 1);
    put_key(&file, "general.alignment", GGUF_U32);
    put_u32(&file, 24);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "general.alignment is 24", open_file(&file, &opened));
    strbuf_free(&file);
}

typedef struct broken_tensor {
    uint64_t columns, rows;
    uint32_t type;
    uint64_t offset;
    cento_status status;
    const char *message;
} broken_tensor;

static void broken_tensors_are_refused(void **state) {
    (void)state;
    static const broken_tensor cases[] = {
        {8, 4, 0, 0, CENTO_OK, ""},
        {8, 5, 0, 0, CENTO_INVALID_MODEL,
         "tensor 'w' of 160 bytes at offset 0 of the data ends behind the file"},
        {8, 4, 0, 32, CENTO_INVALID_MODEL, "ends behind the file"},
        {8, 4, 0, 7, CENTO_INVALID_MODEL, "at offset 7, expected a multiple of 32"},
        {8, 4, 0, UINT64_MAX - 31, CENTO_INVALID_MODEL, "ends behind the file"},
        {8, 4, 4, 0, CENTO_UNSUPPORTED, "unknown type 4"},
        {8, 4, 1000, 0, CENTO_UNSUPPORTED, "unknown type 1000"},
        {8, 4, 2, 0, CENTO_INVALID_MODEL, "rows of 8 elements, Q4_0 needs a multiple of 32"},
        {0, 4, 0, 0, CENTO_INVALID_MODEL, "dimension 0 is 0"},
        {UINT64_MAX, 4, 0, 0, CENTO_INVALID_MODEL, "impossible shape"},
        {UINT64_MAX, 1, 0, 0, CENTO_INVALID_MODEL, "impossibly large"},
    };
    strbuf file = {0};
    gguf_file opened;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_header(&file, 3, 1, 0);
        put_tensor(&file, "w", cases[i].columns, cases[i].rows, cases[i].type, cases[i].offset);
        pad_to(&file, 32);
        for (size_t byte = 0; byte < 128; byte++)
            strbuf_putc(&file, 'x');
        if (cases[i].status == CENTO_OK)
            ASSERT_OK(open_file(&file, &opened));
        else
            ASSERT_FAILS(cases[i].status, cases[i].message, open_file(&file, &opened));
    }
    put_header(&file, 3, 1, 0);
    put_string(&file, "w");
    put_u32(&file, 5);
    for (int i = 0; i < 7; i++)
        put_u64(&file, 1);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "tensor 'w' has 5 dimensions", open_file(&file, &opened));
    strbuf_free(&file);
}

/* ------------------------------------------------------------------ made vocabularies ------ */

static cento_status open_vocabulary(const strbuf *file, tokenizer **tokens) {
    gguf_file opened;
    gguf_vocabulary vocabulary;
    TRY(gguf_open_bytes("t.gguf", file->data, file->bytes, &opened, &error));
    cento_status status = gguf_vocabulary_read(&opened, &vocabulary, &error);
    if (status == CENTO_OK) {
        status = tokenizer_open_gguf("t.gguf", &vocabulary, tokens, &error);
        gguf_vocabulary_free(&vocabulary);
    }
    gguf_close(&opened);
    return status;
}

static void put_byte_level(strbuf *file, const char *pre) {
    static const char *const texts[] = {"a", "b", "ab", "<s>", "<tool>"};
    static const char *const merges[] = {"a b"};
    static const int32_t types[] = {1, 1, 1, 3, 4};
    put_header(file, 3, 0, 7);
    put_key(file, "tokenizer.ggml.model", GGUF_STRING);
    put_string(file, "gpt2");
    put_key(file, "tokenizer.ggml.pre", GGUF_STRING);
    put_string(file, pre);
    put_strings(file, "tokenizer.ggml.tokens", texts, 5);
    put_strings(file, "tokenizer.ggml.merges", merges, 1);
    put_i32s(file, "tokenizer.ggml.token_type", types, 5);
    put_key(file, "tokenizer.ggml.bos_token_id", GGUF_U32);
    put_u32(file, 3);
    put_key(file, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
    strbuf_putc(file, 1);
}

static void control_tokens_are_special_and_user_defined_ones_are_always_found(void **state) {
    (void)state;
    static const char *const pres[] = {"default",      "gpt-2",     "llama-bpe",   "qwen2",
                                       "deepseek-llm", "tekken",    "deepseek-v3", "deepseek-coder",
                                       "gpt-4o",       "falcon",    "bloom",       "viking",
                                       "starcoder",    "stablelm2", "dbrx"};
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        strbuf file = {0};
        put_byte_level(&file, pres[i]);
        tokenizer *tokens = NULL;
        ASSERT_OK(open_vocabulary(&file, &tokens));
        token_vec ids = {0};
        ASSERT_OK(tokenizer_encode(tokens, "ab<s>b<tool>", 12, true, true, &ids, &error));
        static const int32_t all[] = {3, 2, 3, 1, 4};
        assert_int_equal(ids.count, 5);
        assert_memory_equal(ids.ids, all, sizeof all);
        ids.count = 0;
        ASSERT_OK(tokenizer_encode(tokens, "ab<s>b<tool>", 12, false, false, &ids, &error));
        static const int32_t plain[] = {2, 1, 4}; /* nothing stands for '<', 's' and '>' */
        assert_int_equal(ids.count, 3);
        assert_memory_equal(ids.ids, plain, sizeof plain);
        assert_true(tokenizer_is_special(tokens, 3));
        assert_false(tokenizer_is_special(tokens, 4));
        assert_int_equal(tokenizer_bos(tokens), 3);
        assert_int_equal(tokenizer_eos(tokens), -1);
        token_vec_free(&ids);
        tokenizer_close(tokens);
        strbuf_free(&file);
    }
}

static void broken_vocabularies_are_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"a", "b", "ab"};
    static const char *const merges[] = {"a b", "a c"};
    static const float scores[] = {0, -1, -2};
    strbuf file = {0};
    tokenizer *tokens = NULL;
    put_header(&file, 3, 0, 0);
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'tokenizer.ggml.model' is missing", open_vocabulary(&file, &tokens));
    put_byte_level(&file, "unheard-of");
    ASSERT_FAILS(CENTO_UNSUPPORTED, "t.gguf: tokenizer.ggml.pre 'unheard-of' is not supported",
                 open_vocabulary(&file, &tokens));
    put_header(&file, 3, 0, 2);
    put_key(&file, "tokenizer.ggml.model", GGUF_STRING);
    put_string(&file, "bert");
    put_strings(&file, "tokenizer.ggml.tokens", texts, 3);
    ASSERT_FAILS(CENTO_UNSUPPORTED, "tokenizer.ggml.model 'bert'", open_vocabulary(&file, &tokens));
    for (size_t merge_count = 0; merge_count <= 2; merge_count += 2) {
        put_header(&file, 3, 0, merge_count == 0 ? 2 : 3);
        put_key(&file, "tokenizer.ggml.model", GGUF_STRING);
        put_string(&file, "gpt2");
        put_strings(&file, "tokenizer.ggml.tokens", texts, 3);
        if (merge_count > 0)
            put_strings(&file, "tokenizer.ggml.merges", merges, merge_count);
        ASSERT_FAILS(CENTO_INVALID_MODEL,
                     merge_count == 0 ? "merges' is missing" : "tokenizer.ggml.merges[1] 'a c'",
                     open_vocabulary(&file, &tokens));
    }
    for (size_t score_count = 2; score_count <= 3; score_count++) {
        put_header(&file, 3, 0, 4);
        put_key(&file, "tokenizer.ggml.model", GGUF_STRING);
        put_string(&file, "llama");
        put_strings(&file, "tokenizer.ggml.tokens", texts, 3);
        put_f32s(&file, "tokenizer.ggml.scores", scores, score_count);
        put_key(&file, "tokenizer.ggml.eos_token_id", GGUF_U32);
        put_u32(&file, 3);
        ASSERT_FAILS(CENTO_INVALID_MODEL,
                     score_count == 2 ? "'tokenizer.ggml.scores' has 2 elements, there are 3 tokens"
                                      : "'tokenizer.ggml.eos_token_id' is 3, there are 3 tokens",
                     open_vocabulary(&file, &tokens));
    }
    put_header(&file, 3, 0, 2);
    put_key(&file, "tokenizer.ggml.model", GGUF_STRING);
    put_string(&file, "llama");
    put_key(&file, "tokenizer.ggml.tokens", GGUF_STRING);
    put_string(&file, "a");
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'tokenizer.ggml.tokens' must be an array of strings, found string",
                 open_vocabulary(&file, &tokens));
    strbuf_free(&file);
}

static void sentencepiece_joins_by_score_and_falls_back_to_bytes(void **state) {
    (void)state;
    /* "bc" has the better score, so that "abc" is not "ab" + "c", though "ab" comes first */
    static const char *const texts[] = {"<unk>", "<s>", "<0xC3>", "<0xA9>", "a",
                                        "b",     "c",   "ab",     "bc",     "\xe2\x96\x81"};
    static const float scores[] = {0, 0, 0, 0, -9, -9, -9, -2, -1, -9};
    static const int32_t types[] = {2, 3, 6, 6, 1, 1, 1, 1, 1, 1};
    strbuf file = {0};
    put_header(&file, 3, 0, 6);
    put_key(&file, "tokenizer.ggml.model", GGUF_STRING);
    put_string(&file, "llama");
    put_strings(&file, "tokenizer.ggml.tokens", texts, 10);
    put_f32s(&file, "tokenizer.ggml.scores", scores, 10);
    put_i32s(&file, "tokenizer.ggml.token_type", types, 10);
    put_key(&file, "tokenizer.ggml.bos_token_id", GGUF_U32);
    put_u32(&file, 1);
    put_key(&file, "tokenizer.ggml.unknown_token_id", GGUF_U32);
    put_u32(&file, 0);
    tokenizer *tokens = NULL;
    ASSERT_OK(open_vocabulary(&file, &tokens));
    token_vec ids = {0};
    ASSERT_OK(tokenizer_encode(tokens, "abc \xc3\xa9!", 7, true, true, &ids, &error));
    static const int32_t expected[] = {1, 9, 4, 8, 9, 2, 3, 0};
    assert_int_equal(ids.count, 8);
    assert_memory_equal(ids.ids, expected, sizeof expected);
    strbuf text = {0};
    ASSERT_OK(tokenizer_decode(tokens, ids.ids, 7, true, &text, &error));
    assert_string_equal(text.data, "abc \xc3\xa9");
    strbuf_free(&text);
    token_vec_free(&ids);
    tokenizer_close(tokens);

    /* every failing allocation is reported */
    cento_status status = CENTO_OUT_OF_MEMORY;
    for (int64_t countdown = 0; status != CENTO_OK; countdown++) {
        mem_fail_after(countdown);
        status = open_vocabulary(&file, &tokens);
        mem_fail_after(-1);
        assert_true(status == CENTO_OK || status == CENTO_OUT_OF_MEMORY);
    }
    tokenizer_close(tokens);
    strbuf_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_tensors_are_read_as_the_format_says),
        cmocka_unit_test(broken_gguf_files_are_refused_with_the_place),
        cmocka_unit_test(broken_tensors_are_refused),
        cmocka_unit_test(control_tokens_are_special_and_user_defined_ones_are_always_found),
        cmocka_unit_test(broken_vocabularies_are_refused),
        cmocka_unit_test(sentencepiece_joins_by_score_and_falls_back_to_bytes),
        cmocka_unit_test(gpt2_vocabulary_gives_the_expected_ids),
        cmocka_unit_test(deepseek_coder_vocabulary_gives_the_expected_ids),
        cmocka_unit_test(llama_vocabulary_gives_the_expected_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tokenizers under bad and unusual input: broken files, failing allocations, texts made to be slow, many
 * threads at once (uses threads); translation of split patterns; the fingerprint. */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "text/split_regex.h"
#include "text/tokenizer.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static cento_error error;

static cento_status open_text(const char *text, tokenizer **tokens) {
    return tokenizer_open_json_bytes("t.json", text, strlen(text), tokens, &error);
}

/* A whole small tokenizer around one changed part. */
#define VOCAB      "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<u>\":3,\"\\u0120\":4}"
#define MERGES     "\"merges\":[\"a b\"]"
#define MODEL      "\"model\":{\"type\":\"BPE\"," VOCAB "," MERGES "}"
#define WITH(part) "{" MODEL "," part "}"

/* ------------------------------------------------------------------ broken files ----------- */

typedef struct broken {
    const char *text;
    cento_status status;
    const char *message; /* part of it */
} broken;

static const broken broken_files[] = {
    {"", CENTO_INVALID_MODEL, "t.json: line 1"},
    {"{", CENTO_INVALID_MODEL, "t.json: line 1"},
    {"{\"model\":{\n\"vocab\":{\"a\":0,}}}", CENTO_INVALID_MODEL, "t.json: line 2"},
    {"[]", CENTO_INVALID_MODEL, "t.json: must hold an object, found an array"},
    {"{}", CENTO_INVALID_MODEL, "t.json: model: must be an object, found nothing"},
    {"{\"model\":7}", CENTO_INVALID_MODEL, "model: must be an object, found an integer"},
    {"{\"model\":{\"type\":\"WordPiece\"}}", CENTO_UNSUPPORTED,
     "model: the model 'WordPiece' is not supported"},
    {"{\"model\":{\"type\":\"Unigram\"}}", CENTO_UNSUPPORTED, "'Unigram'"},
    {"{\"model\":{\"type\":3}}", CENTO_INVALID_MODEL, "'type' must be a string"},
    {"{\"model\":{" MERGES "}}", CENTO_INVALID_MODEL, "model: 'vocab' must be an object, found nothing"},
    {"{\"model\":{" VOCAB "}}", CENTO_INVALID_MODEL, "model: 'merges' must be an array, found nothing"},
    {"{\"model\":{\"vocab\":[]," MERGES "}}", CENTO_INVALID_MODEL,
     "'vocab' must be an object, found an array"},
    {"{\"model\":{\"vocab\":{\"a\":\"0\"}," MERGES "}}", CENTO_INVALID_MODEL, "the id of 'a' in 'vocab'"},
    {"{\"model\":{\"vocab\":{\"a\":-1}," MERGES "}}", CENTO_INVALID_MODEL, "id -1"},
    {"{\"model\":{\"vocab\":{\"a\":1e3}," MERGES "}}", CENTO_INVALID_MODEL, "the id of 'a'"},
    {"{\"model\":{\"vocab\":{\"a\":4194304}," MERGES "}}", CENTO_INVALID_MODEL, "id 4194304"},
    {"{\"model\":{\"vocab\":{\"a\":99999999999999999999}," MERGES "}}", CENTO_INVALID_MODEL,
     "t.json: line 1"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"a\":1}," MERGES "}}", CENTO_INVALID_MODEL, "duplicate"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0}," MERGES "}}", CENTO_INVALID_MODEL,
     "tokens 'a' and 'b' have the same id 0"},
    {"{\"model\":{" VOCAB ",\"merges\":[\"a c\"]}}", CENTO_INVALID_MODEL, "model: merges[0]"},
    {"{\"model\":{" VOCAB ",\"merges\":[\"a b\",\"b a\"]}}", CENTO_INVALID_MODEL,
     "merges[1] is 'b' with 'a'"},
    {"{\"model\":{" VOCAB ",\"merges\":[\"ab\"]}}", CENTO_INVALID_MODEL, "merges[0] must be"},
    {"{\"model\":{" VOCAB ",\"merges\":[\"a b c\"]}}", CENTO_INVALID_MODEL, "merges[0] must be"},
    {"{\"model\":{" VOCAB ",\"merges\":[[\"a\"]]}}", CENTO_INVALID_MODEL, "merges[0] must be"},
    {"{\"model\":{" VOCAB ",\"merges\":[[\"a\",1]]}}", CENTO_INVALID_MODEL, "merges[0] must be"},
    {"{\"model\":{" VOCAB ",\"merges\":{}}}", CENTO_INVALID_MODEL,
     "'merges' must be an array, found an object"},
    {"{\"model\":{" VOCAB "," MERGES ",\"byte_fallback\":1}}", CENTO_INVALID_MODEL, "'byte_fallback'"},
    {"{\"model\":{" VOCAB "," MERGES ",\"dropout\":0.1}}", CENTO_UNSUPPORTED, "dropout"},
    {"{\"model\":{" VOCAB "," MERGES ",\"end_of_word_suffix\":\"</w>\"}}", CENTO_UNSUPPORTED,
     "end_of_word_suffix"},
    {"{\"model\":{" VOCAB "," MERGES ",\"continuing_subword_prefix\":\"##\"}}", CENTO_UNSUPPORTED,
     "continuing_subword_prefix"},
    {WITH("\"normalizer\":[]"), CENTO_INVALID_MODEL, "normalizer: must be an object, found an array"},
    {WITH("\"normalizer\":{}"), CENTO_INVALID_MODEL, "normalizer: 'type' is missing"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\"}"), CENTO_UNSUPPORTED, "the normalizer 'Precompiled'"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\"}"), CENTO_INVALID_MODEL, "'normalizers' must be an array"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Nmt\"}]}"),
     CENTO_UNSUPPORTED, "normalizer.normalizers[1]: the normalizer 'Nmt'"},
    {WITH("\"normalizer\":{\"type\":\"Prepend\"}"), CENTO_INVALID_MODEL, "'prepend' must be a string"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}"), CENTO_INVALID_MODEL,
     "'pattern' must be"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}"),
     CENTO_UNSUPPORTED, "normalizer: the regular expression does not compile"},
    {WITH("\"normalizer\":{\"type\":\"Strip\",\"strip_left\":\"yes\"}"), CENTO_INVALID_MODEL, "'strip_left'"},
    {WITH("\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"), CENTO_UNSUPPORTED,
     "pre_tokenizer: the pre-tokenizer 'BertPreTokenizer'"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":"
          "\"Isolated\"}"),
     CENTO_UNSUPPORTED, "pre_tokenizer: && in a class at byte 2"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}"),
     CENTO_UNSUPPORTED, "'Sideways'"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"}}"), CENTO_INVALID_MODEL,
     "'behavior'"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Glob\":\"a\"},\"behavior\":\"Isolated\"}"),
     CENTO_INVALID_MODEL, "'Regex' must be a string"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), CENTO_INVALID_MODEL,
     "must be one character"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"second\"}"), CENTO_UNSUPPORTED,
     "'second'"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"add_prefix_space\":"
          "false}"),
     CENTO_INVALID_MODEL, "contradicts"},
    {WITH("\"decoder\":{\"type\":\"WordPiece\"}"), CENTO_UNSUPPORTED, "decoder: the decoder 'WordPiece'"},
    {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"), CENTO_INVALID_MODEL,
     "'start' is -1"},
    {WITH("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[3]}"), CENTO_INVALID_MODEL,
     "decoder.decoders[0]: must be an object, found an integer"},
    {WITH("\"post_processor\":{\"type\":\"BertProcessing\"}"), CENTO_UNSUPPORTED, "'BertProcessing'"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\"}"), CENTO_INVALID_MODEL, "'single'"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]"
          "}"),
     CENTO_INVALID_MODEL, "no ids for 'x'"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"x\":{\"ids\":[99]}},"
          "\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{\"id\":\"A\"}}]}"),
     CENTO_INVALID_MODEL, "an id of 'x' is not in the vocabulary"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}"),
     CENTO_UNSUPPORTED, "post_processor.single[0]: the sequence 'B'"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Word\":1}]}"),
     CENTO_INVALID_MODEL, "single[0]"},
    {WITH("\"added_tokens\":{}"), CENTO_INVALID_MODEL, "added_tokens: must be an array, found an object"},
    {WITH("\"added_tokens\":[7]"), CENTO_INVALID_MODEL, "added_tokens[0]: must be an object"},
    {WITH("\"added_tokens\":[{\"id\":9}]"), CENTO_INVALID_MODEL,
     "added_tokens[0]: 'content' must be a string"},
    {WITH("\"added_tokens\":[{\"content\":\"x\"}]"), CENTO_INVALID_MODEL, "added_tokens[0]: 'id' is missing"},
    {WITH("\"added_tokens\":[{\"id\":9,\"content\":\"\"}]"), CENTO_INVALID_MODEL, "an added token is empty"},
    {WITH("\"added_tokens\":[{\"id\":9,\"content\":\"a\"}]"), CENTO_INVALID_MODEL,
     "added token 'a' has id 9, the vocabulary says 0"},
    {WITH("\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]"), CENTO_INVALID_MODEL,
     "added token 'x' has the id 0 of 'a'"},
    {WITH("\"added_tokens\":[{\"id\":4294967295,\"content\":\"x\"}]"), CENTO_INVALID_MODEL,
     "'id' is 4294967295"},
    {"\xff\xfe{}", CENTO_INVALID_MODEL, "t.json: line 1"},
};

static void a_broken_file_gives_a_message_with_file_and_place(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof broken_files / sizeof *broken_files; i++) {
        tokenizer *tokens = NULL;
        error.message[0] = '\0';
        ASSERT_FAILS(broken_files[i].status, broken_files[i].message,
                     open_text(broken_files[i].text, &tokens));
        assert_non_null(strstr(error.message, "t.json"));
        assert_null(tokens);
    }
}

static void a_cut_file_is_refused_wherever_it_is_cut(void **state) {
    (void)state;
    strbuf file = {0};
    ASSERT_OK(
        file_read(source_path("tests/vectors/tokenizer/llama2/tokenizer.json"), 1 << 20, &file, &error));
    for (size_t bytes = 0; bytes + 2 < file.bytes; bytes += bytes < 3000 ? 37 : 997) {
        tokenizer *tokens = NULL;
        ASSERT_FAILS(CENTO_INVALID_MODEL, "t.json: line",
                     tokenizer_open_json_bytes("t.json", file.data, bytes, &tokens, &error));
    }
    strbuf_free(&file);
}

static void missing_files_and_folders_are_named(void **state) {
    (void)state;
    cento_tokenizer *handle = NULL;
    ASSERT_FAILS(CENTO_NOT_FOUND, "/nowhere/at/all",
                 cento_tokenizer_open("/nowhere/at/all", &handle, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, "tokenizer.json",
                 cento_tokenizer_open(temporary_folder(), &handle, &error));
    char path[256];
    snprintf(path, sizeof path, "%s/tokenizer.json", temporary_folder());
    write_file(path, WITH("\"decoder\":null"), strlen(WITH("\"decoder\":null")));
    ASSERT_OK(cento_tokenizer_open(temporary_folder(), &handle, &error));
    cento_tokenizer_close(handle);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", temporary_folder());
    static const char unknown[] = "{\"bos_token\":{\"content\":\"<none>\"}}";
    write_file(path, unknown, strlen(unknown));
    ASSERT_FAILS(CENTO_INVALID_MODEL, "'bos_token' is '<none>', which is not in the vocabulary",
                 cento_tokenizer_open(temporary_folder(), &handle, &error));
    static const char known[] = "{\"bos_token\":{\"content\":\"a\"},\"eos_token\":\"ab\"}";
    write_file(path, known, strlen(known));
    char json[256];
    snprintf(json, sizeof json, "%s/tokenizer.json", temporary_folder());
    tokenizer *tokens = NULL;
    ASSERT_OK(tokenizer_open_json(json, path, &tokens, &error));
    assert_int_equal(tokenizer_bos(tokens), 0);
    assert_int_equal(tokenizer_eos(tokens), 2);
    tokenizer_close(tokens);
}

static void ids_outside_the_vocabulary_are_refused(void **state) {
    (void)state;
    tokenizer *tokens = NULL;
    ASSERT_OK(open_text(WITH("\"added_tokens\":[{\"id\":9,\"content\":\"x\",\"special\":true}]"), &tokens));
    assert_int_equal(tokenizer_vocab_size(tokens), 10);
    static const int32_t ids[] = {-1, 10, 7 /* a gap */, INT32_MAX, INT32_MIN};
    strbuf text = {0};
    uint32_t bytes;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "is not in the vocabulary",
                     tokenizer_decode(tokens, &ids[i], 1, true, &text, &error));
        assert_null(tokenizer_spelling(tokens, ids[i], &bytes));
        assert_false(tokenizer_is_special(tokens, ids[i]));
    }
    assert_string_equal(tokenizer_spelling(tokens, 9, &bytes), "x");
    assert_true(tokenizer_is_special(tokens, 9));
    assert_int_equal(tokenizer_find(tokens, "x", 1), 9);
    assert_int_equal(tokenizer_find(tokens, "y", 1), -1);
    strbuf_free(&text);
    tokenizer_close(tokens);
}

/* ------------------------------------------------------------------ failing allocations ---- */

static cento_status use_all(const char *file, size_t bytes, size_t *ids_count) {
    static const char text[] = "<s> Hello  w\xc3\xb6rld e\xcc\xa3\xcc\x81 word 12345 \xf0\x9f\x98\x80\xff "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    tokenizer *tokens = NULL;
    TRY(tokenizer_open_json_bytes("t.json", file, bytes, &tokens, &error));
    token_vec ids = {0};
    strbuf decoded = {0};
    cento_status status = tokenizer_encode(tokens, text, sizeof text - 1, true, true, &ids, &error);
    if (status == CENTO_OK)
        status = tokenizer_decode(tokens, ids.ids, ids.count, false, &decoded, &error);
    detokenizer stream;
    detokenizer_init(&stream, tokens, true);
    for (size_t i = 0; status == CENTO_OK && i < ids.count; i++)
        status = detokenizer_push(&stream, ids.ids[i], &decoded, &error);
    if (status == CENTO_OK)
        status = detokenizer_finish(&stream, &decoded, &error);
    detokenizer_free(&stream);
    *ids_count = ids.count;
    strbuf_free(&decoded);
    token_vec_free(&ids);
    tokenizer_close(tokens);
    return status;
}

static cento_status use_all_failing_after(const strbuf *file, int64_t countdown) {
    size_t ids_count;
    mem_fail_after(countdown);
    cento_status status = use_all(file->data, file->bytes, &ids_count);
    mem_fail_after(-1);
    return status;
}

/* How many allocations there are: the first countdown that is not reached. */
static int64_t count_allocations(const strbuf *file) {
    int64_t low = 0, high = 1;
    while (use_all_failing_after(file, high) != CENTO_OK)
        high *= 2;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (use_all_failing_after(file, middle) == CENTO_OK)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void every_failing_allocation_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    static const char *const kinds[] = {"qwen2", "llama2", "metaspace-words", "odd-splits", "plain-words"};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        char path[128];
        snprintf(path, sizeof path, "tests/vectors/tokenizer/%s/tokenizer.json", kinds[kind]);
        strbuf file = {0};
        ASSERT_OK(file_read(source_path(path), 1 << 20, &file, &error));
        int64_t count = count_allocations(&file);
        assert_true(count > 700);
        /* all of them but for the many alike ones in the middle, where the spellings are copied */
        for (int64_t countdown = 0; countdown < count;
             countdown += countdown < 100 || countdown > count - 250 ? 1 : 29)
            if (use_all_failing_after(&file, countdown) != CENTO_OUT_OF_MEMORY)
                fail_msg("%s, allocation %lld of %lld: %s", kinds[kind], (long long)countdown,
                         (long long)count, error.message);
        strbuf_free(&file);
    }
}

/* ------------------------------------------------------------------ slow texts ------------- */

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void a_megabyte_of_anything_takes_less_than_a_second(void **state) {
    (void)state;
    static const char *const kinds[] = {"llama3", "gpt4o", "deepseek-llm", "llama2"};
    static const char *const units[] = {
        " ",  "a",  "A",   "1",   "\n",  "'",    "<",  "\xc3\xa9",        "\xcc\x81",
        "\t", "a ", "a\n", " \n", "  a", "\xff", "<|", "\xcc\x81\xcc\xa3"};
    const size_t bytes = SANITIZED ? 1 << 16 : 1 << 20;
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        char path[128];
        snprintf(path, sizeof path, "tests/vectors/tokenizer/%s/tokenizer.json", kinds[kind]);
        tokenizer *tokens = NULL;
        ASSERT_OK(tokenizer_open_json(source_path(path), NULL, &tokens, &error));
        for (size_t unit = 0; unit < sizeof units / sizeof *units; unit++) {
            size_t length = strlen(units[unit]);
            for (size_t i = 0; i < bytes; i++)
                text[i] = units[unit][i % length];
            text[bytes] = 'x';
            token_vec ids = {0};
            double start = cpu_seconds();
            ASSERT_OK(tokenizer_encode(tokens, text, bytes + 1, true, true, &ids, &error));
            double seconds = cpu_seconds() - start;
            if (seconds > 1.0)
                fail_msg("%s: a megabyte of '%s' takes %.2f s", kinds[kind], units[unit], seconds);
            token_vec_free(&ids);
        }
        tokenizer_close(tokens);
    }
    free(text);
}

static void a_pattern_that_explodes_is_an_error_and_not_a_hang(void **state) {
    (void)state;
    tokenizer *tokens = NULL;
    ASSERT_OK(
        open_text(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|aa|a*)*[bc]\"},"
                       "\"behavior\":\"Isolated\"}"),
                  &tokens));
    token_vec ids = {0};
    ASSERT_FAILS(CENTO_UNSUPPORTED, "regular expression failed on this text",
                 tokenizer_encode(tokens, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 56,
                                  true, true, &ids, &error));
    assert_int_equal(ids.count, 0);
    token_vec_free(&ids);
    tokenizer_close(tokens);
}

/* ------------------------------------------------------------------ threads ---------------- */

typedef struct worker {
    const tokenizer *tokens;
    const token_vec *expected;
    const char *text;
    bool same;
} worker;

static void *encode_many_times(void *argument) {
    worker *own = argument;
    own->same = true;
    for (int i = 0; i < 50; i++) {
        token_vec ids = {0};
        cento_error own_error;
        if (tokenizer_encode(own->tokens, own->text, strlen(own->text), true, true, &ids, &own_error) !=
                CENTO_OK ||
            ids.count != own->expected->count ||
            memcmp(ids.ids, own->expected->ids, ids.count * sizeof *ids.ids) != 0)
            own->same = false;
        token_vec_free(&ids);
    }
    return NULL;
}

static void many_threads_may_use_one_tokenizer(void **state) {
    (void)state;
    static const char text[] =
        "Hello w\xc3\xb6rld, <|im_start|> it's 12345 e\xcc\xa3\xcc\x81 \xe5\xa4\xa9\xe5\x9c\xb0\n\n  x";
    tokenizer *tokens = NULL;
    ASSERT_OK(tokenizer_open_json(source_path("tests/vectors/tokenizer/qwen2/tokenizer.json"), NULL, &tokens,
                                  &error));
    token_vec expected = {0};
    ASSERT_OK(tokenizer_encode(tokens, text, strlen(text), true, true, &expected, &error));
    pthread_t threads[4];
    worker workers[4];
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (worker){.tokens = tokens, .expected = &expected, .text = text};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many_times, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].same);
    }
    token_vec_free(&expected);
    tokenizer_close(tokens);
}

/* ------------------------------------------------------------------ fingerprint ------------ */

static void fingerprint_of(const char *text, uint8_t digest[SHA256_BYTES]) {
    tokenizer *tokens = NULL;
    ASSERT_OK(open_text(text, &tokens));
    memcpy(digest, tokenizer_fingerprint(tokens), SHA256_BYTES);
    tokenizer_close(tokens);
}

static void the_fingerprint_changes_with_all_that_decides_about_ids(void **state) {
    (void)state;
    static const char *const different[] = {
        "{" MODEL "}",
        "{\"model\":{\"vocab\":{\"a\":1,\"b\":0,\"ab\":2,\"<u>\":3,\"\\u0120\":4}," MERGES "}}",
        "{\"model\":{" VOCAB ",\"merges\":[]}}",
        "{\"model\":{" VOCAB "," MERGES ",\"ignore_merges\":true}}",
        "{\"model\":{" VOCAB "," MERGES ",\"byte_fallback\":true}}",
        "{\"model\":{" VOCAB "," MERGES ",\"fuse_unk\":true}}",
        "{\"model\":{" VOCAB "," MERGES ",\"unk_token\":\"<u>\"}}",
        WITH("\"normalizer\":{\"type\":\"NFC\"}"),
        WITH("\"normalizer\":{\"type\":\"NFD\"}"),
        WITH("\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"),
        WITH("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false}"),
        WITH("\"added_tokens\":[{\"id\":9,\"content\":\"x\"}]"),
        WITH("\"added_tokens\":[{\"id\":9,\"content\":\"x\",\"lstrip\":true}]"),
        WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"x\":{\"ids\":[0]}},"
             "\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{\"id\":\"A\"}}]}"),
    };
    enum { COUNT = sizeof different / sizeof *different };
    uint8_t digests[COUNT][SHA256_BYTES];
    for (size_t i = 0; i < COUNT; i++) {
        fingerprint_of(different[i], digests[i]);
        for (size_t j = 0; j < i; j++)
            if (memcmp(digests[i], digests[j], SHA256_BYTES) == 0)
                fail_msg("'%s' and '%s' have the same fingerprint", different[i], different[j]);
    }
}

static void the_fingerprint_does_not_depend_on_how_the_file_is_written(void **state) {
    (void)state;
    uint8_t plain[SHA256_BYTES], same[SHA256_BYTES];
    fingerprint_of("{" MODEL "}", plain);
    fingerprint_of(
        "{ \"decoder\": {\"type\":\"ByteLevel\"},\n \"version\": \"1.0\", \"normalizer\": null,\n" MODEL " }",
        same);
    assert_memory_equal(plain, same, SHA256_BYTES);
    fingerprint_of("{\"model\":{\"merges\":[[\"a\",\"b\"]],\"vocab\":{\"\\u0120\":4,\"b\":1,\"<u>\":3,\"ab\":"
                   "2,\"a\":0}}}",
                   same);
    assert_memory_equal(plain, same, SHA256_BYTES);
}

/* ------------------------------------------------------------------ patterns --------------- */

static void patterns_are_translated_from_oniguruma_to_pcre2(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"\\p{L}+ ?[a-z]*|x{2,3}", "\\p{L}+ ?[a-z]*|x{2,3}"},
        {"(?i:'s|'t)", "(?i:'s|'t)"},
        {"(?m:.)", "(?s:.)"},
        {"\\p{N}{1,3}+", "(?:\\p{N}{1,3})+"},
        {"(?:ab|c){2}+d", "(?:(?:ab|c){2})+d"},
        {"a++b?+", "a++b?+"},
        {"a{,3}", "a{0,3}"},
        {"a{b}", "a\\{b}"},
        {"\\u4e00", "\\x{4e00}"},
        {"\\p{^Lu}\\P{^L}", "\\P{Lu}\\p{L}"},
        {"\\p{Han}", "\\p{sc:Han}"},
        {"[]a]", "[\\]a]"},
        {"\\h\\v", "[0-9A-Fa-f]\\x{b}"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        strbuf translated = {0};
        ASSERT_OK(split_regex_translate("p", pairs[i][0], strlen(pairs[i][0]), &translated, &error));
        assert_string_equal(translated.data, pairs[i][1]);
        strbuf_free(&translated);
    }
    static const char *const refused[] = {
        "[a[b]]", "[a&&b]", "(*FAIL)",      "(?(1)a)",       "(?~a)",   "(?#c)",    "\\K", "\\Qa\\E",
        "a{2}?",  "[a",     "\\",           "\\p{",          "\\pL",    "(?x: a)",  "a)",  "[\\W]",
        "\\xff",  "\\u12",  "[[:^space:]]", "[[:nothing:]]", "\\p{L&}", "(?P<a>b)", "\\C", "[\\P{Alpha}]"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        split_regex *regex = NULL;
        ASSERT_FAILS(CENTO_UNSUPPORTED,
                     "p: ", split_regex_compile("p", refused[i], strlen(refused[i]), false, &regex, &error));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_file_gives_a_message_with_file_and_place),
        cmocka_unit_test(a_cut_file_is_refused_wherever_it_is_cut),
        cmocka_unit_test(missing_files_and_folders_are_named),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(every_failing_allocation_is_reported_and_nothing_leaks),
        cmocka_unit_test(a_megabyte_of_anything_takes_less_than_a_second),
        cmocka_unit_test(a_pattern_that_explodes_is_an_error_and_not_a_hang),
        cmocka_unit_test(many_threads_may_use_one_tokenizer),
        cmocka_unit_test(the_fingerprint_changes_with_all_that_decides_about_ids),
        cmocka_unit_test(the_fingerprint_does_not_depend_on_how_the_file_is_written),
        cmocka_unit_test(patterns_are_translated_from_oniguruma_to_pcre2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

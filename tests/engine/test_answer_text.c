/*
 * Promises of streamed text: stop strings across tokens, nothing shown that is taken back, no half character.
 * Tokens are bytes, so every cut between bytes occurs.
 */
#include "engine/answer_text.h"
#include "tiny_model.h"

static cento_error error;
static tiny_model model;
static tokenizer *bytes_tokenizer;

/* Pushes the bytes one by one; collects what was shown, checking it at every step. */
static void stream(const char *bytes, size_t count, const char *const *stop, size_t stop_count, strbuf *shown,
                   size_t *pushed) {
    answer_text text;
    answer_text_init(&text, bytes_tokenizer, stop, stop_count);
    *pushed = 0;
    while (*pushed < count && !text.stopped) {
        ASSERT_OK(answer_text_push(&text, (unsigned char)bytes[(*pushed)++], &error));
        size_t fresh_bytes;
        const char *fresh = answer_text_take_new(&text, SIZE_MAX, &fresh_bytes);
        strbuf_append(shown, fresh, fresh_bytes);
        for (size_t i = 0; i < stop_count; i++)
            assert_true(shown->data == NULL || strstr(shown->data, stop[i]) == NULL);
    }
    ASSERT_OK(answer_text_finish(&text, &error));
    size_t fresh_bytes;
    const char *fresh = answer_text_take_new(&text, SIZE_MAX, &fresh_bytes);
    strbuf_append(shown, fresh, fresh_bytes);
    assert_int_equal(text.text.bytes, shown->bytes);
    answer_text_free(&text);
}

static void assert_stream(const char *bytes, const char *const *stop, size_t stop_count, const char *expected,
                          size_t expected_pushed) {
    strbuf shown = {0};
    size_t pushed;
    strbuf_puts(&shown, "");
    stream(bytes, strlen(bytes), stop, stop_count, &shown, &pushed);
    assert_string_equal(shown.data == NULL ? "" : shown.data, expected);
    assert_int_equal(pushed, expected_pushed);
    strbuf_free(&shown);
}

static void a_stop_string_ends_the_text_before_it(void **state) {
    (void)state;
    static const char *const stop[] = {"END", "\n\n"};
    assert_stream("hello END more", stop, 2, "hello ", 9);
    assert_stream("a\n\nb", stop, 2, "a", 3);
    assert_stream("END", stop, 2, "", 3);
    assert_stream("no stop here EN", stop, 2, "no stop here EN", 15); /* held back, then shown at the end */
    assert_stream("ENENDx", stop, 2, "EN", 5);
    assert_stream("EENDx", stop, 2, "E", 4);
    assert_stream("\nx\n", stop, 2, "\nx\n", 3);
}

static void stop_strings_that_repeat_within_themselves_are_found(void **state) {
    (void)state;
    static const char *const stop[] = {"aabaac"};
    assert_stream("aabaabaacx", stop, 1, "aab", 9);
    static const char *const nested[] = {"abcd", "bc"};
    assert_stream("xabcd", nested, 2, "xa", 4);
    static const char *const prefixes[] = {"ab", "abc"};
    assert_stream("xabc", prefixes, 2, "x", 3);
}

static void streaming_finds_what_a_search_of_the_whole_finds(void **state) {
    (void)state;
    uint64_t random_state = 7;
    for (int round = 0; round < 3000; round++) {
        char bytes[25] = {0}, first[5] = {0}, second[4] = {0};
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = random_state >> 16;
        for (int i = 0; i < 24; i++)
            bytes[i] = (char)('a' + (bits >> i & 1));
        for (int i = 0; i < 1 + (int)(bits >> 24 & 3); i++)
            first[i] = (char)('a' + (bits >> (26 + i) & 1));
        for (int i = 0; i < 1 + (int)(bits >> 30 & 1) + (int)(bits >> 31 & 1); i++)
            second[i] = (char)('a' + (bits >> (32 + i) & 1));
        const char *const stop[] = {first, second};
        /* the first stop string to be complete ends the text, the longer one if two are complete at once */
        size_t cut = strlen(bytes), end = strlen(bytes);
        for (size_t length = 1; length <= 24 && cut == 24; length++) {
            for (int i = 0; i < 2; i++) {
                size_t stop_bytes = strlen(stop[i]);
                if (length >= stop_bytes && memcmp(bytes + length - stop_bytes, stop[i], stop_bytes) == 0 &&
                    length - stop_bytes < cut) {
                    cut = length - stop_bytes;
                    end = length;
                }
            }
        }
        char expected[25];
        memcpy(expected, bytes, cut);
        expected[cut] = '\0';
        assert_stream(bytes, stop, 2, expected, end);
    }
}

static void a_character_is_shown_whole_or_not_at_all(void **state) {
    (void)state;
    const char *bytes = "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    answer_text text;
    answer_text_init(&text, bytes_tokenizer, NULL, 0);
    static const size_t shown_after[] = {0, 2, 0, 0, 3, 0, 0, 0, 4, 1};
    for (size_t i = 0; i < strlen(bytes); i++) {
        size_t fresh_bytes;
        ASSERT_OK(answer_text_push(&text, (unsigned char)bytes[i], &error));
        (void)answer_text_take_new(&text, SIZE_MAX, &fresh_bytes);
        assert_int_equal(fresh_bytes, shown_after[i]);
    }
    ASSERT_OK(answer_text_finish(&text, &error));
    assert_string_equal(text.text.data, bytes);
    answer_text_free(&text);
}

static void an_answer_cut_inside_a_character_ends_with_a_replacement(void **state) {
    (void)state;
    strbuf shown = {0};
    size_t pushed;
    stream("a\xE2\x82", 3, NULL, 0, &shown, &pushed);
    assert_string_equal(shown.data, "a\xEF\xBF\xBD");
    strbuf_free(&shown);
}

static void a_token_that_the_tokenizer_does_not_know_has_no_text(void **state) {
    (void)state;
    answer_text text;
    answer_text_init(&text, bytes_tokenizer, NULL, 0);
    ASSERT_OK(answer_text_push(&text, 'a', &error));
    ASSERT_OK(answer_text_push(&text, 1 << 20, &error));
    ASSERT_OK(answer_text_push(&text, 'b', &error));
    ASSERT_OK(answer_text_finish(&text, &error));
    assert_string_equal(text.text.data, "ab");
    answer_text_free(&text);
}

static int open_tokenizer(void **state) {
    (void)state;
    char path[512];
    tiny_create(&model, "text", 0, 1);
    snprintf(path, sizeof path, "%s/tokenizer.json", model.folder);
    return tokenizer_open_json(path, NULL, &bytes_tokenizer, &error) == CENTO_OK ? 0 : -1;
}

static int close_tokenizer(void **state) {
    (void)state;
    tokenizer_close(bytes_tokenizer);
    tiny_free(&model);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(stop_strings_that_repeat_within_themselves_are_found),
        cmocka_unit_test(streaming_finds_what_a_search_of_the_whole_finds),
        cmocka_unit_test(a_character_is_shown_whole_or_not_at_all),
        cmocka_unit_test(an_answer_cut_inside_a_character_ends_with_a_replacement),
        cmocka_unit_test(a_token_that_the_tokenizer_does_not_know_has_no_text),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}

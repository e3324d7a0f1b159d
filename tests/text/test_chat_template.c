/*
 * Promises of the chat templates. Expected texts: Jinja2 as transformers configures it, by
 * tools/make_chat_template_vectors.py.
 */
#include "support.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/template.h"

/* The moment that the vectors were made for. */
static void vectors_time(struct tm *now, int *microseconds) {
    *now = (struct tm){.tm_year = 126,
                       .tm_mon = 2,
                       .tm_mday = 7,
                       .tm_hour = 8,
                       .tm_min = 5,
                       .tm_sec = 9,
                       .tm_wday = 6,
                       .tm_yday = 65};
    *microseconds = 42;
}

static template_options vectors_options(void) {
    template_options options = template_defaults;
    options.local_time = vectors_time;
    return options;
}

static cento_status render_source(const char *source, size_t bytes, const json_t *context,
                                  const template_options *options, strbuf *text, cento_error *error) {
    chat_template *compiled;
    TRY(chat_template_compile("test.jinja", source, bytes, &compiled, error));
    cento_status status = template_render(compiled, context, options, text, error);
    chat_template_free(compiled);
    return status;
}

/* Messages of raise_exception() and about what is undefined are Python's, behind the place. */
static bool message_agrees(const char *found, const json_t *vector) {
    const char *python = json_string_value(json_object_get(vector, "error"));
    if (strncmp(python, "TemplateError: ", 15) != 0 && strncmp(python, "UndefinedError: ", 16) != 0)
        return true;
    return strstr(found, strstr(python, ": ") + 2) != NULL || strstr(python, "object") != NULL ||
           strstr(python, "inline if") != NULL;
}

/* 1 if the case does not give what it should, with both texts printed. */
static int check_case(const char *name, const char *source, size_t bytes, const json_t *context,
                      const json_t *vector) {
    template_options options = vectors_options();
    cento_error error;
    strbuf text = {0};
    const json_t *expected = json_object_get(vector, "output");
    cento_status status = render_source(source, bytes, context, &options, &text, &error);
    bool right = expected == NULL ? status == CENTO_TEMPLATE && message_agrees(error.message, vector)
                                  : status == CENTO_OK && text.bytes == json_string_length(expected) &&
                                        (text.bytes == 0 ||
                                         memcmp(text.data, json_string_value(expected), text.bytes) == 0);
    if (!right)
        print_message("%s\n  template: %.300s\n  expected: %s\n  found:    %s\n", name, source,
                      expected == NULL ? json_string_value(json_object_get(vector, "error"))
                                       : json_string_value(expected),
                      status != CENTO_OK  ? error.message
                      : text.data == NULL ? ""
                                          : text.data);
    strbuf_free(&text);
    return !right;
}

static json_t *read_vectors(const char *name) {
    cento_error error;
    json_t *vectors;
    char path[256];
    snprintf(path, sizeof path, "tests/vectors/chat_template/%s", name);
    ASSERT_OK(json_read_file(source_path(path), 16u << 20, &vectors, &error));
    return vectors;
}

static const json_t *case_context(const json_t *vectors, const json_t *vector) {
    return json_object_get(json_object_get(vectors, "contexts"),
                           json_string_value(json_object_get(vector, "context")));
}

static void every_construct_renders_as_in_jinja(void **state) {
    (void)state;
    json_t *vectors = read_vectors("cases.json");
    const json_t *cases = json_object_get(vectors, "cases");
    size_t number;
    json_t *vector;
    int wrong = 0;
    assert_true(json_array_size(cases) >= 300);
    json_array_foreach((json_t *)(uintptr_t)cases, number, vector) {
        const json_t *source = json_object_get(vector, "template");
        wrong += check_case("case", json_string_value(source), json_string_length(source),
                            case_context(vectors, vector), vector);
    }
    json_decref(vectors);
    assert_int_equal(wrong, 0);
}

/* Renders the files that the vectors name; folder: NULL for the vectors' own. */
static void check_files(const char *name, bool shared) {
    json_t *vectors = read_vectors(name);
    const json_t *cases = json_object_get(vectors, "cases");
    size_t number, checked = 0;
    json_t *vector;
    int wrong = 0;
    json_array_foreach((json_t *)(uintptr_t)cases, number, vector) {
        const char *file = json_string_value(json_object_get(vector, "file"));
        const char *context = json_string_value(json_object_get(vector, "context"));
        char path[512], label[512];
        cento_error error;
        strbuf source = {0};
        snprintf(path, sizeof path, shared ? "chat-templates/%s" : "tests/vectors/chat_template/%s", file);
        const char *found = shared ? shared_data_path(path) : source_path(path);
        if (found == NULL)
            break;
        ASSERT_OK(file_read(found, 1u << 20, &source, &error));
        snprintf(label, sizeof label, "%s, %s", file, context);
        wrong += check_case(label, source.data, source.bytes, case_context(vectors, vector), vector);
        checked++;
        strbuf_free(&source);
    }
    json_decref(vectors);
    if (checked == 0)
        skip();
    assert_int_equal(wrong, 0);
}

static void templates_of_the_shared_models_render_as_in_jinja(void **state) {
    (void)state;
    check_files("shared.json", true);
}

static void templates_in_the_style_of_models_render_as_in_jinja(void **state) {
    (void)state;
    check_files("models.json", false);
}

static json_t *context_of(const char *text) {
    cento_error error;
    json_t *context;
    ASSERT_OK(json_read_bytes("context", text, strlen(text), &context, &error));
    return context;
}

/* Renders with a context that has `a` and `list`; fails the test unless it fails with this message. */
static void expect_error(const char *source, const char *part) {
    cento_error error;
    strbuf text = {0};
    json_t *context = context_of("{\"a\": 1, \"list\": [1, 2], \"d\": {\"x\": 1}}");
    strbuf_puts(&text, "before");
    ASSERT_FAILS(CENTO_TEMPLATE, part,
                 render_source(source, strlen(source), context, &template_defaults, &text, &error));
    assert_string_equal(text.data, "before"); /* nothing of a failed render stays */
    strbuf_free(&text);
    json_decref(context);
}

static void an_error_names_the_file_the_line_and_the_column(void **state) {
    (void)state;
    expect_error("{{ a", "test.jinja: line 1, column 1: the end of the tag, }}, is missing");
    expect_error("x\n  {% if a %}\n{{ é b }}{% endif %}",
                 "test.jinja: line 3, column 6: expected }}, found 'b'");
    expect_error("a\n\n  {{ 'é' ~ a | nope }}", "line 3, column 16: no filter named 'nope'");
    expect_error("{% for x in list %}\n{{ x }}{{ 1 + d }}{% endfor %}",
                 "line 2, column 13: unsupported operand");
    expect_error("{{ list[0].b.c }}", "line 1, column 13: 'int object' has no attribute 'b'");
    expect_error("\r\n\r{{ nope.x }}", "line 3, column 8: 'nope' is undefined");
    expect_error("{{ raise_exception('two\\nlines') }}", "line 1, column 19: two lines");
    expect_error("{% for x in list %}", "the template ends before 'endfor'");
    expect_error("{% if a %}{% endfor %}",
                 "line 1, column 14: unknown tag 'endfor', or 'elif' is missing before it");
    expect_error("\xFFx", "the byte at offset 0 is not UTF-8");
}

static void what_is_not_supported_is_refused_and_never_guessed(void **state) {
    (void)state;
    expect_error("{% include 'x' %}", "the tag 'include' is not supported");
    expect_error("{% extends 'x' %}", "the tag 'extends' is not supported");
    expect_error("{% import 'x' as y %}", "the tag 'import' is not supported");
    expect_error("{% from 'x' import y %}", "the tag 'from' is not supported");
    expect_error("{% block b %}{% endblock %}", "the tag 'block' is not supported");
    expect_error("{% autoescape true %}{% endautoescape %}", "the tag 'autoescape' is not supported");
    expect_error("{% do a %}", "unknown tag 'do'");
    expect_error("{{ list | random }}", "the filter 'random' is not supported");
    expect_error("{% if a %}{{ list | pprint }}{% endif %}", "the filter 'pprint' is not supported");
    expect_error("{{ lipsum() }}", "the function 'lipsum' is not supported");
    expect_error("{{ 'a'.encode() }}", "'encode' is not supported");
    expect_error("{{ d.fromkeys([1]) }}", "'fromkeys' is not supported");
    expect_error("{{ 2 ** 63 }}", "the integer does not fit in 64 bits");
    expect_error("{{ 9223372036854775807 + a }}", "the integer does not fit in 64 bits");
    expect_error("{{ 9223372036854775808 }}", "the integer does not fit in 64 bits");
    expect_error("{{ '9223372036854775808' | int }}", "the integer does not fit in 64 bits");
    expect_error("{{ -9223372036854775807 * 2 }}", "the integer does not fit in 64 bits");
    expect_error("{{ (-9223372036854775807 - 1) // -1 }}", "the integer does not fit in 64 bits");
    expect_error("{{ (-8) ** 0.5 }}", "complex numbers are not supported");
    expect_error("{{ '\\ud800' }}", "the escape is no character: U+D800");
    expect_error("{{ '\\N{DASH}' }}", "\\N{…} is not supported");
    expect_error("{{ list[1:2, 3] }}", "slices in more than one dimension are not supported");
}

static void no_template_can_hang_or_exhaust_memory_or_the_stack(void **state) {
    (void)state;
    expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded");
    expect_error("{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
                 "steps");
    expect_error("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s "
                 "%}{% endfor %}",
                 "the text is too long");
    expect_error(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "more than");
    expect_error("{{ 'x' * 9000000000 }}", "the text is too long");
    expect_error("{{ [1] * 9000000000 }}", "the list is too long");
    expect_error("{{ 'x'.center(900000000) }}", "more than");
    expect_error("{{ '%9999999d' | format(1) ~ '%99999999d' | format(1) }}", "more than");
    expect_error("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", "more than");
    expect_error("{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor "
                 "%}{{ ns.l }}",
                 "maximum recursion depth exceeded");
    expect_error("{% set ns = namespace(l=[], m=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}"
                 "{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
                 "maximum recursion depth exceeded");
    expect_error("{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}"
                 "{{ ns.l | tojson }}",
                 "maximum recursion depth exceeded");
    expect_error("{% for i in range(3) recursive %}{{ loop([1]) }}{% endfor %}",
                 "maximum recursion depth exceeded");
    expect_error("{{ range(100001) }}", "the range is too big");
}

/* What a file may hold that a person would not write: brackets, operators and blocks many levels deep. */
static void deeply_nested_source_is_refused(void **state) {
    (void)state;
    static const char *const pieces[] = {"(",  "[",  "{1:",       "not ", "-", "x if x else ",
                                         "a[", "a(", "a|default("};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        strbuf source = {0};
        strbuf_puts(&source, "{{ ");
        for (int level = 0; level < 20000; level++)
            strbuf_puts(&source, pieces[i]);
        strbuf_puts(&source, "1 }}");
        expect_error(source.data, "nested");
        strbuf_free(&source);
    }
    static const char *const chains[] = {"+1", ".b", "|string", "[0]", " and a", "()"};
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        strbuf source = {0};
        strbuf_puts(&source, "{{ a");
        for (int level = 0; level < 20000; level++)
            strbuf_puts(&source, chains[i]);
        strbuf_puts(&source, " }}");
        expect_error(source.data, "nested too deeply");
        strbuf_free(&source);
    }
    strbuf source = {0};
    for (int level = 0; level < 20000; level++)
        strbuf_puts(&source, "{% for a in list %}");
    expect_error(source.data, "nested too deeply");
    strbuf_free(&source);
}

static void a_long_chain_of_elif_is_not_nesting(void **state) {
    (void)state;
    cento_error error;
    strbuf source = {0}, text = {0};
    json_t *context = context_of("{\"a\": 19999}");
    strbuf_puts(&source, "{% if false %}");
    for (int i = 0; i < 20000; i++)
        strbuf_printf(&source, "{%% elif a == %d %%}%d", i, i);
    strbuf_puts(&source, "{% endif %}");
    ASSERT_OK(render_source(source.data, source.bytes, context, &template_defaults, &text, &error));
    assert_string_equal(text.data, "19999");
    strbuf_free(&source);
    strbuf_free(&text);
    json_decref(context);
}

static void a_template_can_be_rendered_again_and_leaves_the_context_alone(void **state) {
    (void)state;
    cento_error error;
    static const char source[] =
        "{% set a = a + 1 %}{% set ns = namespace(x=d) %}{% set ns.x = 2 %}{{ a }}{{ ns.x }}{{ d }}";
    json_t *context = context_of("{\"a\": 1, \"d\": {\"k\": [1]}}"), *copy = json_deep_copy(context);
    chat_template *compiled;
    ASSERT_OK(chat_template_compile("t", source, sizeof source - 1, &compiled, &error));
    for (int i = 0; i < 3; i++) {
        strbuf text = {0};
        strbuf_puts(&text, ">");
        ASSERT_OK(chat_template_render(compiled, context, &text, &error));
        assert_string_equal(text.data, ">22{'k': [1]}");
        strbuf_free(&text);
    }
    assert_true(json_equal(context, copy));
    strbuf text = {0};
    json_t *array = json_array();
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "must be an object",
                 chat_template_render(compiled, array, &text, &error));
    json_decref(array);
    json_decref(copy);
    json_decref(context);
    chat_template_free(compiled);
    chat_template_free(NULL);
}

static void strings_with_nul_bytes_are_rendered_whole(void **state) {
    (void)state;
    cento_error error;
    strbuf text = {0};
    json_t *context = json_object();
    json_object_set_new(context, "s", json_stringn("a\0b", 3));
    ASSERT_OK(render_source("{{ s }}{{ s | length }}", 23, context, &template_defaults, &text, &error));
    assert_int_equal(text.bytes, 4);
    assert_memory_equal(text.data, "a\0b3", 4);
    strbuf_free(&text);
    json_object_set_new(context, "s", json_stringn_nocheck("\xFF", 1));
    ASSERT_FAILS(CENTO_TEMPLATE, "not UTF-8",
                 render_source("{{ s }}", 7, context, &template_defaults, &text, &error));
    json_decref(context);
}

/* Every allocation in turn fails; under ASan nothing may be left over. */
static void a_failed_allocation_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    static const char source[] =
        "{% macro m(x, y=[1, 2]) %}{{ x ~ y }}{{ caller() }}{% endmacro %}{% set ns = namespace(s='') %}"
        "{% for k, v in d.items() if v %}{% set ns.s = ns.s + k * 40 %}{% call m(k) %}{{ loop.index }}{% "
        "endcall %}"
        "{% endfor %}{{ ns.s | upper | replace('A', 'bb') | indent }}{{ d | tojson(indent=2) }}"
        "{{ (range(200) | map('string') | join(',')) ~ '%s' % 'x' ~ '{:>9}'.format(1) }}{{ l | sort | list "
        "}}";
    json_t *context = context_of("{\"d\": {\"a\": 1, \"b\": {\"c\": [1, 2]}}, \"l\": [3, 1, 2]}");
    bool succeeded = false;
    for (int64_t countdown = 0; countdown < 10000 && !succeeded; countdown++) {
        cento_error error;
        strbuf text = {0};
        mem_fail_after(countdown);
        cento_status status =
            render_source(source, sizeof source - 1, context, &template_defaults, &text, &error);
        mem_fail_after(-1);
        succeeded = status == CENTO_OK;
        if (!succeeded)
            assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_true(succeeded || countdown < 1000);
        if (succeeded)
            assert_true(countdown > 8);
        strbuf_free(&text);
    }
    assert_true(succeeded);
    json_decref(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_construct_renders_as_in_jinja),
        cmocka_unit_test(templates_of_the_shared_models_render_as_in_jinja),
        cmocka_unit_test(templates_in_the_style_of_models_render_as_in_jinja),
        cmocka_unit_test(an_error_names_the_file_the_line_and_the_column),
        cmocka_unit_test(what_is_not_supported_is_refused_and_never_guessed),
        cmocka_unit_test(no_template_can_hang_or_exhaust_memory_or_the_stack),
        cmocka_unit_test(deeply_nested_source_is_refused),
        cmocka_unit_test(a_long_chain_of_elif_is_not_nesting),
        cmocka_unit_test(a_template_can_be_rendered_again_and_leaves_the_context_alone),
        cmocka_unit_test(strings_with_nul_bytes_are_rendered_whole),
        cmocka_unit_test(a_failed_allocation_is_reported_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Running tokenizers' regular expressions on PCRE2; see split_regex.h. The translation is in
 * split_regex_translate.c. */
#include "split_regex.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"
#include "base/utf8.h"

struct split_regex {
    pcre2_code *code; /* owned */
};

/* A pattern comes with a model's files: it may not take time without end. Linear use of these limits on
 * ordinary patterns stays far below. */
#define MATCH_LIMIT_BASE     10000000u
#define MATCH_LIMIT_PER_BYTE 32u
#define HEAP_LIMIT_KIB       (256u << 10)
#define PATTERN_BYTES_MAX    65536u

static void *pcre2_allocate(size_t bytes, void *user) {
    (void)user;
    return mem_alloc(bytes, 1);
}

static void pcre2_release(void *memory, void *user) {
    (void)user;
    mem_free(memory);
}

static cento_status compile_failed(const char *where, int code, size_t offset, cento_error *error) {
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return error_memory(error, 0);
    PCRE2_UCHAR message[256] = "unknown error";
    pcre2_get_error_message(code, message, sizeof message);
    return error_set(error, CENTO_UNSUPPORTED, "%s: the regular expression does not compile: %s (offset %zu)",
                     where, (const char *)message, offset);
}

static cento_status compile_translated(const char *where, const char *pattern, size_t bytes, bool literal,
                                       split_regex *regex, cento_error *error) {
    pcre2_general_context *general = pcre2_general_context_create(pcre2_allocate, pcre2_release, NULL);
    pcre2_compile_context *context = general == NULL ? NULL : pcre2_compile_context_create(general);
    cento_status status = CENTO_OK;
    if (context == NULL) {
        status = error_memory(error, 0);
    } else {
        uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
        /* Ruby: ^ and $ are about lines, and only \n ends one */
        options |= literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        int code;
        PCRE2_SIZE offset;
        regex->code = pcre2_compile((PCRE2_SPTR)pattern, bytes, options, &code, &offset, context);
        if (regex->code == NULL)
            status = compile_failed(where, code, offset, error);
        else
            /* where there is no JIT the interpreter runs: slower, same matches */
            (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    return status;
}

cento_status split_regex_compile(const char *where, const char *pattern, size_t bytes, bool literal,
                                 split_regex **result, cento_error *error) {
    if (bytes > PATTERN_BYTES_MAX)
        return error_set(error, CENTO_UNSUPPORTED, "%s: a pattern of %zu bytes is longer than %u", where,
                         bytes, PATTERN_BYTES_MAX);
    split_regex *regex = mem_zalloc(1, sizeof *regex);
    if (regex == NULL)
        return error_memory(error, sizeof *regex);
    strbuf translated = {0};
    cento_status status;
    if (literal) {
        status = compile_translated(where, pattern, bytes, true, regex, error);
    } else {
        status = split_regex_translate(where, pattern, bytes, &translated, error);
        if (status == CENTO_OK)
            status = compile_translated(where, translated.data == NULL ? "" : translated.data,
                                        translated.bytes, false, regex, error);
    }
    strbuf_free(&translated);
    if (status == CENTO_OK)
        *result = regex;
    else
        split_regex_free(regex);
    return status;
}

void split_regex_free(split_regex *regex) {
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    mem_free(regex);
}

static cento_status scratch_prepare(regex_scratch *scratch, cento_error *error) {
    if (scratch->match_data != NULL)
        return CENTO_OK;
    pcre2_general_context *general = pcre2_general_context_create(pcre2_allocate, pcre2_release, NULL);
    if (general == NULL)
        return error_memory(error, 0);
    /* one pair of offsets: captures are not wanted */
    scratch->match_data = pcre2_match_data_create(1, general);
    scratch->match_context = pcre2_match_context_create(general);
    pcre2_general_context_free(general);
    if (scratch->match_data == NULL || scratch->match_context == NULL) {
        regex_scratch_free(scratch);
        return error_memory(error, 0);
    }
    pcre2_set_heap_limit(scratch->match_context, HEAP_LIMIT_KIB);
    return CENTO_OK;
}

void regex_scratch_free(regex_scratch *scratch) {
    pcre2_match_data_free(scratch->match_data);
    pcre2_match_context_free(scratch->match_context);
    *scratch = (regex_scratch){0};
}

void regex_walk_begin(regex_walk *walk, const split_regex *regex, regex_scratch *scratch, const char *text,
                      size_t bytes) {
    *walk = (regex_walk){.regex = regex, .scratch = scratch, .text = text, .bytes = bytes};
}

static int match_at(const regex_walk *walk, size_t offset) {
    pcre2_match_context *context = walk->scratch->match_context;
    pcre2_match_data *data = walk->scratch->match_data;
    uint64_t limit = MATCH_LIMIT_BASE + (uint64_t)(walk->bytes - offset) * MATCH_LIMIT_PER_BYTE;
    pcre2_set_match_limit(context, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit);
    PCRE2_SPTR subject = (PCRE2_SPTR)walk->text;
    int code =
        pcre2_match(walk->regex->code, subject, walk->bytes, offset, PCRE2_NO_UTF_CHECK, data, context);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its frames on the heap */
        code = pcre2_match(walk->regex->code, subject, walk->bytes, offset, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                           data, context);
    return code;
}

cento_status regex_walk_next(regex_walk *walk, bool *found, size_t *begin, size_t *end, cento_error *error) {
    TRY(scratch_prepare(walk->scratch, error));
    *found = false;
    while (!walk->ended) {
        if (walk->next > walk->bytes) {
            walk->ended = true;
            break;
        }
        int code = match_at(walk, walk->next);
        if (code == PCRE2_ERROR_NOMATCH) {
            walk->ended = true;
            break;
        }
        if (code == PCRE2_ERROR_NOMEMORY)
            return error_memory(error, 0);
        if (code < 0) {
            PCRE2_UCHAR message[256] = "unknown error";
            pcre2_get_error_message(code, message, sizeof message);
            return error_set(error, CENTO_UNSUPPORTED,
                             "the tokenizer's regular expression failed on this text at byte %zu of %zu: %s",
                             walk->next, walk->bytes, (const char *)message);
        }
        const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(walk->scratch->match_data);
        size_t match_begin = offsets[0], match_end = offsets[1];
        /* \K can put the begin behind the end or before the match before: no tokenizer means that */
        if (match_begin > match_end || match_begin < walk->last_end)
            match_begin = match_end;
        if (match_begin == match_end && walk->matched && match_end == walk->last_end) {
            uint32_t codepoint;
            size_t step = walk->next < walk->bytes
                              ? utf8_decode(walk->text + walk->next, walk->bytes - walk->next, &codepoint)
                              : 1;
            walk->next += step == 0 ? 1 : step;
            continue;
        }
        walk->next = walk->last_end = match_end;
        walk->matched = true;
        *found = true;
        *begin = match_begin;
        *end = match_end;
        return CENTO_OK;
    }
    return CENTO_OK;
}

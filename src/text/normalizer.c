/* Normalizers: what Hugging Face's normalizers of these names do, over whole texts. Unicode's forms through
 * utf8proc's tables; the ordering of combining marks is done here, so that a long run of marks costs linear
 * time. See tokenizer_internal.h. */
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

bool codepoint_is_space(uint32_t codepoint) {
    return (codepoint >= 0x09 && codepoint <= 0x0D) || codepoint == 0x20 || codepoint == 0x85 ||
           codepoint == 0xA0 || codepoint == 0x1680 || (codepoint >= 0x2000 && codepoint <= 0x200A) ||
           codepoint == 0x2028 || codepoint == 0x2029 || codepoint == 0x202F || codepoint == 0x205F ||
           codepoint == 0x3000;
}

static bool is_mark(uint32_t codepoint) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)codepoint);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
           category == UTF8PROC_CATEGORY_ME;
}

bool codepoint_is_word(uint32_t codepoint) {
    switch (utf8proc_category((utf8proc_int32_t)codepoint)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        /* join controls, and the symbols that are alphabetic: circled and squared letters */
        return codepoint == 0x200C || codepoint == 0x200D || (codepoint >= 0x24B6 && codepoint <= 0x24E9) ||
               (codepoint >= 0x1F130 && codepoint <= 0x1F149) ||
               (codepoint >= 0x1F150 && codepoint <= 0x1F169) ||
               (codepoint >= 0x1F170 && codepoint <= 0x1F189);
    }
}

/* ------------------------------------------------------------------ NFC and its kin -------- */

/* Nothing below U+0300 composes with its neighbour or has to be reordered, so NFC leaves it alone. */
static bool unchanged_by_nfc(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] >= 0xCC)
            return false;
    return true;
}

static bool is_ascii(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] >= 0x80)
            return false;
    return true;
}

static int combining_class(int32_t codepoint) {
    return utf8proc_get_property(codepoint)->combining_class;
}

/* Sorts a run of marks by combining class, stably: one counting pass over the classes there are. `sorted`
 * has room for count. */
static void sort_marks(int32_t *marks, int32_t *sorted, size_t count) {
    size_t start[256] = {0};
    for (size_t i = 0; i < count; i++)
        start[combining_class(marks[i]) & 255]++;
    size_t sum = 0;
    for (size_t class = 0; class < 256; class ++) {
        size_t here = start[class];
        start[class] = sum;
        sum += here;
    }
    for (size_t i = 0; i < count; i++)
        sorted[start[combining_class(marks[i]) & 255]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *marks);
}

static void order_marks(int32_t *codepoints, int32_t *spare, size_t count) {
    for (size_t i = 0; i < count;) {
        if (combining_class(codepoints[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        bool ordered = true;
        for (; end < count && combining_class(codepoints[end]) != 0; end++)
            ordered = ordered && combining_class(codepoints[end - 1]) <= combining_class(codepoints[end]);
        if (!ordered)
            sort_marks(codepoints + i, spare, end - i);
        i = end;
    }
}

static cento_status unicode_form(normalizer_kind kind, encode_scratch *scratch, const char *text,
                                 size_t bytes, strbuf *out, cento_error *error) {
    bool composed = kind == NORMALIZER_NFC || kind == NORMALIZER_NFKC;
    bool compatible = kind == NORMALIZER_NFKC || kind == NORMALIZER_NFKD;
    if ((kind == NORMALIZER_NFC && unchanged_by_nfc(text, bytes)) || is_ascii(text, bytes)) {
        strbuf_append(out, text, bytes);
        return strbuf_check(out, error);
    }
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (compatible)
        options |= UTF8PROC_COMPAT;
    size_t count = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(text + at, bytes - at, &codepoint);
        at += length == 0 ? 1 : length;
        /* 18 is the longest decomposition there is (U+FDFA); twice: the second half is for sorting */
        if (count + 32 > scratch->codepoint_capacity / 2 &&
            !mem_grow((void **)&scratch->codepoints, &scratch->codepoint_capacity, 2 * (count + 32) + bytes,
                      sizeof *scratch->codepoints))
            return error_memory(error, 2 * (count + 32) * sizeof *scratch->codepoints);
        int boundary_class = 0;
        utf8proc_ssize_t written = utf8proc_decompose_char(
            (utf8proc_int32_t)codepoint, scratch->codepoints + count, 32, options, &boundary_class);
        if (written < 0 || written > 32)
            return error_set(error, CENTO_INTERNAL, "normalizing U+%04X failed: %s", codepoint,
                             utf8proc_errmsg(written));
        count += (size_t)written;
    }
    order_marks(scratch->codepoints, scratch->codepoints + scratch->codepoint_capacity / 2, count);
    if (composed)
        count = (size_t)utf8proc_normalize_utf32(scratch->codepoints, (utf8proc_ssize_t)count,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (size_t i = 0; i < count; i++)
        strbuf_put_codepoint(out, (uint32_t)scratch->codepoints[i]);
    return strbuf_check(out, error);
}

/* ------------------------------------------------------------------ the others ------------- */

static void lowercase(const char *text, size_t bytes, strbuf *out) {
    for (size_t at = 0; at < bytes;) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(text + at, bytes - at, &codepoint);
        at += length == 0 ? 1 : length;
        if (codepoint == 0x130) /* the only character whose lower case is two */
            strbuf_puts(out, "i\xCC\x87");
        else
            strbuf_put_codepoint(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)codepoint));
    }
}

static void strip_accents(const char *text, size_t bytes, strbuf *out) {
    for (size_t at = 0; at < bytes;) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(text + at, bytes - at, &codepoint);
        if (length == 0)
            length = 1;
        if (!is_mark(codepoint))
            strbuf_append(out, text + at, length);
        at += length;
    }
}

static void strip(const normalizer_step *step, const char *text, size_t bytes, strbuf *out) {
    size_t begin = 0, kept_end = 0;
    bool leading = step->strip_left;
    for (size_t at = 0; at < bytes;) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(text + at, bytes - at, &codepoint);
        at += length == 0 ? 1 : length;
        bool space = codepoint_is_space(codepoint);
        leading = leading && space;
        if (leading)
            begin = at;
        if (!space)
            kept_end = at;
    }
    size_t end = step->strip_right ? kept_end : bytes;
    if (begin < end)
        strbuf_append(out, text + begin, end - begin);
}

static cento_status replace(const normalizer_step *step, encode_scratch *scratch, const char *text,
                            size_t bytes, strbuf *out, cento_error *error) {
    regex_walk walk;
    regex_walk_begin(&walk, step->pattern, &scratch->regex, text, bytes);
    size_t copied = 0;
    for (;;) {
        bool found;
        size_t begin = 0, end = 0;
        TRY(regex_walk_next(&walk, &found, &begin, &end, error));
        if (!found)
            break;
        strbuf_append(out, text + copied, begin - copied);
        strbuf_append(out, step->content, step->content_bytes);
        copied = end;
    }
    strbuf_append(out, text + copied, bytes - copied);
    return CENTO_OK;
}

static cento_status run_step(const normalizer_step *step, encode_scratch *scratch, const char *text,
                             size_t bytes, strbuf *out, cento_error *error) {
    switch (step->kind) {
    case NORMALIZER_NFC:
    case NORMALIZER_NFD:
    case NORMALIZER_NFKC:
    case NORMALIZER_NFKD:
        TRY(unicode_form(step->kind, scratch, text, bytes, out, error));
        break;
    case NORMALIZER_LOWERCASE:
        lowercase(text, bytes, out);
        break;
    case NORMALIZER_PREPEND:
        if (bytes > 0)
            strbuf_append(out, step->content, step->content_bytes);
        strbuf_append(out, text, bytes);
        break;
    case NORMALIZER_REPLACE:
        TRY(replace(step, scratch, text, bytes, out, error));
        break;
    case NORMALIZER_STRIP:
        strip(step, text, bytes, out);
        break;
    case NORMALIZER_STRIP_ACCENTS:
        strip_accents(text, bytes, out);
        break;
    }
    return strbuf_check(out, error);
}

cento_status normalizer_run(const normalizer_step *steps, size_t count, encode_scratch *scratch,
                            const char *text, size_t bytes, const char **result, size_t *result_bytes,
                            bool *cut, cento_error *error) {
    *cut = false;
    *result = text;
    *result_bytes = bytes;
    for (size_t i = 0; i < count; i++) {
        if (steps[i].kind == NORMALIZER_NFC && unchanged_by_nfc(*result, *result_bytes))
            continue;
        uint32_t first = 0;
        if (steps[i].kind == NORMALIZER_STRIP && steps[i].strip_left &&
            utf8_decode(*result, *result_bytes, &first) > 0 && codepoint_is_space(first))
            *cut = true;
        strbuf_clear(&scratch->normalizing);
        TRY(run_step(&steps[i], scratch, *result, *result_bytes, &scratch->normalizing, error));
        strbuf done = scratch->normalizing;
        scratch->normalizing = scratch->normalized;
        scratch->normalized = done;
        *result = done.data == NULL ? "" : done.data;
        *result_bytes = done.bytes;
        if (*result_bytes > TEXT_BYTES_MAX)
            return error_set(error, CENTO_INVALID_ARGUMENT, "the normalized text is larger than %zu bytes",
                             TEXT_BYTES_MAX);
    }
    return CENTO_OK;
}

void normalizer_step_free(normalizer_step *step) {
    split_regex_free(step->pattern);
    mem_free(step->content);
    *step = (normalizer_step){0};
}

/* Pre-tokenizers: cutting a text into the words that BPE sees, as Hugging Face's pre-tokenizers of these
 * names do. Every one of them is a few of four steps (see pretokenizer_kind). Steps work on a text and spans
 * of it; only some change the text. See tokenizer_internal.h. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

const char byte_level_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* GPT-2's bytes_to_unicode: printable bytes stand for themselves, the other 68 are U+0100 and on. */
const uint16_t byte_level_codepoint[256] = {
#define ROW(a) a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7
    ROW(0x100), ROW(0x108), ROW(0x110), ROW(0x118), /* 00 */
    0x120,      0x21,       0x22,       0x23,       0x24,      0x25,      0x26,      0x27,
    ROW(0x28),  ROW(0x30),  ROW(0x38),                                                      /* 20 */
    ROW(0x40),  ROW(0x48),  ROW(0x50),  ROW(0x58),  ROW(0x60), ROW(0x68), ROW(0x70),        /* 40 */
    0x78,       0x79,       0x7A,       0x7B,       0x7C,      0x7D,      0x7E,      0x121, /* 78 */
    ROW(0x122), ROW(0x12A), ROW(0x132), ROW(0x13A),                                         /* 80 */
    0x142,      0xA1,       0xA2,       0xA3,       0xA4,      0xA5,      0xA6,      0xA7,  /* A0 */
    0xA8,       0xA9,       0xAA,       0xAB,       0xAC,      0x143,     0xAE,      0xAF,  /* A8 */
    ROW(0xB0),  ROW(0xB8),  ROW(0xC0),  ROW(0xC8),  ROW(0xD0), ROW(0xD8),                   /* B0 */
    ROW(0xE0),  ROW(0xE8),  ROW(0xF0),  ROW(0xF8),                                          /* E0 */
#undef ROW
};

int byte_level_byte(uint32_t codepoint) {
    if (codepoint >= 0x100 && codepoint < BYTE_LEVEL_CODEPOINTS) {
        if (codepoint <= 0x120)
            return (int)(codepoint - 0x100);
        if (codepoint <= 0x142)
            return (int)(codepoint - 0x121 + 0x7F);
        return 0xAD;
    }
    return codepoint < 0x100 && byte_level_codepoint[codepoint] == codepoint ? (int)codepoint : -1;
}

static cento_status push_span(span_vec *spans, size_t begin, size_t end, cento_error *error) {
    if (!mem_grow((void **)&spans->items, &spans->capacity, spans->count + 1, sizeof *spans->items))
        return error_memory(error, spans->capacity * sizeof *spans->items);
    spans->items[spans->count++] = (text_span){begin, end};
    return CENTO_OK;
}

/* ------------------------------------------------------------------ splitting -------------- */

/* Takes matches and what lies between them, in order, and gives spans as the behavior says. Empty ones take
 * part and are dropped at the end: an empty match still divides. */
typedef struct splitter {
    const pretokenizer_step *step;
    span_vec *spans;
    size_t base; /* spans->count when this text began */
    bool previous_match;
    bool held; /* MERGED_WITH_NEXT: a match that waits for what follows */
    text_span held_span;
} splitter;

static cento_status split_push(splitter *state, size_t begin, size_t end, bool match, cento_error *error) {
    match = match != state->step->invert;
    bool previous = state->previous_match;
    state->previous_match = match;
    span_vec *spans = state->spans;
    text_span *last = spans->count > state->base ? &spans->items[spans->count - 1] : NULL;
    switch (state->step->behavior) {
    case SPLIT_REMOVED:
        return match ? CENTO_OK : push_span(spans, begin, end, error);
    case SPLIT_ISOLATED:
        return push_span(spans, begin, end, error);
    case SPLIT_CONTIGUOUS:
        if (match == previous && last != NULL) {
            last->end = end;
            return CENTO_OK;
        }
        return push_span(spans, begin, end, error);
    case SPLIT_MERGED_WITH_PREVIOUS:
        if (match && !previous && last != NULL) {
            last->end = end;
            return CENTO_OK;
        }
        return push_span(spans, begin, end, error);
    case SPLIT_MERGED_WITH_NEXT:
        if (state->held) {
            state->held = false;
            if (!match)
                return push_span(spans, state->held_span.begin, end, error);
            TRY(push_span(spans, state->held_span.begin, state->held_span.end, error));
        }
        if (!match)
            return push_span(spans, begin, end, error);
        state->held = true;
        state->held_span = (text_span){begin, end};
        return CENTO_OK;
    }
    return error_set(error, CENTO_INTERNAL, "unknown split behavior");
}

static cento_status split_finish(splitter *state, cento_error *error) {
    if (state->held)
        TRY(push_span(state->spans, state->held_span.begin, state->held_span.end, error));
    span_vec *spans = state->spans;
    size_t kept = state->base;
    for (size_t i = state->base; i < spans->count; i++)
        if (spans->items[i].begin < spans->items[i].end)
            spans->items[kept++] = spans->items[i];
    spans->count = kept;
    return CENTO_OK;
}

static cento_status split_span(const pretokenizer_step *step, regex_scratch *scratch, const char *text,
                               text_span span, span_vec *spans, cento_error *error) {
    splitter state = {.step = step, .spans = spans, .base = spans->count};
    regex_walk walk;
    regex_walk_begin(&walk, step->pattern, scratch, text + span.begin, span.end - span.begin);
    size_t given = span.begin;
    for (;;) {
        bool found;
        size_t begin = 0, end = 0;
        TRY(regex_walk_next(&walk, &found, &begin, &end, error));
        if (!found)
            break;
        if (given != span.begin + begin)
            TRY(split_push(&state, given, span.begin + begin, false, error));
        TRY(split_push(&state, span.begin + begin, span.begin + end, true, error));
        given = span.begin + end;
    }
    if (given != span.end)
        TRY(split_push(&state, given, span.end, false, error));
    return split_finish(&state, error);
}

/* ------------------------------------------------------------------ changing the text ------ */

static void map_bytes(const char *text, text_span span, strbuf *out) {
    for (size_t i = span.begin; i < span.end; i++) {
        uint32_t codepoint = byte_level_codepoint[(unsigned char)text[i]];
        if (codepoint < 0x80)
            strbuf_putc(out, (char)codepoint);
        else
            strbuf_put_codepoint(out, codepoint);
    }
}

static void map_metaspace(const pretokenizer_step *step, const char *text, text_span span, bool at_origin,
                          strbuf *out) {
    size_t bytes = span.end - span.begin;
    const char *begin = text + span.begin;
    bool starts = begin[0] == ' ' || (bytes >= step->replacement_bytes &&
                                      memcmp(begin, step->replacement, step->replacement_bytes) == 0);
    if (!starts && (step->scheme == PREFIX_ALWAYS || (step->scheme == PREFIX_FIRST && at_origin)))
        strbuf_append(out, step->replacement, step->replacement_bytes);
    for (size_t i = 0; i < bytes; i++)
        if (begin[i] == ' ')
            strbuf_append(out, step->replacement, step->replacement_bytes);
        else
            strbuf_putc(out, begin[i]);
}

/* Every span rewritten into another text; the spans follow. */
static cento_status map_text(const pretokenizer_step *step, encode_scratch *scratch, const char *text,
                             bool at_origin, const char **result, cento_error *error) {
    strbuf *out = &scratch->mapping;
    strbuf_clear(out);
    for (size_t i = 0; i < scratch->spans.count; i++) {
        text_span *span = &scratch->spans.items[i];
        size_t begin = out->bytes;
        if (step->kind == PRETOKENIZER_BYTES) {
            map_bytes(text, *span, out);
        } else if (step->kind == PRETOKENIZER_METASPACE) {
            map_metaspace(step, text, *span, at_origin && span->begin == 0, out);
        } else {
            if (text[span->begin] != ' ')
                strbuf_putc(out, ' ');
            strbuf_append(out, text + span->begin, span->end - span->begin);
        }
        *span = (text_span){begin, out->bytes};
        if (out->bytes > 2 * TEXT_BYTES_MAX)
            return error_set(error, CENTO_INVALID_ARGUMENT, "the pre-tokenized text is larger than %zu bytes",
                             2 * TEXT_BYTES_MAX);
    }
    TRY(strbuf_check(out, error));
    strbuf done = scratch->mapping;
    scratch->mapping = scratch->mapped;
    scratch->mapped = done;
    *result = done.data == NULL ? "" : done.data;
    return CENTO_OK;
}

cento_status pretokenizer_run(const pretokenizer_step *steps, size_t count, encode_scratch *scratch,
                              const char *text, size_t bytes, bool at_origin, const char **result,
                              cento_error *error) {
    *result = text;
    scratch->spans.count = 0;
    if (bytes == 0)
        return CENTO_OK;
    TRY(push_span(&scratch->spans, 0, bytes, error));
    for (size_t i = 0; i < count; i++) {
        if (steps[i].kind != PRETOKENIZER_SPLIT) {
            /* the first span is still at the origin if nothing before it was removed */
            TRY(map_text(&steps[i], scratch, *result, at_origin, result, error));
            continue;
        }
        scratch->next_spans.count = 0;
        for (size_t span = 0; span < scratch->spans.count; span++)
            TRY(split_span(&steps[i], &scratch->regex, *result, scratch->spans.items[span],
                           &scratch->next_spans, error));
        span_vec done = scratch->next_spans;
        scratch->next_spans = scratch->spans;
        scratch->spans = done;
        at_origin = at_origin && scratch->spans.count > 0 && scratch->spans.items[0].begin == 0;
    }
    return CENTO_OK;
}

void pretokenizer_step_free(pretokenizer_step *step) {
    split_regex_free(step->pattern);
    *step = (pretokenizer_step){0};
}

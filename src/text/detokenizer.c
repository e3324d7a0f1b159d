/*
 * Ids back into text. The decoder is a chain of steps, each of which takes tokens (or, once a step has
 * joined them, one text in parts), keeps what it cannot decide yet, and hands on the rest. Decoding a whole
 * list and streaming are the same chain, so the parts of a stream add up to the whole. What a step hands on
 * ends between two characters, always.
 */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

typedef struct step_state {
    strbuf held;   /* bytes that wait */
    size_t seen;   /* tokens (METASPACE) or stripped characters (STRIP) so far */
    bool stripped; /* STRIP: the start is behind */
} step_state;

struct decoder_state {
    step_state steps[STEPS_MAX];
    strbuf work; /* REPLACE */
    regex_scratch regex;
    bool started; /* a token came */
};

void decoder_state_free(struct decoder_state *state) {
    if (state == NULL)
        return;
    for (size_t i = 0; i < STEPS_MAX; i++)
        strbuf_free(&state->steps[i].held);
    strbuf_free(&state->work);
    regex_scratch_free(&state->regex);
    mem_free(state);
}

typedef struct decoding {
    const tokenizer *tokens;
    struct decoder_state *state;
    strbuf *text;
} decoding;

static cento_status step_push(decoding *run, size_t index, const char *part, size_t bytes,
                              cento_error *error);
static cento_status step_finish(decoding *run, size_t index, cento_error *error);

static const char *text_of(const strbuf *buffer) {
    return buffer->data == NULL ? "" : buffer->data;
}

static void drop_front(strbuf *buffer, size_t bytes) {
    if (bytes == 0)
        return;
    memmove(buffer->data, buffer->data + bytes, buffer->bytes - bytes);
    buffer->bytes -= bytes;
    buffer->data[buffer->bytes] = '\0';
}

/* ------------------------------------------------------------------ bytes ------------------ */

/* Hands on held bytes as text: each maximal invalid subpart becomes U+FFFD. An unfinished character at the
 * end waits unless this is the end. */
static cento_status hand_on_bytes(decoding *run, size_t index, bool end, cento_error *error) {
    strbuf *held = &run->state->steps[index].held;
    TRY(strbuf_check(held, error));
    size_t ready = end ? held->bytes : utf8_complete_prefix(text_of(held), held->bytes);
    for (size_t at = 0; at < ready;) {
        size_t valid = utf8_invalid_offset(held->data + at, ready - at);
        size_t good = valid == SIZE_MAX ? ready - at : valid;
        if (good > 0)
            TRY(step_push(run, index + 1, held->data + at, good, error));
        at += good;
        if (at < ready) {
            at += utf8_invalid_subpart(held->data + at, ready - at);
            TRY(step_push(run, index + 1, "\xEF\xBF\xBD", 3, error));
        }
    }
    drop_front(held, ready);
    return CENTO_OK;
}

/* A token whose characters all stand for bytes is these bytes, any other is its own text. */
static cento_status push_bytes(decoding *run, size_t index, const char *part, size_t bytes,
                               cento_error *error) {
    strbuf *held = &run->state->steps[index].held;
    size_t before = held->bytes;
    for (size_t at = 0; at < bytes;) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(part + at, bytes - at, &codepoint);
        int byte = length == 0 ? -1 : byte_level_byte(codepoint);
        if (byte < 0) {
            held->bytes = before;
            strbuf_append(held, part, bytes);
            break;
        }
        strbuf_putc(held, (char)byte);
        at += length;
    }
    return hand_on_bytes(run, index, false, error);
}

/* ------------------------------------------------------------------ byte fallback ---------- */

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

static int fallback_byte(const char *token, size_t bytes) {
    if (bytes != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>')
        return -1;
    int high = hex_value(token[3]), low = hex_value(token[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* A run of byte tokens is text if all of it is valid, else one U+FFFD for each byte: so it waits until it
 * has ended. */
static cento_status end_fallback_run(decoding *run, size_t index, cento_error *error) {
    strbuf *held = &run->state->steps[index].held;
    TRY(strbuf_check(held, error));
    size_t bytes = held->bytes;
    if (bytes == 0)
        return CENTO_OK;
    if (utf8_valid(held->data, bytes))
        TRY(step_push(run, index + 1, held->data, bytes, error));
    else
        for (size_t i = 0; i < bytes; i++)
            TRY(step_push(run, index + 1, "\xEF\xBF\xBD", 3, error));
    strbuf_clear(held);
    return CENTO_OK;
}

static cento_status push_fallback(decoding *run, size_t index, const char *part, size_t bytes,
                                  cento_error *error) {
    int byte = fallback_byte(part, bytes);
    if (byte >= 0) {
        strbuf_putc(&run->state->steps[index].held, (char)byte);
        return CENTO_OK;
    }
    TRY(end_fallback_run(run, index, error));
    return step_push(run, index + 1, part, bytes, error);
}

/* ------------------------------------------------------------------ strip ------------------ */

static bool at_content(const decoder_step *step, const char *text, size_t bytes) {
    return bytes >= step->content_bytes && memcmp(text, step->content, step->content_bytes) == 0;
}

/* One whole token. */
static cento_status strip_token(decoding *run, size_t index, const char *part, size_t bytes,
                                cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    size_t begin = 0, end = bytes;
    for (size_t i = 0; i < step->strip_start && at_content(step, part + begin, bytes - begin); i++)
        begin += step->content_bytes;
    for (size_t i = 0; i < step->strip_stop && end >= begin + step->content_bytes &&
                       at_content(step, part + end - step->content_bytes, step->content_bytes);
         i++)
        end -= step->content_bytes;
    return step_push(run, index + 1, part + begin, end - begin, error);
}

/* A text in parts: the start is stripped as it comes, what may be the end waits. */
static cento_status strip_part(decoding *run, size_t index, const char *part, size_t bytes,
                               cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    step_state *state = &run->state->steps[index];
    while (!state->stripped && bytes > 0) {
        if (state->seen < step->strip_start && at_content(step, part, bytes)) {
            state->seen++;
            part += step->content_bytes;
            bytes -= step->content_bytes;
        } else {
            state->stripped = true;
        }
    }
    if (step->strip_stop == 0)
        return step_push(run, index + 1, part, bytes, error);
    strbuf_append(&state->held, part, bytes);
    TRY(strbuf_check(&state->held, error));
    size_t waiting = 0;
    for (size_t i = 0; i < step->strip_stop; i++) {
        size_t left = state->held.bytes - waiting;
        if (left < step->content_bytes ||
            !at_content(step, state->held.data + left - step->content_bytes, step->content_bytes))
            break;
        waiting += step->content_bytes;
    }
    size_t ready = state->held.bytes - waiting;
    if (ready > 0)
        TRY(step_push(run, index + 1, state->held.data, ready, error));
    drop_front(&state->held, ready);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ replace ---------------- */

static cento_status replace_all(decoding *run, size_t index, const char *text, size_t bytes,
                                cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    strbuf replaced = {0};
    regex_walk walk;
    regex_walk_begin(&walk, step->pattern, &run->state->regex, text, bytes);
    size_t copied = 0;
    cento_status status = CENTO_OK;
    for (;;) {
        bool found;
        size_t begin = 0, end = 0;
        status = regex_walk_next(&walk, &found, &begin, &end, error);
        if (status != CENTO_OK || !found)
            break;
        strbuf_append(&replaced, text + copied, begin - copied);
        strbuf_append(&replaced, step->content, step->content_bytes);
        copied = end;
    }
    strbuf_append(&replaced, text + copied, bytes - copied);
    if (status == CENTO_OK)
        status = strbuf_check(&replaced, error);
    if (status == CENTO_OK)
        status = step_push(run, index + 1, replaced.data, replaced.bytes, error);
    strbuf_free(&replaced);
    return status;
}

/* A string in a text in parts: what may be the beginning of the string waits. */
static cento_status replace_part(decoding *run, size_t index, bool end, cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    strbuf *held = &run->state->steps[index].held;
    TRY(strbuf_check(held, error));
    size_t at = 0, handed = 0;
    while (at < held->bytes) {
        size_t left = held->bytes - at;
        if (left < step->literal_bytes && !end && memcmp(held->data + at, step->literal, left) == 0)
            break;
        if (left >= step->literal_bytes && memcmp(held->data + at, step->literal, step->literal_bytes) == 0) {
            if (at > handed)
                TRY(step_push(run, index + 1, held->data + handed, at - handed, error));
            TRY(step_push(run, index + 1, step->content, step->content_bytes, error));
            at += step->literal_bytes;
            handed = at;
        } else {
            at++;
        }
    }
    if (at > handed)
        TRY(step_push(run, index + 1, held->data + handed, at - handed, error));
    drop_front(held, at);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ metaspace -------------- */

static cento_status metaspace_token(decoding *run, size_t index, const char *part, size_t bytes,
                                    cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    bool vanish = run->state->steps[index].seen++ == 0 && step->strip_first;
    strbuf spaced = {0};
    for (size_t at = 0; at < bytes;) {
        if (at_content(step, part + at, bytes - at)) {
            if (!vanish)
                strbuf_putc(&spaced, ' ');
            at += step->content_bytes;
        } else {
            strbuf_putc(&spaced, part[at++]);
        }
    }
    cento_status status = strbuf_check(&spaced, error);
    if (status == CENTO_OK)
        status = step_push(run, index + 1, text_of(&spaced), spaced.bytes, error);
    strbuf_free(&spaced);
    return status;
}

/* ------------------------------------------------------------------ the chain -------------- */

/* Steps that look at a whole token, behind a step that joined the tokens: the text waits to its end. */
static bool waits_for_all(const decoder_step *step) {
    return step->joined &&
           (step->kind == DECODER_BYTES || step->kind == DECODER_BYTE_FALLBACK ||
            step->kind == DECODER_METASPACE ||
            (step->kind == DECODER_REPLACE && (step->literal == NULL || step->literal_bytes == 0)));
}

static cento_status push_token(decoding *run, size_t index, const char *part, size_t bytes,
                               cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    switch (step->kind) {
    case DECODER_BYTES:
        return push_bytes(run, index, part, bytes, error);
    case DECODER_BYTE_FALLBACK:
        return push_fallback(run, index, part, bytes, error);
    case DECODER_FUSE:
        return step_push(run, index + 1, part, bytes, error);
    case DECODER_STRIP:
        return step->joined ? strip_part(run, index, part, bytes, error)
                            : strip_token(run, index, part, bytes, error);
    case DECODER_REPLACE:
        if (!step->joined || step->literal == NULL || step->literal_bytes == 0)
            return replace_all(run, index, part, bytes, error);
        strbuf_append(&run->state->steps[index].held, part, bytes);
        return replace_part(run, index, false, error);
    case DECODER_METASPACE:
        return metaspace_token(run, index, part, bytes, error);
    }
    return error_set(error, CENTO_INTERNAL, "unknown decoder step");
}

static cento_status step_push(decoding *run, size_t index, const char *part, size_t bytes,
                              cento_error *error) {
    if (index == run->tokens->decoder_count) {
        strbuf_append(run->text, part, bytes);
        return CENTO_OK;
    }
    const decoder_step *step = &run->tokens->decoder[index];
    if (!waits_for_all(step))
        return push_token(run, index, part, bytes, error);
    strbuf_append(&run->state->steps[index].held, part, bytes);
    return CENTO_OK;
}

static cento_status step_finish(decoding *run, size_t index, cento_error *error) {
    const decoder_step *step = &run->tokens->decoder[index];
    strbuf *held = &run->state->steps[index].held;
    if (waits_for_all(step)) {
        TRY(strbuf_check(held, error));
        strbuf whole = *held;
        *held = (strbuf){0};
        cento_status status = push_token(run, index, text_of(&whole), whole.bytes, error);
        strbuf_free(&whole);
        TRY(status);
    }
    switch (step->kind) {
    case DECODER_BYTES:
        return hand_on_bytes(run, index, true, error);
    case DECODER_BYTE_FALLBACK:
        return end_fallback_run(run, index, error);
    case DECODER_REPLACE:
        return step->joined && !waits_for_all(step) ? replace_part(run, index, true, error) : CENTO_OK;
    case DECODER_STRIP: /* what waited is what is stripped */
    case DECODER_FUSE:
    case DECODER_METASPACE:
        return CENTO_OK;
    }
    return CENTO_OK;
}

static cento_status push_id(decoding *run, int32_t id, bool skip_special, cento_error *error) {
    const vocabulary *words = &run->tokens->words;
    if (id < 0 || (size_t)id >= words->size || words->entries[id].spelling == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "token id %d is not in the vocabulary (%zu ids)", id,
                         words->size);
    const vocabulary_entry *entry = &words->entries[id];
    if (skip_special && entry->special)
        return CENTO_OK;
    if (run->tokens->decoder_spaces && run->state->started)
        strbuf_putc(run->text, ' ');
    run->state->started = true;
    if (entry->verbatim && run->tokens->decoder_count > 0 && run->tokens->decoder[0].kind == DECODER_BYTES) {
        strbuf_append(&run->state->steps[0].held, entry->spelling, entry->bytes);
        TRY(hand_on_bytes(run, 0, false, error));
    } else if (entry->decoded != NULL) {
        TRY(step_push(run, 0, entry->decoded, entry->decoded_bytes, error));
    } else {
        TRY(step_push(run, 0, entry->spelling, entry->bytes, error));
    }
    return strbuf_check(run->text, error);
}

static cento_status finish_all(decoding *run, cento_error *error) {
    for (size_t i = 0; i < run->tokens->decoder_count; i++)
        TRY(step_finish(run, i, error));
    return strbuf_check(run->text, error);
}

static cento_status ensure_state(struct decoder_state **state, cento_error *error) {
    if (*state == NULL)
        *state = mem_zalloc(1, sizeof **state);
    return *state == NULL ? error_memory(error, sizeof **state) : CENTO_OK;
}

cento_status tokenizer_decode(const tokenizer *tokens, const int32_t *ids, size_t count, bool skip_special,
                              strbuf *text, cento_error *error) {
    struct decoder_state *state = NULL;
    TRY(ensure_state(&state, error));
    decoding run = {.tokens = tokens, .state = state, .text = text};
    cento_status status = CENTO_OK;
    for (size_t i = 0; status == CENTO_OK && i < count; i++)
        status = push_id(&run, ids[i], skip_special, error);
    if (status == CENTO_OK)
        status = finish_all(&run, error);
    decoder_state_free(state);
    return status;
}

void detokenizer_init(detokenizer *state, const tokenizer *tokens, bool skip_special) {
    *state = (detokenizer){.tokens = tokens, .skip_special = skip_special};
}

cento_status detokenizer_push(detokenizer *state, int32_t id, strbuf *text, cento_error *error) {
    TRY(ensure_state(&state->state, error));
    decoding run = {.tokens = state->tokens, .state = state->state, .text = text};
    return push_id(&run, id, state->skip_special, error);
}

cento_status detokenizer_finish(detokenizer *state, strbuf *text, cento_error *error) {
    cento_status status = CENTO_OK;
    if (state->state != NULL) {
        decoding run = {.tokens = state->tokens, .state = state->state, .text = text};
        status = finish_all(&run, error);
    }
    detokenizer_free(state);
    return status;
}

void detokenizer_free(detokenizer *state) {
    decoder_state_free(state->state);
    state->state = NULL;
}

void decoder_step_free(decoder_step *step) {
    split_regex_free(step->pattern);
    mem_free(step->literal);
    mem_free(step->content);
    *step = (decoder_step){0};
}

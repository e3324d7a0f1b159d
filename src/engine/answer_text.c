/* Stop strings over streamed text; see answer_text.h. */
#include "answer_text.h"

#include <string.h>

#include "base/utf8.h"

void answer_text_init(answer_text *state, const tokenizer *tokens, const char *const *stop,
                      size_t stop_count) {
    *state = (answer_text){.stop = stop, .stop_count = stop_count};
    detokenizer_init(&state->decoder, tokens, true);
}

/* Where the first whole stop string begins, at or after `begin`; SIZE_MAX: there is none. */
static size_t find_stop(const answer_text *state, size_t begin) {
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < state->stop_count; i++) {
        const char *found = memmem(state->text.data + begin, state->text.bytes - begin, state->stop[i],
                                   strlen(state->stop[i]));
        if (found != NULL && (size_t)(found - state->text.data) < first)
            first = (size_t)(found - state->text.data);
    }
    return first;
}

/* Bytes at the text's end, from `begin` on, that are the beginning of a stop string. */
static size_t held_back(const answer_text *state, size_t begin) {
    size_t longest = 0;
    for (size_t i = 0; i < state->stop_count; i++) {
        size_t bytes = strlen(state->stop[i]) - 1;
        if (bytes > state->text.bytes - begin)
            bytes = state->text.bytes - begin;
        while (bytes > longest &&
               memcmp(state->text.data + state->text.bytes - bytes, state->stop[i], bytes) != 0)
            bytes--;
        if (bytes > longest)
            longest = bytes;
    }
    return longest;
}

static void look_for_stop(answer_text *state) {
    if (state->text.bytes == 0)
        return;
    /* what is certain cannot be part of a stop string: it would have been held back */
    size_t found = find_stop(state, state->certain);
    if (found != SIZE_MAX) {
        state->text.bytes = found;
        state->text.data[found] = '\0';
        state->certain = found;
        state->stopped = true;
    } else {
        state->certain = state->text.bytes - held_back(state, state->certain);
    }
}

cento_status answer_text_push(answer_text *state, int32_t token, cento_error *error) {
    uint32_t bytes;
    /* models have rows beyond their tokenizer's ids, to fill up a multiple: such a token has no text */
    if (tokenizer_spelling(state->decoder.tokens, token, &bytes) == NULL)
        return CENTO_OK;
    TRY(detokenizer_push(&state->decoder, token, &state->text, error));
    TRY(strbuf_check(&state->text, error));
    look_for_stop(state);
    return CENTO_OK;
}

cento_status answer_text_finish(answer_text *state, cento_error *error) {
    if (!state->stopped) {
        TRY(detokenizer_finish(&state->decoder, &state->text, error));
        TRY(strbuf_check(&state->text, error));
        look_for_stop(state);
        state->certain = state->text.bytes;
    }
    return CENTO_OK;
}

const char *answer_text_take_new(answer_text *state, size_t bytes_max, size_t *bytes) {
    const char *fresh = state->text.data == NULL ? "" : state->text.data + state->shown;
    *bytes = state->certain - state->shown;
    if (*bytes > bytes_max)
        *bytes = utf8_complete_prefix(fresh, bytes_max);
    state->shown += *bytes;
    return fresh;
}

void answer_text_free(answer_text *state) {
    detokenizer_free(&state->decoder);
    strbuf_free(&state->text);
}

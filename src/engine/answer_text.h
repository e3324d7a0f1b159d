/*
 * answer_text: the answer's tokens to the text that may be shown. Text that may be the beginning of a stop
 * string is held back until it is certain that it is not; what comes from a stop string on is cut.
 */
#ifndef CENTO_ENGINE_ANSWER_TEXT_H
#define CENTO_ENGINE_ANSWER_TEXT_H

#include "text/tokenizer.h"

typedef struct answer_text {
    detokenizer decoder;
    const char *const *stop; /* (stop_count), borrowed, none empty */
    size_t stop_count;
    strbuf text;    /* all of it, what is held back included */
    size_t shown;   /* bytes that take_new() has given out */
    size_t certain; /* bytes that no stop string can take back */
    bool stopped;   /* a stop string was found; text ends before it */
} answer_text;

void answer_text_init(answer_text *state, const tokenizer *tokens, const char *const *stop,
                      size_t stop_count);
/* Sets state->stopped if this token completes a stop string. */
cento_status answer_text_push(answer_text *state, int32_t token, cento_error *error);
/* The answer ends here: nothing is held back any more. */
cento_status answer_text_finish(answer_text *state, cento_error *error);
/* The certain text that was not given out yet, at most bytes_max bytes of it and no part of a character;
 * valid until the next push. *bytes may be 0. The byte behind it is not a NUL. */
const char *answer_text_take_new(answer_text *state, size_t bytes_max, size_t *bytes);
void answer_text_free(answer_text *state);

#endif

/*
 * prompt: from pieces to tokens. The prompt is the concatenation of its parts' tokens, each part tokenized by
 * itself: the pieces as the caller gave them, and the template's text that stands between them.
 *
 * With a chat template, the pieces are laid into messages, the template is rendered once with a sentinel in
 * place of each piece, and the result is cut at the sentinels:
 *
 *   system and tool pieces, in their order   → the system message, joined by "\n\n"
 *   context pieces and the query after them  → one user message, joined by "\n\n"
 *   output                                   → an assistant message
 *
 * followed by the template's generation prompt. Each piece must come out once and whole, else CENTO_TEMPLATE;
 * only the system message may stand elsewhere than it went in. The template never sees a piece's text: what
 * it would trim or rewrite stays as it is, and a template that tests its content sees the sentinel. A text
 * can never inject special tokens: only template text is searched for them.
 *
 * Without a template in the model's folder, the pieces stand in their order with "\n\n" behind each. `raw`
 * requests have no text between pieces. In both cases what the tokenizer puts before a text (BOS) comes
 * first, unless the first piece is given as tokens and begins with it.
 */
#ifndef CENTO_ENGINE_PROMPT_H
#define CENTO_ENGINE_PROMPT_H

#include "cascade/context_chunk.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

/* What a model's folder says about text. Immutable after loading. */
typedef struct prompt_format {
    tokenizer *tokens;
    chat_template *chat;    /* NULL: none, or one that cannot be used */
    cento_error chat_error; /* status not OK: why the folder's template cannot be used */
    json_t *variables;      /* bos_token, eos_token, … for the template */
    uint32_t vocab_size;    /* of the model: ids must be below */
} prompt_format;

cento_status prompt_format_load(const char *folder, uint32_t vocab_size, prompt_format *format,
                                cento_error *error);
void prompt_format_free(prompt_format *format);

#define PROMPT_TEMPLATE SIZE_MAX

typedef struct prompt_part {
    size_t piece; /* index in the request; PROMPT_TEMPLATE: text of the template */
    uint32_t token_begin, token_count;
    digest content_id;
} prompt_part;

typedef struct prompt {
    token_vec tokens;
    prompt_part *parts; /* (part_count), in order, none empty; owned */
    size_t part_count;
    size_t part_capacity;
} prompt;

/* Zero-initialise *result before; prompt_free in any case. Pieces given by content id must have got their
 * tokens. */
cento_status prompt_build(const prompt_format *format, const cento_piece *pieces, size_t piece_count,
                          bool raw, prompt *result, cento_error *error);
void prompt_free(prompt *built);

/* The tokens of one piece; appended. INVALID_ARGUMENT, naming the piece, if it has none or is not valid. */
cento_status prompt_piece_tokens(const prompt_format *format, const cento_piece *piece, size_t index,
                                 token_vec *tokens, cento_error *error);

#endif

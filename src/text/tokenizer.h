/*
 * Tokenizer: text to token ids and back, as a Hugging Face tokenizer.json or a GGUF vocabulary
 * describes it. Stages: added tokens are cut out first; the normalizer, the pre-tokenizer (split), the
 * model (BPE) run on what lies between; a post-processor adds BOS/EOS. Immutable once opened: any
 * number of threads may use one tokenizer.
 */
#ifndef CENTO_TEXT_TOKENIZER_H
#define CENTO_TEXT_TOKENIZER_H

#include "base/gguf_vocabulary.h"
#include "base/sha256.h"
#include "base/strbuf.h"

typedef struct tokenizer tokenizer;

typedef struct token_vec {
    int32_t *ids; /* owned; token_vec_free */
    size_t count;
    size_t capacity;
} token_vec;

cento_status token_vec_push(token_vec *tokens, int32_t id, cento_error *error);
cento_status token_vec_append(token_vec *tokens, const int32_t *ids, size_t count, cento_error *error);
void token_vec_free(token_vec *tokens);

/* tokenizer.json; config_path: tokenizer_config.json, or NULL. */
cento_status tokenizer_open_json(const char *path, const char *config_path, tokenizer **result,
                                 cento_error *error);

/* The same from memory; `where` begins error messages. For tests and fuzzing. */
cento_status tokenizer_open_json_bytes(const char *where, const char *text, size_t bytes, tokenizer **result,
                                       cento_error *error);

/* A GGUF file's vocabulary (borrowed during the call only). `where` begins error messages. */
cento_status tokenizer_open_gguf(const char *where, const gguf_vocabulary *vocabulary, tokenizer **result,
                                 cento_error *error);

void tokenizer_close(tokenizer *tokens);

/* Appends the ids of text. add_special: BOS/EOS as the post-processor says. parse_special: special
 * tokens spelled out in the text become their ids (non-special added tokens always do). Invalid UTF-8
 * is taken as U+FFFD per maximal invalid subpart, as Python's errors="replace" would. */
cento_status tokenizer_encode(const tokenizer *tokens, const char *text, size_t bytes, bool add_special,
                              bool parse_special, token_vec *ids, cento_error *error);

/* Appends the text of ids. Bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary are
 * INVALID_ARGUMENT. */
cento_status tokenizer_decode(const tokenizer *tokens, const int32_t *ids, size_t count, bool skip_special,
                              strbuf *text, cento_error *error);

/* Streaming: pushes one token, appends to `text` what is certain now. Never half a character, and the
 * concatenation of all appended text equals tokenizer_decode of all ids (skip_special). */
typedef struct detokenizer {
    const tokenizer *tokens;
    bool skip_special;
    struct decoder_state *state; /* owned; made by the first push */
} detokenizer;
void detokenizer_init(detokenizer *state, const tokenizer *tokens, bool skip_special);
cento_status detokenizer_push(detokenizer *state, int32_t id, strbuf *text, cento_error *error);
cento_status detokenizer_finish(detokenizer *state, strbuf *text, cento_error *error); /* flushes and frees */
void detokenizer_free(detokenizer *state);

uint32_t tokenizer_vocab_size(const tokenizer *tokens); /* highest id + 1 */
/* Id of a token by its exact spelling in the vocabulary (added tokens included); -1 if there is none. */
int32_t tokenizer_find(const tokenizer *tokens, const char *spelling, size_t bytes);
/* The vocabulary's spelling; NULL if there is no such id. */
const char *tokenizer_spelling(const tokenizer *tokens, int32_t id, uint32_t *bytes);
bool tokenizer_is_special(const tokenizer *tokens, int32_t id);
/* bos_token and eos_token of tokenizer_config.json (or GGUF); -1: none. */
int32_t tokenizer_bos(const tokenizer *tokens);
int32_t tokenizer_eos(const tokenizer *tokens);
/* SHA-256 over all that decides about ids; part of every content id. */
const uint8_t *tokenizer_fingerprint(const tokenizer *tokens);

#endif

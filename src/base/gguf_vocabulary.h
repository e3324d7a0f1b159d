/*
 * A GGUF file's vocabulary, as its metadata holds it (GGUF: tokenizer.ggml.*): what src/model/gguf.c
 * reads and src/text/tokenizer_gguf.c makes a tokenizer of. In base because neither may know the other.
 */
#ifndef CENTO_BASE_GGUF_VOCABULARY_H
#define CENTO_BASE_GGUF_VOCABULARY_H

#include "status.h"

typedef enum gguf_token_type {
    GGUF_TOKEN_NORMAL = 1,
    GGUF_TOKEN_UNKNOWN = 2,
    GGUF_TOKEN_CONTROL = 3,
    GGUF_TOKEN_USER_DEFINED = 4,
    GGUF_TOKEN_UNUSED = 5,
    GGUF_TOKEN_BYTE = 6,
} gguf_token_type;

typedef struct gguf_vocabulary {
    const char *model; /* "gpt2" or "llama" */
    const char *pre;   /* tokenizer.ggml.pre, NULL if absent */
    size_t token_count;
    const char *const *tokens; /* (token_count), not NUL-terminated */
    const uint32_t *token_bytes;
    const float *scores;  /* (token_count), NULL if absent */
    const int32_t *types; /* (token_count) gguf_token_type, NULL if absent: all normal */
    size_t merge_count;
    const char *const *merges; /* (merge_count) "left right", with their lengths */
    const uint32_t *merge_bytes;
    int32_t bos, eos, unknown;                 /* -1: none */
    int8_t add_bos, add_eos, add_space_prefix; /* 0, 1; -1: the file does not say */
} gguf_vocabulary;

#endif

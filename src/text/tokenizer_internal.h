/*
 * What the files of the tokenizer share: the stages a text goes through, each an array of steps that was
 * compiled when the tokenizer was opened.
 *
 *   text ── added tokens (literal) ── normalizer ── added tokens (normalized) ── pre-tokenizer ── BPE ── ids
 *   ids ── spellings ── decoder steps ── text
 *
 * Everything in `struct tokenizer` is immutable after opening; what a call needs is in its encode_scratch or
 * decoder_state.
 */
#ifndef CENTO_TEXT_TOKENIZER_INTERNAL_H
#define CENTO_TEXT_TOKENIZER_INTERNAL_H

#include "base/strmap.h"
#include "split_regex.h"
#include "tokenizer.h"

#define TOKEN_ID_MAX    ((1 << 22) - 1) /* bounds the tables that a vocabulary's largest id asks for */
#define TEXT_BYTES_MAX  ((size_t)1 << 30)
#define STEPS_MAX       64
#define METASPACE       "\xE2\x96\x81" /* U+2581 */
#define METASPACE_BYTES 3

/* ------------------------------------------------------------------ vocabulary ------------- */

typedef struct vocabulary_entry {
    char *spelling; /* owned; NULL: no token has this id */
    char *decoded;  /* owned; NULL: the spelling. What decoding gives for a normalized added token */
    uint32_t bytes, decoded_bytes;
    bool in_model; /* the model may produce it */
    bool added;
    bool special;
    bool verbatim; /* its spelling is text, also where the model's spellings stand for bytes */
} vocabulary_entry;

typedef struct vocabulary {
    vocabulary_entry *entries; /* (size), by id */
    size_t size, capacity;
    strmap by_spelling;
    size_t bytes_max; /* of the longest spelling in the model */
} vocabulary;

/* Adds a token of the model. Both ids and spellings must be new. */
cento_status vocabulary_add_model(vocabulary *words, const char *where, const char *spelling, size_t bytes,
                                  int64_t id, cento_error *error);
/* Adds an added token, or marks the model's token of the same id and spelling as one. */
cento_status vocabulary_add_added(vocabulary *words, const char *where, const char *spelling, size_t bytes,
                                  int64_t id, bool special, cento_error *error);
int32_t vocabulary_find(const vocabulary *words, const char *spelling, size_t bytes);
int32_t vocabulary_find_model(const vocabulary *words, const char *spelling, size_t bytes);
void vocabulary_free(vocabulary *words);

/* ------------------------------------------------------------------ added tokens ----------- */

typedef struct added_token {
    int32_t id;
    bool special, single_word, lstrip, rstrip;
} added_token;

/* A trie over the tokens' bytes; matches are leftmost, then longest. */
typedef struct trie_node {
    uint32_t child, sibling; /* 0: none */
    int32_t token;           /* index into tokens, -1: none */
    uint8_t byte;
} trie_node;

typedef struct added_tokens {
    added_token *tokens; /* (count), owned */
    size_t count, capacity;
    trie_node *nodes; /* (node_count), owned; 0 is the root */
    size_t node_count, node_capacity;
    uint32_t first[256]; /* the root's children */
} added_tokens;

cento_status added_tokens_insert(added_tokens *set, const char *text, size_t bytes, added_token token,
                                 cento_error *error);
void added_tokens_free(added_tokens *set);

/* Walks over a text: stretches without added tokens (token == NULL) and added tokens, in order. */
typedef struct added_walk {
    const added_tokens *set;
    const char *text;
    size_t bytes;
    bool parse_special;
    size_t search;           /* where the search goes on */
    size_t given;            /* up to here everything was given out */
    const added_token *held; /* found, but the stretch before it goes first */
    size_t held_end;
} added_walk;

typedef struct added_piece {
    const added_token *token; /* NULL: plain text */
    size_t begin, end;
} added_piece;

void added_walk_begin(added_walk *walk, const added_tokens *set, const char *text, size_t bytes,
                      bool parse_special);
bool added_walk_next(added_walk *walk, added_piece *piece);

/* ------------------------------------------------------------------ normalizer ------------- */

typedef enum normalizer_kind {
    NORMALIZER_NFC,
    NORMALIZER_NFD,
    NORMALIZER_NFKC,
    NORMALIZER_NFKD,
    NORMALIZER_LOWERCASE,
    NORMALIZER_PREPEND,
    NORMALIZER_REPLACE,
    NORMALIZER_STRIP,
    NORMALIZER_STRIP_ACCENTS,
} normalizer_kind;

typedef struct normalizer_step {
    normalizer_kind kind;
    split_regex *pattern; /* REPLACE, owned */
    char *content;        /* PREPEND, REPLACE, owned */
    size_t content_bytes;
    bool strip_left, strip_right; /* STRIP */
} normalizer_step;

/* ------------------------------------------------------------------ pre-tokenizer ---------- */

typedef enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
} split_behavior;

typedef enum prefix_scheme { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } prefix_scheme;

typedef enum pretokenizer_kind {
    PRETOKENIZER_SPLIT,
    PRETOKENIZER_SPACE_PREFIX, /* ByteLevel's add_prefix_space */
    PRETOKENIZER_BYTES,        /* bytes become the characters that GPT-2 writes for them */
    PRETOKENIZER_METASPACE,    /* spaces become `replacement`, one is put before the text */
} pretokenizer_kind;

typedef struct pretokenizer_step {
    pretokenizer_kind kind;
    split_regex *pattern; /* SPLIT, owned */
    split_behavior behavior;
    bool invert;
    prefix_scheme scheme; /* METASPACE */
    char replacement[4];
    size_t replacement_bytes;
} pretokenizer_step;

/* Code points that stand for bytes (GPT-2), and back: -1 where a code point stands for none. */
extern const uint16_t byte_level_codepoint[256];
#define BYTE_LEVEL_CODEPOINTS 324
int byte_level_byte(uint32_t codepoint);

/* ------------------------------------------------------------------ BPE -------------------- */

typedef struct merge_slot {
    int32_t left, right;
    uint32_t rank; /* UINT32_MAX: empty */
    int32_t merged;
} merge_slot;

typedef struct bpe_model {
    const vocabulary *words; /* the tokenizer's */
    merge_slot *merges;      /* (merge_capacity), a hash table by (left, right); owned */
    size_t merge_capacity, merge_count;
    /* SentencePiece: instead of merges, any two neighbours whose joined spelling is a token; rank by score */
    bool by_score;
    uint32_t *score_ranks; /* (words->size), owned; 0 is the highest score */
    bool byte_fallback, fuse_unknown, ignore_merges;
    int32_t unknown;           /* -1: none; characters without a token vanish */
    int32_t byte_tokens[256];  /* <0xNN>; -1: none */
    int32_t characters[0x180]; /* the token of each low code point; -1: none */
} bpe_model;

/* Room for count merges; then bpe_add_merge in order of rank. */
cento_status bpe_reserve(bpe_model *model, size_t count, cento_error *error);
/* A pair given twice keeps its last rank. */
void bpe_add_merge(bpe_model *model, int32_t left, int32_t right, uint32_t rank, int32_t merged);
/* Fills in the tables by character once the vocabulary is whole. */
void bpe_finish(bpe_model *model);
void bpe_free(bpe_model *model);

typedef struct bpe_symbol {
    int32_t id;             /* -1: no token yet (by_score) */
    uint32_t begin, bytes;  /* bytes 0: merged into the one before */
    int32_t previous, next; /* -1: none */
} bpe_symbol;

typedef struct bpe_candidate {
    uint32_t rank;
    int32_t position; /* of the left symbol */
    int32_t merged;
} bpe_candidate;

typedef struct bpe_scratch {
    bpe_symbol *symbols;
    size_t symbol_count, symbol_capacity;
    bpe_candidate *heap; /* smallest (rank, position) first */
    size_t heap_count, heap_capacity;
} bpe_scratch;

/* Appends the ids of one word. */
cento_status bpe_encode(const bpe_model *model, bpe_scratch *scratch, const char *text, size_t bytes,
                        token_vec *ids, cento_error *error);
void bpe_scratch_free(bpe_scratch *scratch);

/* ------------------------------------------------------------------ decoder ---------------- */

typedef enum decoder_kind {
    DECODER_BYTES,         /* the inverse of PRETOKENIZER_BYTES; joins all tokens */
    DECODER_BYTE_FALLBACK, /* <0xNN> */
    DECODER_FUSE,          /* joins all tokens */
    DECODER_STRIP,
    DECODER_REPLACE,
    DECODER_METASPACE,
} decoder_kind;

typedef struct decoder_step {
    decoder_kind kind;
    bool joined;          /* a step before this one joined the tokens: the input is one text in parts */
    split_regex *pattern; /* REPLACE, owned */
    char *literal;        /* REPLACE by a string: the string; owned, else NULL */
    size_t literal_bytes;
    char *content; /* REPLACE: owned. STRIP: the character. METASPACE: the replacement character */
    size_t content_bytes;
    size_t strip_start, strip_stop; /* STRIP: at most so many characters */
    bool strip_first;               /* METASPACE: the first token's replacement characters vanish */
} decoder_step;

void decoder_state_free(struct decoder_state *state);

/* ------------------------------------------------------------------ the whole -------------- */

struct tokenizer {
    vocabulary words;
    bpe_model model;
    added_tokens literal, normalized;
    normalizer_step *normalizer; /* owned */
    size_t normalizer_count, normalizer_capacity;
    pretokenizer_step *pretokenizer; /* owned */
    size_t pretokenizer_count, pretokenizer_capacity;
    decoder_step *decoder; /* owned */
    size_t decoder_count, decoder_capacity;
    bool decoder_spaces;      /* no decoder at all: tokens are joined by spaces */
    token_vec prefix, suffix; /* what add_special puts around a text */
    int32_t bos, eos;
    uint8_t fingerprint[SHA256_BYTES];
};

/* A zeroed tokenizer with its defaults; NULL: out of memory. */
tokenizer *tokenizer_new(void);
cento_status tokenizer_add_normalizer(tokenizer *tokens, normalizer_step step, cento_error *error);
cento_status tokenizer_add_pretokenizer(tokenizer *tokens, pretokenizer_step step, cento_error *error);
cento_status tokenizer_add_decoder(tokenizer *tokens, decoder_step step, cento_error *error);
/* An added token with its text, into the vocabulary and the trie that its `normalized` asks for. All
 * normalizers must be there. */
cento_status tokenizer_add_token(tokenizer *tokens, const char *where, const char *text, size_t bytes,
                                 added_token token, bool normalized, cento_error *error);
/* Hashes vocabulary, merges and flags; the caller has hashed what else decides about ids. */
void tokenizer_hash(const tokenizer *tokens, sha256 *hash);

/* GPT-2's split pattern, which ByteLevel uses. */
extern const char byte_level_pattern[];

/* A text cut into pieces, between stages. */
typedef struct text_span {
    size_t begin, end;
} text_span;

typedef struct span_vec {
    text_span *items;
    size_t count, capacity;
} span_vec;

typedef struct encode_scratch {
    regex_scratch regex;
    strbuf normalized, normalizing; /* the text between normalizer steps */
    strbuf mapped, mapping;         /* the text between pre-tokenizer steps that change it */
    span_vec spans, next_spans;
    bpe_scratch bpe;
    int32_t *codepoints; /* NFC and its kin */
    size_t codepoint_capacity;
} encode_scratch;
void encode_scratch_free(encode_scratch *scratch);

/* *result and *result_bytes are the normalized text: text itself, or scratch->normalized. *cut: something
 * was taken away from its beginning. */
cento_status normalizer_run(const normalizer_step *steps, size_t count, encode_scratch *scratch,
                            const char *text, size_t bytes, const char **result, size_t *result_bytes,
                            bool *cut, cento_error *error);
void normalizer_step_free(normalizer_step *step);

/* Leaves the pieces in scratch->spans; *result is the text that they are of: text itself or scratch->mapped.
 * at_origin: text begins where the whole input begins. */
cento_status pretokenizer_run(const pretokenizer_step *steps, size_t count, encode_scratch *scratch,
                              const char *text, size_t bytes, bool at_origin, const char **result,
                              cento_error *error);
void pretokenizer_step_free(pretokenizer_step *step);
void decoder_step_free(decoder_step *step);

/* White_Space, and what Rust's regex calls a word character. */
bool codepoint_is_space(uint32_t codepoint);
bool codepoint_is_word(uint32_t codepoint);

#endif

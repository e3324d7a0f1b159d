/*
 * Tokenizers of GGUF files. "gpt2" is byte-level BPE by merges, whose split patterns the file only names
 * (tokenizer.ggml.pre): they are listed here, as the models' own tokenizer.json files have them and
 * llama.cpp's names call them. "llama" is SentencePiece BPE: joined by score, bytes for what has no token.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tokenizer_internal.h"

/* ------------------------------------------------------------------ split patterns --------- */

#define GPT2                       "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define CONTRACTIONS               "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SYMBOLS_AND_SPACES         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3                     CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" SYMBOLS_AND_SPACES
#define QWEN2                      CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" SYMBOLS_AND_SPACES
#define UPPER                      "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER                      "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SLASHED_SYMBOLS_AND_SPACES " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN                                                                                               \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER                      \
    "*|\\p{N}|" SLASHED_SYMBOLS_AND_SPACES
#define GPT4O                                                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER     \
    "*" CONTRACTIONS "?|\\p{N}{1,3}|" SLASHED_SYMBOLS_AND_SPACES
#define CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
/* upper and lower case letters of Unicode 9 or so */
#define CASED                                                                                                \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-" \
    "\\x{2af}"                                                                                               \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-"   \
    "\\x{3a1}"                                                                                               \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{"  \
    "13f5}"                                                                                                  \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"        \
    "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"        \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{"     \
    "1fbc}\\x{1fbe}"                                                                                         \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"        \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{"     \
    "211d}\\x{2124}"                                                                                         \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{"     \
    "2149}\\x{214e}"                                                                                         \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}" \
    "-\\x{a66d}"                                                                                             \
    "\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"        \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"      \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{"    \
    "118df}"                                                                                                 \
    "\\x{1e900}-\\x{1e943}"

/* A part of ASCII punctuation, its full-width forms, general and CJK punctuation. */
#define PUNCTUATION "!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}"
#define BLOOM       " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

#define PATTERNS_MAX 6

typedef struct pre_kind {
    const char *patterns[PATTERNS_MAX];
    bool ignore_merges, add_bos, nfc;
} pre_kind;

static const pre_kind pre_default = {
    {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false, false};
static const pre_kind pre_gpt2 = {{GPT2}, false, false, false};
static const pre_kind pre_llama3 = {{LLAMA3}, true, true, false};
static const pre_kind pre_llama3_merges = {{LLAMA3}, false, false, false};
static const pre_kind pre_qwen2 = {{QWEN2}, false, false, true}; /* its tokenizer.json has NFC */
static const pre_kind pre_stablelm2 = {{QWEN2}, false, false, false};
static const pre_kind pre_tekken = {{TEKKEN}, true, true, false};
static const pre_kind pre_gpt4o = {{GPT4O}, false, false, false};
static const pre_kind pre_falcon = {
    {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}, false, false, false};
static const pre_kind pre_starcoder = {{"\\p{N}", GPT2}, false, false, false};
static const pre_kind pre_bloom = {{BLOOM}, false, false, false};
static const pre_kind pre_viking = {{BLOOM, "\\p{N}"}, false, false, false};
static const pre_kind pre_deepseek_llm = {
    {"[\r\n]", "\\s?[" CASED "]+", "\\s?[" PUNCTUATION "]+", "\\s+$", CJK, "\\p{N}"}, false, false, false};
static const pre_kind pre_deepseek_coder = {
    {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}, false, false, false};
static const pre_kind pre_deepseek_v3 = {
    {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
     "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    false,
    false,
    false};

static const struct {
    const char *name;
    const pre_kind *kind;
} pre_kinds[] = {
    {"default", &pre_default},
    {"gpt-2", &pre_gpt2},
    {"gpt2", &pre_gpt2},
    {"phi-2", &pre_gpt2},
    {"mpt", &pre_gpt2},
    {"olmo", &pre_gpt2},
    {"jais", &pre_gpt2},
    {"trillion", &pre_gpt2},
    {"llama3", &pre_llama3},
    {"llama-v3", &pre_llama3},
    {"llama-bpe", &pre_llama3},
    {"falcon3", &pre_llama3},
    {"dbrx", &pre_llama3_merges},
    {"smaug-bpe", &pre_llama3_merges},
    {"chatglm-bpe", &pre_llama3_merges},
    {"glm4", &pre_llama3_merges},
    {"qwen2", &pre_qwen2},
    {"deepseek-r1-qwen", &pre_qwen2},
    {"megrez", &pre_qwen2},
    {"stablelm2", &pre_stablelm2},
    {"hunyuan", &pre_stablelm2},
    {"tekken", &pre_tekken},
    {"gpt-4o", &pre_gpt4o},
    {"llama4", &pre_gpt4o},
    {"falcon", &pre_falcon},
    {"starcoder", &pre_starcoder},
    {"refact", &pre_starcoder},
    {"command-r", &pre_starcoder},
    {"smollm", &pre_starcoder},
    {"codeshell", &pre_starcoder},
    {"exaone", &pre_starcoder},
    {"minerva-7b", &pre_starcoder},
    {"bloom", &pre_bloom},
    {"poro-chat", &pre_bloom},
    {"gpt3-finnish", &pre_bloom},
    {"viking", &pre_viking},
    {"deepseek-llm", &pre_deepseek_llm},
    {"deepseek-coder", &pre_deepseek_coder},
    {"deepseek-v3", &pre_deepseek_v3},
    {"hunyuan-dense", &pre_deepseek_v3},
};

/* ------------------------------------------------------------------ building --------------- */

typedef struct builder {
    tokenizer *tokens;
    const gguf_vocabulary *vocabulary;
    const char *where;
    cento_error *error;
} builder;

static int32_t type_of(const gguf_vocabulary *source, size_t id) {
    return source->types == NULL ? GGUF_TOKEN_NORMAL : source->types[id];
}

static cento_status add_vocabulary(builder *in) {
    const gguf_vocabulary *source = in->vocabulary;
    TRY(strmap_reserve(&in->tokens->words.by_spelling, source->token_count, in->error));
    for (size_t i = 0; i < source->token_count; i++)
        TRY(vocabulary_add_model(&in->tokens->words, in->where, source->tokens[i], source->token_bytes[i],
                                 (int64_t)i, in->error));
    return CENTO_OK;
}

/* Control tokens are special, user-defined ones are always found in a text; neither comes out of the model.
 */
static cento_status add_added_tokens(builder *in) {
    const gguf_vocabulary *source = in->vocabulary;
    vocabulary_entry *entries = in->tokens->words.entries;
    for (size_t i = 0; i < source->token_count; i++) {
        int32_t type = type_of(source, i);
        if (type == GGUF_TOKEN_BYTE)
            entries[i].in_model = !in->tokens->model.by_score;
        if (type != GGUF_TOKEN_CONTROL && type != GGUF_TOKEN_UNKNOWN && type != GGUF_TOKEN_USER_DEFINED)
            continue;
        const char *text = source->tokens[i];
        uint32_t bytes = source->token_bytes[i];
        bool special = type != GGUF_TOKEN_USER_DEFINED;
        entries[i].verbatim = true;
        if (special)
            entries[i].in_model = false;
        /* of equal spellings the last one counts, the others cannot be written */
        if (bytes == 0 || vocabulary_find(&in->tokens->words, text, bytes) != (int32_t)i)
            continue;
        added_token token = {.id = (int32_t)i, .special = special};
        TRY(tokenizer_add_token(in->tokens, in->where, text, bytes, token, false, in->error));
    }
    return CENTO_OK;
}

static cento_status add_merges(builder *in) {
    const gguf_vocabulary *source = in->vocabulary;
    const vocabulary *words = &in->tokens->words;
    if (source->merges == NULL)
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: 'tokenizer.ggml.merges' is missing", in->where);
    TRY(bpe_reserve(&in->tokens->model, source->merge_count, in->error));
    strbuf joined = {0};
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < source->merge_count && status == CENTO_OK; i++) {
        const char *merge = source->merges[i];
        size_t bytes = source->merge_bytes[i];
        const char *space = bytes < 3 ? NULL : memchr(merge + 1, ' ', bytes - 1);
        if (space == NULL) {
            status = error_set(in->error, CENTO_INVALID_MODEL,
                               "%s: tokenizer.ggml.merges[%zu] is not 'left right'", in->where, i);
            break;
        }
        size_t left_bytes = (size_t)(space - merge), right_bytes = bytes - left_bytes - 1;
        strbuf_clear(&joined);
        strbuf_append(&joined, merge, left_bytes);
        strbuf_append(&joined, space + 1, right_bytes);
        status = strbuf_check(&joined, in->error);
        if (status != CENTO_OK)
            break;
        int32_t left = vocabulary_find(words, merge, left_bytes);
        int32_t right = vocabulary_find(words, space + 1, right_bytes);
        int32_t merged = vocabulary_find(words, joined.data, joined.bytes);
        if (left < 0 || right < 0 || merged < 0)
            status = error_set(in->error, CENTO_INVALID_MODEL,
                               "%s: tokenizer.ggml.merges[%zu] '%.*s' has a part that is not a token",
                               in->where, i, (int)(bytes < 200 ? bytes : 200), merge);
        else
            bpe_add_merge(&in->tokens->model, left, right, (uint32_t)i, merged);
    }
    strbuf_free(&joined);
    return status;
}

static cento_status build_byte_level(builder *in, const pre_kind *kind) {
    tokenizer *tokens = in->tokens;
    TRY(add_vocabulary(in));
    TRY(add_merges(in));
    tokens->model.ignore_merges = kind->ignore_merges;
    bpe_finish(&tokens->model);
    if (kind->nfc)
        TRY(tokenizer_add_normalizer(tokens, (normalizer_step){.kind = NORMALIZER_NFC}, in->error));
    for (size_t i = 0; i < PATTERNS_MAX && kind->patterns[i] != NULL; i++) {
        pretokenizer_step step = {.kind = PRETOKENIZER_SPLIT, .behavior = SPLIT_ISOLATED};
        TRY(split_regex_compile(in->where, kind->patterns[i], strlen(kind->patterns[i]), false, &step.pattern,
                                in->error));
        TRY(tokenizer_add_pretokenizer(tokens, step, in->error));
    }
    TRY(tokenizer_add_pretokenizer(tokens, (pretokenizer_step){.kind = PRETOKENIZER_BYTES}, in->error));
    TRY(tokenizer_add_decoder(tokens, (decoder_step){.kind = DECODER_BYTES}, in->error));
    return add_added_tokens(in);
}

/* ------------------------------------------------------------------ SentencePiece ---------- */

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int by_score_descending(const void *left, const void *right) {
    float left_score = ((const scored *)left)->score, right_score = ((const scored *)right)->score;
    return (left_score < right_score) - (left_score > right_score);
}

/* Equal scores have equal ranks: between them the place in the text decides. */
static cento_status rank_scores(builder *in) {
    const gguf_vocabulary *source = in->vocabulary;
    size_t count = source->token_count;
    if (source->scores == NULL)
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: 'tokenizer.ggml.scores' is missing", in->where);
    uint32_t *ranks = in->tokens->model.score_ranks = mem_alloc(count, sizeof *ranks);
    scored *order = mem_alloc(count, sizeof *order);
    if (ranks == NULL || order == NULL) {
        mem_free(order);
        return error_memory(in->error, count * sizeof *order);
    }
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < count; i++) {
        order[i] = (scored){source->scores[i], (uint32_t)i};
        if (isnan(source->scores[i]))
            status = error_set(in->error, CENTO_INVALID_MODEL, "%s: the score of token %zu is not a number",
                               in->where, i);
    }
    if (status == CENTO_OK) {
        qsort(order, count, sizeof *order, by_score_descending);
        uint32_t rank = 0;
        for (size_t i = 0; i < count; i++) {
            if (i > 0 && order[i].score < order[i - 1].score)
                rank++;
            ranks[order[i].id] = rank;
        }
    }
    mem_free(order);
    return status;
}

static cento_status replacement(builder *in, const char *pattern, const char *content, split_regex **regex,
                                char **copy, size_t *copy_bytes) {
    *copy = mem_strdup(content);
    *copy_bytes = strlen(content);
    if (*copy == NULL)
        return error_memory(in->error, *copy_bytes);
    return split_regex_compile(in->where, pattern, strlen(pattern), true, regex, in->error);
}

static cento_status build_sentencepiece(builder *in, bool space_prefix) {
    tokenizer *tokens = in->tokens;
    TRY(add_vocabulary(in));
    tokens->model.by_score = true;
    tokens->model.unknown = in->vocabulary->unknown;
    TRY(rank_scores(in));
    bpe_finish(&tokens->model);

    if (space_prefix) {
        normalizer_step prepend = {
            .kind = NORMALIZER_PREPEND, .content = mem_strdup(METASPACE), .content_bytes = METASPACE_BYTES};
        if (prepend.content == NULL)
            return error_memory(in->error, METASPACE_BYTES);
        TRY(tokenizer_add_normalizer(tokens, prepend, in->error));
    }
    normalizer_step spaces = {.kind = NORMALIZER_REPLACE};
    cento_status status =
        replacement(in, " ", METASPACE, &spaces.pattern, &spaces.content, &spaces.content_bytes);
    if (status != CENTO_OK) {
        normalizer_step_free(&spaces);
        return status;
    }
    TRY(tokenizer_add_normalizer(tokens, spaces, in->error));

    decoder_step back = {.kind = DECODER_REPLACE};
    status = replacement(in, METASPACE, " ", &back.pattern, &back.content, &back.content_bytes);
    if (status == CENTO_OK && (back.literal = mem_strdup(METASPACE)) == NULL)
        status = error_memory(in->error, METASPACE_BYTES);
    back.literal_bytes = METASPACE_BYTES;
    if (status != CENTO_OK) {
        decoder_step_free(&back);
        return status;
    }
    TRY(tokenizer_add_decoder(tokens, back, in->error));
    TRY(tokenizer_add_decoder(tokens, (decoder_step){.kind = DECODER_BYTE_FALLBACK}, in->error));
    TRY(tokenizer_add_decoder(tokens, (decoder_step){.kind = DECODER_FUSE}, in->error));
    if (space_prefix) {
        decoder_step strip = {
            .kind = DECODER_STRIP, .content = mem_strdup(" "), .content_bytes = 1, .strip_start = 1};
        if (strip.content == NULL)
            return error_memory(in->error, 1);
        TRY(tokenizer_add_decoder(tokens, strip, in->error));
    }
    return add_added_tokens(in);
}

/* ------------------------------------------------------------------ the whole -------------- */

static const pre_kind *find_pre(const char *name) {
    for (size_t i = 0; i < sizeof pre_kinds / sizeof *pre_kinds; i++)
        if (strcmp(name, pre_kinds[i].name) == 0)
            return pre_kinds[i].kind;
    return NULL;
}

static cento_status add_affixes(builder *in, bool bos, bool eos) {
    tokenizer *tokens = in->tokens;
    tokens->bos = in->vocabulary->bos;
    tokens->eos = in->vocabulary->eos;
    if (bos && tokens->bos >= 0)
        TRY(token_vec_push(&tokens->prefix, tokens->bos, in->error));
    if (eos && tokens->eos >= 0)
        TRY(token_vec_push(&tokens->suffix, tokens->eos, in->error));
    return CENTO_OK;
}

static cento_status fingerprint(builder *in, const pre_kind *kind, bool space_prefix) {
    sha256 hash;
    sha256_init(&hash);
    sha256_update_string(&hash, "cento tokenizer 1: GGUF");
    for (size_t i = 0; kind != NULL && i < PATTERNS_MAX && kind->patterns[i] != NULL; i++)
        sha256_update_string(&hash, kind->patterns[i]);
    sha256_update_u64(&hash, (uint64_t)space_prefix | (uint64_t)(kind != NULL && kind->nfc) << 1);
    sha256_update_u64(&hash, (uint64_t)(int64_t)(in->tokens->prefix.count > 0 ? in->tokens->bos : -1));
    sha256_update_u64(&hash, (uint64_t)(int64_t)(in->tokens->suffix.count > 0 ? in->tokens->eos : -1));
    tokenizer_hash(in->tokens, &hash);
    return sha256_final(&hash, in->tokens->fingerprint, in->error);
}

static cento_status build(builder *in) {
    const gguf_vocabulary *source = in->vocabulary;
    bool sentencepiece = strcmp(source->model, "llama") == 0;
    const pre_kind *kind = NULL;
    bool space_prefix = sentencepiece && source->add_space_prefix != 0;
    if (sentencepiece) {
        TRY(build_sentencepiece(in, space_prefix));
    } else if (strcmp(source->model, "gpt2") == 0) {
        const char *pre = source->pre == NULL ? "default" : source->pre;
        kind = find_pre(pre);
        if (kind == NULL)
            return error_set(in->error, CENTO_UNSUPPORTED, "%s: tokenizer.ggml.pre '%.100s' is not supported",
                             in->where, pre);
        TRY(build_byte_level(in, kind));
    } else {
        return error_set(in->error, CENTO_UNSUPPORTED,
                         "%s: tokenizer.ggml.model '%.100s' is not supported, expected 'gpt2' or 'llama'",
                         in->where, source->model);
    }
    bool bos = source->add_bos < 0 ? sentencepiece || kind->add_bos : source->add_bos > 0;
    TRY(add_affixes(in, bos, source->add_eos > 0));
    return fingerprint(in, kind, space_prefix);
}

cento_status tokenizer_open_gguf(const char *where, const gguf_vocabulary *source, tokenizer **result,
                                 cento_error *error) {
    tokenizer *tokens = tokenizer_new();
    if (tokens == NULL)
        return error_memory(error, sizeof *tokens);
    builder in = {.tokens = tokens, .vocabulary = source, .where = where, .error = error};
    cento_status status = build(&in);
    if (status == CENTO_OK)
        *result = tokens;
    else
        tokenizer_close(tokens);
    return status;
}

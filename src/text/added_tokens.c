/* Added tokens: finding them in a text before anything else happens to it; see tokenizer_internal.h. The
 * order of matches and what lstrip, rstrip and single_word do follow Hugging Face's AddedVocabulary. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

static cento_status new_node(added_tokens *set, uint8_t byte, uint32_t *index, cento_error *error) {
    if (set->node_count >= UINT32_MAX ||
        !mem_grow((void **)&set->nodes, &set->node_capacity, set->node_count + 1, sizeof *set->nodes))
        return error_memory(error, set->node_count * sizeof *set->nodes);
    *index = (uint32_t)set->node_count++;
    set->nodes[*index] = (trie_node){.token = -1, .byte = byte};
    return CENTO_OK;
}

static uint32_t find_child(const added_tokens *set, uint32_t parent, uint8_t byte) {
    if (parent == 0)
        return set->first[byte];
    uint32_t child = set->nodes[parent].child;
    while (child != 0 && set->nodes[child].byte != byte)
        child = set->nodes[child].sibling;
    return child;
}

cento_status added_tokens_insert(added_tokens *set, const char *text, size_t bytes, added_token token,
                                 cento_error *error) {
    uint32_t node = 0;
    if (set->node_count == 0)
        TRY(new_node(set, 0, &node, error)); /* the root */
    node = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t child = find_child(set, node, byte);
        if (child == 0) {
            TRY(new_node(set, byte, &child, error));
            if (node == 0) {
                set->first[byte] = child;
            } else {
                set->nodes[child].sibling = set->nodes[node].child;
                set->nodes[node].child = child;
            }
        }
        node = child;
    }
    if (bytes == 0 || set->nodes[node].token >= 0)
        return CENTO_OK; /* the first of equal texts counts */
    if (!mem_grow((void **)&set->tokens, &set->capacity, set->count + 1, sizeof *set->tokens))
        return error_memory(error, set->capacity * sizeof *set->tokens);
    set->nodes[node].token = (int32_t)set->count;
    set->tokens[set->count++] = token;
    return CENTO_OK;
}

void added_tokens_free(added_tokens *set) {
    mem_free(set->tokens);
    mem_free(set->nodes);
    *set = (added_tokens){0};
}

/* The longest token at `at`; NULL if there is none. */
static const added_token *longest_at(const added_walk *walk, size_t at, size_t *end) {
    const added_tokens *set = walk->set;
    const added_token *best = NULL;
    uint32_t node = 0;
    for (size_t i = at; i < walk->bytes; i++) {
        node = find_child(set, node, (uint8_t)walk->text[i]);
        if (node == 0)
            break;
        if (set->nodes[node].token >= 0) {
            best = &set->tokens[set->nodes[node].token];
            *end = i + 1;
        }
    }
    return best;
}

/* Bytes of the character that ends at `at`, and its code point. */
static size_t character_before(const char *text, size_t at, uint32_t *codepoint) {
    size_t begin = at;
    do
        begin--;
    while (begin > 0 && ((unsigned char)text[begin] & 0xC0) == 0x80);
    return utf8_decode(text + begin, at - begin, codepoint);
}

static bool inside_word(const added_walk *walk, size_t begin, size_t end) {
    uint32_t codepoint;
    if (begin > 0 && character_before(walk->text, begin, &codepoint) > 0 && codepoint_is_word(codepoint))
        return true;
    return end < walk->bytes && utf8_decode(walk->text + end, walk->bytes - end, &codepoint) > 0 &&
           codepoint_is_word(codepoint);
}

void added_walk_begin(added_walk *walk, const added_tokens *set, const char *text, size_t bytes,
                      bool parse_special) {
    *walk = (added_walk){.set = set, .text = text, .bytes = bytes, .parse_special = parse_special};
}

/* The next token that counts, with the spaces it takes along. */
static const added_token *find_next(added_walk *walk, size_t *begin, size_t *end) {
    if (walk->set->count == 0)
        return NULL;
    while (walk->search < walk->bytes) {
        size_t match_begin = walk->search, match_end = 0;
        const added_token *match = NULL;
        if (walk->set->first[(unsigned char)walk->text[match_begin]] != 0)
            match = longest_at(walk, match_begin, &match_end);
        /* also what does not count is passed over whole: no shorter token is looked for inside it */
        walk->search = match == NULL ? match_begin + 1 : match_end;
        if (match == NULL || (match->special && !walk->parse_special) ||
            (match->single_word && inside_word(walk, match_begin, match_end)))
            continue;
        uint32_t codepoint;
        size_t length;
        if (match->lstrip)
            while (match_begin > walk->given &&
                   (length = character_before(walk->text, match_begin, &codepoint)) > 0 &&
                   codepoint_is_space(codepoint))
                match_begin -= length;
        if (match->rstrip)
            while ((length = utf8_decode(walk->text + match_end, walk->bytes - match_end, &codepoint)) > 0 &&
                   codepoint_is_space(codepoint))
                match_end += length;
        *begin = match_begin;
        *end = match_end;
        return match;
    }
    return NULL;
}

bool added_walk_next(added_walk *walk, added_piece *piece) {
    if (walk->held == NULL) {
        size_t begin = walk->bytes;
        const added_token *token = find_next(walk, &begin, &walk->held_end);
        walk->held = token;
        if (walk->given < begin) {
            *piece = (added_piece){.begin = walk->given, .end = begin};
            walk->given = begin;
            return true;
        }
        if (token == NULL)
            return false;
    }
    *piece = (added_piece){.token = walk->held, .begin = walk->given, .end = walk->held_end};
    if (walk->held_end > walk->given)
        walk->given = walk->held_end;
    walk->held = NULL;
    return true;
}

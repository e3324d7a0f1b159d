/*
 * context_chunk: what a chunk is, how it is named, and what is known of the KV computed for it.
 *
 * A content id names token ids; a kv id names attention states, and so takes in all that they depend on:
 *
 *   content id = H(domain, tokenizer fingerprint, token ids)
 *   kv id      = H(domain, model fingerprint, KV dtype, salt, basis, parent, content id)
 *
 * `basis` says what the tokens saw when they were computed, `parent` names it:
 *   ALONE     nothing stood before them; no parent
 *   ANCHORED  the path `parent` stood before them: the anchor
 *   PATH      the path `parent` stood before them, all of it exact: what a full prefill gives
 *   COMPOSED  the path `parent` stood before them, and chunks computed apart were part of it
 * A path is named by the kv id of its last run, or by kv_path_through() after a chunk computed apart.
 */
#ifndef CENTO_CASCADE_CONTEXT_CHUNK_H
#define CENTO_CASCADE_CONTEXT_CHUNK_H

#include "base/sha256.h"
#include "eviction_queue.h"
#include "page_manager.h"

typedef struct digest {
    uint8_t bytes[SHA256_BYTES];
} digest;

typedef enum kv_basis { KV_ALONE = 0, KV_ANCHORED = 1, KV_PATH = 2, KV_COMPOSED = 3 } kv_basis;

/* What all kv ids of one request have in common. */
typedef struct kv_scope {
    const uint8_t *model_fingerprint; /* (SHA256_BYTES) */
    const char *kv_dtype;             /* "bf16", "f32" */
    const char *salt;                 /* NULL: none, which is not the empty salt */
} kv_scope;

cento_status content_id_of(const uint8_t *tokenizer_fingerprint, const int32_t *tokens, size_t token_count,
                           digest *id, cento_error *error);
/* parent NULL: nothing before. */
cento_status kv_id_of(const kv_scope *scope, kv_basis basis, const digest *parent, const digest *content_id,
                      digest *id, cento_error *error);
/* Names the scope: the root of its prefix tree. */
cento_status kv_scope_id(const kv_scope *scope, digest *id, cento_error *error);
/* The path that goes on from `path` (NULL: from nothing) through the tokens `between_id` computed in place
 * (NULL: none) and then through a chunk's KV computed apart, of which the first `skipped_tokens` are not
 * used. */
cento_status kv_path_through(const kv_scope *scope, const digest *path, const digest *between_id,
                             const digest *chunk_kv_id, uint32_t skipped_tokens, digest *id,
                             cento_error *error);

static inline bool digest_equal(const digest *a, const digest *b) {
    return __builtin_memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Tokens of KV to be copied within the pool, all layers, before anything else of the step: a page that is
 * shared up to the middle is copied, never written (copy-on-write). Both stretches lie in one page each. */
typedef struct kv_copy {
    uint32_t from_slot, to_slot; /* page · page_tokens + index */
    uint32_t token_count;        /* 0: nothing to copy */
} kv_copy;

struct chunk_kv;
struct prefix_node;

/* Owned by the registry; guarded by registry.lock, but for what never changes: content_id, tokens. */
typedef struct context_chunk {
    digest content_id;
    cento_kind kind; /* of those it was registered as, the one that is kept longest */
    char label[128];
    int32_t *tokens; /* (token_count), owned */
    uint32_t token_count;
    uint32_t refs;       /* users outside the registry; >0 keeps it from eviction */
    uint32_t pins;       /* >0 keeps it and its KV from eviction and expiry */
    bool registered;     /* false: removed, freed with its last reference */
    uint64_t uses;       /* times a prompt had it */
    uint64_t created_ns; /* the registry's clock */
    uint64_t last_use_ns;
    uint64_t expires_ns;                   /* 0: never */
    uint64_t last_use;                     /* the registry's tick */
    struct chunk_kv *kvs;                  /* its KV states */
    uint32_t kvs_held;                     /* of these, in use or pinned; >0 keeps it from eviction */
    eviction_entry eviction;               /* queued while it may be evicted */
    struct context_chunk *next, *previous; /* the registry's list of chunks */
} context_chunk;

/*
 * Attention states in the pool: of a chunk computed apart, of what a composition computed in place, or of a
 * node of the prefix tree. Owned by the registry, guarded by registry.lock; the engine thread alone changes
 * run, tokens_ready and tokens_scheduled and may read them without it. Token i of it, if i < tokens_ready, is
 * never written again. What is missing may be computed by any sequence that has a reference: the first that
 * the scheduler comes to, and then nobody computes it twice.
 */
typedef struct chunk_kv {
    digest kv_id; /* its name; not set for nodes of the prefix tree, which are found by their tokens */
    struct prefix_node *node; /* the node it is part of; NULL: found by kv_id */
    context_chunk *chunk;     /* NULL: template text, an automatic prefix, or its chunk was removed */
    cento_kind kind;          /* decides how long it is kept */
    page_run *run;            /* owned */
    uint32_t refs;            /* sequences that use it; >0 keeps it from eviction */
    uint32_t pins; /* pinned chunks that need it: its own, and those of nodes behind it; >0 keeps it
                    * from eviction */
    uint32_t tokens;
    uint32_t tokens_ready;
    uint32_t tokens_scheduled; /* ready, or computed by the step under way; == tokens_ready between steps */
    uint32_t position;         /* from which its first key was rotated */
    bool registered;           /* false: removed, freed with its last reference */
    uint64_t last_use;         /* the registry's tick */
    struct chunk_kv *next_of_chunk, *previous_of_chunk;
    eviction_entry eviction; /* queued while it may be evicted */
} chunk_kv;

#endif

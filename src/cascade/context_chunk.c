/* Content ids and kv ids. Each hash begins with a tag of its own, so that no two kinds of id can meet. */
#include "context_chunk.h"

static void update_digest(sha256 *hash, const digest *id) {
    sha256_update_u64(hash, id != NULL);
    if (id != NULL)
        sha256_update(hash, id->bytes, sizeof id->bytes);
}

static void update_scope(sha256 *hash, const kv_scope *scope) {
    sha256_update(hash, scope->model_fingerprint, SHA256_BYTES);
    sha256_update_string(hash, scope->kv_dtype);
    sha256_update_u64(hash, scope->salt != NULL);
    if (scope->salt != NULL)
        sha256_update_string(hash, scope->salt);
}

cento_status content_id_of(const uint8_t *tokenizer_fingerprint, const int32_t *tokens, size_t token_count,
                           digest *id, cento_error *error) {
    sha256 hash;
    sha256_init(&hash);
    sha256_update_string(&hash, "cento content id 1");
    sha256_update(&hash, tokenizer_fingerprint, SHA256_BYTES);
    sha256_update_u64(&hash, token_count);
    uint8_t bytes[4 * 256]; /* little-endian, whatever the machine */
    for (size_t begin = 0; begin < token_count; begin += 256) {
        size_t count = token_count - begin < 256 ? token_count - begin : 256;
        for (size_t i = 0; i < count; i++) {
            uint32_t token = (uint32_t)tokens[begin + i];
            for (int byte = 0; byte < 4; byte++)
                bytes[4 * i + byte] = (uint8_t)(token >> 8 * byte);
        }
        sha256_update(&hash, bytes, 4 * count);
    }
    return sha256_final(&hash, id->bytes, error);
}

cento_status kv_id_of(const kv_scope *scope, kv_basis basis, const digest *parent, const digest *content_id,
                      digest *id, cento_error *error) {
    static const char *const names[] = {"alone", "anchored", "path", "composed"};
    sha256 hash;
    sha256_init(&hash);
    sha256_update_string(&hash, "cento kv id 1");
    update_scope(&hash, scope);
    sha256_update_string(&hash, names[basis]);
    update_digest(&hash, parent);
    update_digest(&hash, content_id);
    return sha256_final(&hash, id->bytes, error);
}

cento_status kv_scope_id(const kv_scope *scope, digest *id, cento_error *error) {
    sha256 hash;
    sha256_init(&hash);
    sha256_update_string(&hash, "cento kv scope 1");
    update_scope(&hash, scope);
    return sha256_final(&hash, id->bytes, error);
}

cento_status kv_path_through(const kv_scope *scope, const digest *path, const digest *between_id,
                             const digest *chunk_kv_id, uint32_t skipped_tokens, digest *id,
                             cento_error *error) {
    sha256 hash;
    sha256_init(&hash);
    sha256_update_string(&hash, "cento kv path 1");
    update_scope(&hash, scope);
    update_digest(&hash, path);
    update_digest(&hash, between_id);
    update_digest(&hash, chunk_kv_id);
    sha256_update_u64(&hash, skipped_tokens);
    return sha256_final(&hash, id->bytes, error);
}

/* SHA-256 (FIPS 180-4) through libcrypto, which uses SHA-NI where there is one. */
#ifndef CENTO_BASE_SHA256_H
#define CENTO_BASE_SHA256_H

#include "status.h"

#define SHA256_BYTES 32

typedef struct sha256 {
    void *context; /* EVP_MD_CTX, owned */
    bool failed;
} sha256;

void sha256_init(sha256 *hash);
void sha256_update(sha256 *hash, const void *data, size_t bytes);
void sha256_update_u64(sha256 *hash, uint64_t value);      /* as 8 bytes, little-endian */
void sha256_update_string(sha256 *hash, const char *text); /* length first, so that no two series of
                                                            * strings give the same bytes */
/* Finishes and releases. OUT_OF_MEMORY if any step failed. */
cento_status sha256_final(sha256 *hash, uint8_t digest[SHA256_BYTES], cento_error *error);

void sha256_hex(const uint8_t digest[SHA256_BYTES], char hex[2 * SHA256_BYTES + 1]);
/* 64 hex digits to a digest; false if it is not that. */
bool sha256_parse(const char *hex, uint8_t digest[SHA256_BYTES]);

#endif

/* SHA-256; see sha256.h. One thread per sha256. */
#include "sha256.h"

#include <openssl/evp.h>
#include <string.h>

void sha256_init(sha256 *hash) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    *hash = (sha256){.context = context};
    hash->failed = context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1;
}

void sha256_update(sha256 *hash, const void *data, size_t bytes) {
    if (!hash->failed && EVP_DigestUpdate(hash->context, data, bytes) != 1)
        hash->failed = true;
}

void sha256_update_u64(sha256 *hash, uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    sha256_update(hash, bytes, sizeof bytes);
}

void sha256_update_string(sha256 *hash, const char *text) {
    size_t bytes = strlen(text);
    sha256_update_u64(hash, bytes);
    sha256_update(hash, text, bytes);
}

cento_status sha256_final(sha256 *hash, uint8_t digest[SHA256_BYTES], cento_error *error) {
    unsigned int bytes = 0;
    if (!hash->failed && (EVP_DigestFinal_ex(hash->context, digest, &bytes) != 1 || bytes != SHA256_BYTES))
        hash->failed = true;
    EVP_MD_CTX_free(hash->context);
    hash->context = NULL;
    return hash->failed ? error_memory(error, SHA256_BYTES) : CENTO_OK;
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char hex[2 * SHA256_BYTES + 1]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * SHA256_BYTES] = '\0';
}

static int digit_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

bool sha256_parse(const char *hex, uint8_t digest[SHA256_BYTES]) {
    if (strlen(hex) != 2 * SHA256_BYTES)
        return false;
    for (int i = 0; i < SHA256_BYTES; i++) {
        int high = digit_value(hex[2 * i]);
        int low = digit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

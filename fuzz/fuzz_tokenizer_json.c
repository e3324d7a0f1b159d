/* tokenizer.json from anywhere: opening fails cleanly or gives a tokenizer that encodes and decodes;
 * streaming and whole decoding agree. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_decoding(const tokenizer *tokens, const token_vec *ids, bool skip_special) {
    cento_error error;
    strbuf whole = {0}, parts = {0};
    detokenizer stream;
    detokenizer_init(&stream, tokens, skip_special);
    cento_status status = tokenizer_decode(tokens, ids->ids, ids->count, skip_special, &whole, &error);
    cento_status streamed = CENTO_OK;
    for (size_t i = 0; streamed == CENTO_OK && i < ids->count; i++)
        streamed = detokenizer_push(&stream, ids->ids[i], &parts, &error);
    if (streamed == CENTO_OK)
        streamed = detokenizer_finish(&stream, &parts, &error);
    if (status == CENTO_OK && streamed == CENTO_OK &&
        (whole.bytes != parts.bytes || (whole.bytes > 0 && memcmp(whole.data, parts.data, whole.bytes) != 0)))
        abort();
    detokenizer_free(&stream);
    strbuf_free(&whole);
    strbuf_free(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const char text[] =
        " Hello  w\xc3\xb6rld <s> ab e\xcc\xa3\xcc\x81 it's 12345\xf0\x9f\x98\x80\xff\n\n\t\xe2\x96\x81 a";
    cento_error error;
    tokenizer *tokens = NULL;
    if (tokenizer_open_json_bytes("tokenizer.json", (const char *)data, bytes, &tokens, &error) != CENTO_OK)
        return 0;
    token_vec ids = {0};
    if (tokenizer_encode(tokens, text, sizeof text - 1, true, true, &ids, &error) == CENTO_OK)
        check_decoding(tokens, &ids, false);
    ids.count = 0;
    /* and the file itself, which holds its own tokens and patterns */
    size_t sample = bytes < 512 ? bytes : 512;
    if (tokenizer_encode(tokens, (const char *)data + (bytes - sample), sample, false, false, &ids, &error) ==
        CENTO_OK)
        check_decoding(tokens, &ids, true);
    token_vec_free(&ids);
    tokenizer_close(tokens);
    return 0;
}

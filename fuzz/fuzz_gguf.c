/* GGUF files from anywhere: header, values, tensor infos and the tokenizer in them. All that was found is
 * touched, so that a wrong bound shows. */
#include <stdint.h>
#include <string.h>

#include "model/gguf.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static volatile uint32_t sink;

static void touch(const void *memory, size_t bytes) {
    const uint8_t *byte = memory;
    for (size_t i = 0; i < bytes; i++)
        sink += byte[i];
}

static void use_vocabulary(const gguf_vocabulary *vocabulary) {
    static const char text[] = " Hello  w\xc3\xb6rld <s> ab 12345\xf0\x9f\x98\x80\xff\n\xe2\x96\x81 a";
    cento_error error;
    tokenizer *tokens = NULL;
    if (tokenizer_open_gguf("fuzz.gguf", vocabulary, &tokens, &error) != CENTO_OK)
        return;
    token_vec ids = {0};
    strbuf decoded = {0};
    if (tokenizer_encode(tokens, text, sizeof text - 1, true, true, &ids, &error) == CENTO_OK)
        (void)tokenizer_decode(tokens, ids.ids, ids.count, true, &decoded, &error);
    strbuf_free(&decoded);
    token_vec_free(&ids);
    tokenizer_close(tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    cento_error error;
    gguf_file file;
    if (gguf_open_bytes("fuzz.gguf", data, bytes, &file, &error) != CENTO_OK)
        return 0;
    for (size_t i = 0; i < file.value_count; i++) {
        touch(file.values[i].key, file.values[i].key_bytes);
        touch(file.values[i].data, file.values[i].bytes);
    }
    for (size_t i = 0; i < file.tensor_count; i++) {
        touch(file.tensors[i].name, file.tensors[i].name_bytes);
        touch(data + file.tensors[i].offset, (size_t)file.tensors[i].bytes);
    }
    gguf_vocabulary vocabulary;
    if (gguf_vocabulary_read(&file, &vocabulary, &error) == CENTO_OK) {
        use_vocabulary(&vocabulary);
        gguf_vocabulary_free(&vocabulary);
    }
    gguf_close(&file);
    return 0;
}

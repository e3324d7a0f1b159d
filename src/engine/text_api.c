/* The tokenizer of cento.h: opens a model's tokenizer without an engine. A cento_tokenizer is immutable;
 * callable from any thread. */
#include "base/file.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "text/tokenizer.h"

struct cento_tokenizer {
    tokenizer *tokens; /* owned */
};

static cento_status open_folder(const char *folder, tokenizer **tokens, cento_error *error) {
    char *path = path_join(folder, "tokenizer.json");
    char *config_path = path_join(folder, "tokenizer_config.json");
    cento_status status;
    if (path == NULL || config_path == NULL)
        status = error_memory(error, 0);
    else
        status = tokenizer_open_json(path, file_exists(config_path) ? config_path : NULL, tokens, error);
    mem_free(path);
    mem_free(config_path);
    return status;
}

static cento_status open_gguf(const char *path, tokenizer **tokens, cento_error *error) {
    gguf_file file;
    gguf_vocabulary vocabulary;
    TRY(gguf_open(path, &file, error));
    cento_status status = gguf_vocabulary_read(&file, &vocabulary, error);
    if (status == CENTO_OK) {
        status = tokenizer_open_gguf(path, &vocabulary, tokens, error);
        gguf_vocabulary_free(&vocabulary);
    }
    gguf_close(&file);
    return status;
}

cento_status cento_tokenizer_open(const char *model_path, cento_tokenizer **handle, cento_error *error) {
    if (model_path == NULL || handle == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "model_path and tokenizer must not be NULL");
    cento_tokenizer *opened = mem_zalloc(1, sizeof *opened);
    if (opened == NULL)
        return error_memory(error, sizeof *opened);
    cento_status status = file_is_folder(model_path) ? open_folder(model_path, &opened->tokens, error)
                                                     : open_gguf(model_path, &opened->tokens, error);
    if (status != CENTO_OK)
        mem_free(opened);
    else
        *handle = opened;
    return status;
}

void cento_tokenizer_close(cento_tokenizer *handle) {
    if (handle == NULL)
        return;
    tokenizer_close(handle->tokens);
    mem_free(handle);
}

cento_status cento_tokenize(const cento_tokenizer *handle, const char *text, size_t text_bytes,
                            bool add_special, bool parse_special, int32_t **tokens, size_t *token_count,
                            cento_error *error) {
    if (handle == NULL || (text == NULL && text_bytes > 0) || tokens == NULL || token_count == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "tokenizer, text and results must not be NULL");
    token_vec ids = {0};
    cento_status status = tokenizer_encode(handle->tokens, text == NULL ? "" : text, text_bytes, add_special,
                                           parse_special, &ids, error);
    if (status == CENTO_OK && ids.ids == NULL && (ids.ids = mem_alloc(1, sizeof *ids.ids)) == NULL)
        status = error_memory(error, sizeof *ids.ids); /* no tokens are still something to free */
    if (status != CENTO_OK) {
        token_vec_free(&ids);
        return status;
    }
    *tokens = ids.ids;
    *token_count = ids.count;
    return CENTO_OK;
}

cento_status cento_detokenize(const cento_tokenizer *handle, const int32_t *tokens, size_t token_count,
                              bool skip_special, char **text, size_t *text_bytes, cento_error *error) {
    if (handle == NULL || (tokens == NULL && token_count > 0) || text == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "tokenizer, tokens and text must not be NULL");
    strbuf decoded = {0};
    cento_status status =
        tokenizer_decode(handle->tokens, tokens, token_count, skip_special, &decoded, error);
    if (status != CENTO_OK) {
        strbuf_free(&decoded);
        return status;
    }
    *text = strbuf_take(&decoded, text_bytes);
    return *text == NULL ? error_memory(error, 1) : CENTO_OK;
}

const char *cento_token_spelling(const cento_tokenizer *handle, int32_t token, size_t *bytes) {
    uint32_t length = 0;
    const char *spelling = tokenizer_spelling(handle->tokens, token, &length);
    if (bytes != NULL)
        *bytes = length;
    return spelling;
}

/*
 * tokens: text without an engine. Shows how a model cuts a text, and what the model is.
 *
 *     tokens MODEL TEXT
 */
#include <cento.h>
#include <stdio.h>
#include <string.h>

static cento_status show_tokens(const char *model, const char *text, cento_error *error) {
    cento_tokenizer *tokenizer = NULL;
    cento_status status = cento_tokenizer_open(model, &tokenizer, error);
    if (status != CENTO_OK)
        return status;
    int32_t *tokens = NULL;
    size_t count = 0;
    status = cento_tokenize(tokenizer, text, strlen(text), false, false, &tokens, &count, error);
    for (size_t i = 0; i < count; i++)
        printf("%d '%s'\n", tokens[i], cento_token_spelling(tokenizer, tokens[i], NULL));
    char *back = NULL;
    if (status == CENTO_OK)
        status = cento_detokenize(tokenizer, tokens, count, true, &back, NULL, error);
    if (status == CENTO_OK)
        printf("%zu tokens: %s\n", count, back);
    cento_free(back);
    cento_free(tokens);
    cento_tokenizer_close(tokenizer);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: tokens MODEL TEXT\n");
        return 2;
    }
    cento_error error = {CENTO_OK, ""};
    char *description = NULL;
    cento_status status = show_tokens(argv[1], argv[2], &error);
    if (status == CENTO_OK)
        status = cento_model_describe(argv[1], 0, &description, &error); /* reads no weights */
    if (status == CENTO_OK)
        printf("%s\n", description);
    else
        fprintf(stderr, "tokens: %s\n", error.message);
    cento_free(description);
    return status == CENTO_OK ? 0 : 1;
}

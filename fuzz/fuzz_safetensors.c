/* A safetensors file from memory: opens or refuses; then every tensor's bytes lie inside of the input. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static uint64_t open_and_read(const uint8_t *data, size_t bytes) {
    cento_error error = {0};
    safetensors *tensors = NULL;
    if (safetensors_open_bytes("input", data, bytes, &tensors, &error) != CENTO_OK) {
        if (error.message[0] == '\0')
            abort();
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < safetensors_count(tensors); i++) {
        const safetensor *tensor = safetensors_at(tensors, i);
        char text[SAFETENSORS_SHAPE_TEXT];
        safetensors_shape_text(tensor->shape, tensor->rank, text);
        if (safetensors_find(tensors, tensor->name) != tensor)
            abort();
        for (uint64_t j = 0; j < tensor->bytes; j++)
            sum += tensor->data[j];
    }
    safetensors_close(tensors);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    uint64_t sum = open_and_read(data, bytes);
    /* again with the header's length put right, so that most mutations reach what lies behind it: the header
     * ends at the last '}' */
    size_t end = bytes;
    while (end > 8 && data[end - 1] != '}')
        end--;
    if (end > 8) {
        uint8_t *file = malloc(bytes);
        if (file == NULL)
            return 0;
        memcpy(file, data, bytes);
        for (size_t i = 0; i < 8; i++)
            file[i] = (uint8_t)((uint64_t)(end - 8) >> (8 * i));
        sum += open_and_read(file, bytes);
        free(file);
    }
    /* so that the reads are not optimised away */
    return sum == UINT64_MAX ? -1 : 0;
}

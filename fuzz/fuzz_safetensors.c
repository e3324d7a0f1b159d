/* A safetensors file from memory: opens or refuses; then every tensor's bytes lie inside of the input. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    cento_error error;
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
    /* so that the reads above are not optimised away */
    return sum == UINT64_MAX ? -1 : 0;
}

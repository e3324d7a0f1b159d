/* config.json, then the same bytes as generation_config.json: read or refused; what is read can be computed
 * with. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/model_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    cento_error error;
    model_config config;
    const char *text = (const char *)data;
    if (model_config_parse("input", text, bytes, &config, &error) == CENTO_OK) {
        double inv_freq[512], factor;
        if (config.head_dim < 2 || config.head_dim > 1024 || config.head_dim % 2 != 0 ||
            config.heads % config.kv_heads != 0)
            abort();
        model_config_rope(&config, inv_freq, &factor);
        for (uint32_t i = 0; i < config.head_dim / 2; i++)
            if (!isfinite(inv_freq[i]) || inv_freq[i] < 0)
                abort();
        if (!isfinite(factor) || model_config_parameters(&config) == 0 ||
            model_config_kv_bytes_per_token(&config, CENTO_DTYPE_F32) == 0)
            abort();
    }
    model_config other = {.vocab_size = 1000};
    (void)model_config_parse_generation("input", text, bytes, &other, &error);
    return 0;
}

/* Opening an engine without a model's weights, for benchmarks. */
#ifndef CENTO_ENGINE_ENGINE_SHAPE_H
#define CENTO_ENGINE_ENGINE_SHAPE_H

#include "model/model_config.h"

/* cento_open, with random weights in this shape in place of the folder's; NULL: with the folder's. The folder
 * still gives tokenizer and chat template, so shape->vocab_size must be one that they fit. */
cento_status engine_open_shape(const cento_options *options, const model_config *shape, cento_engine **engine,
                               cento_error *error);

#endif

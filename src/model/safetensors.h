/*
 * safetensors: tensors of a model folder, mapped read-only; one file or several with an index. Everything is
 * checked when it is opened, before any tensor can be used: the header against the file's length, every
 * tensor's shape and dtype against its bytes, the order of the bytes (no hole, no overlap), names against
 * the index. Immutable once open: any number of threads may read.
 *
 * The format (https://github.com/huggingface/safetensors), all little-endian:
 *
 *   offset      bytes       meaning
 *   0           8           N: length of the header, unsigned; at most 100,000,000
 *   8           N           JSON in UTF-8, begins with '{', may end with spaces:
 *                           {"NAME": {"dtype": "BF16", "shape": [rows, columns],
 *                                     "data_offsets": [begin, end]}, …,
 *                            "__metadata__": {"KEY": "VALUE", …}}
 *   8+N+begin   end-begin   a tensor's values, row-major, the last dimension fastest
 *
 * Offsets count from 8+N. Sorted, the tensors' bytes follow each other without hole or overlap from 0 to the
 * file's end. There is no checksum and no alignment: data may begin at an odd address if the writer did not
 * pad the header, and is then used as it is.
 *
 * Sharded models have model.safetensors.index.json: {"weight_map": {"NAME": "FILE", …}}, with files beside
 * it.
 */
#ifndef CENTO_MODEL_SAFETENSORS_H
#define CENTO_MODEL_SAFETENSORS_H

#include "base/status.h"

typedef struct safetensors safetensors;

#define SAFETENSORS_RANK_MAX 8

typedef struct safetensor {
    const char *name;  /* lives as long as the safetensors */
    const char *dtype; /* as the format spells it: "BF16", "F16", "F32", "I64", … */
    uint32_t rank;
    uint64_t shape[SAFETENSORS_RANK_MAX];
    const uint8_t *data; /* mapped; may be unaligned */
    uint64_t bytes;
    uint64_t offset; /* of data in its file */
    uint32_t file;   /* index into safetensors_path() */
} safetensor;

/* folder/model.safetensors, else the files that folder/model.safetensors.index.json names. */
cento_status safetensors_open(const char *folder, safetensors **result, cento_error *error);
/* One file's bytes in memory, borrowed until close; `where` begins error messages. For tests and fuzzing. */
cento_status safetensors_open_bytes(const char *where, const void *data, size_t bytes, safetensors **result,
                                    cento_error *error);
void safetensors_close(safetensors *tensors); /* NULL is allowed */

size_t safetensors_count(const safetensors *tensors);
const safetensor *safetensors_at(const safetensors *tensors, size_t index);       /* in file order */
const safetensor *safetensors_find(const safetensors *tensors, const char *name); /* NULL: not there */

uint32_t safetensors_file_count(const safetensors *tensors);
const char *safetensors_path(const safetensors *tensors, uint32_t file);
uint64_t safetensors_file_bytes(const safetensors *tensors, uint32_t file);

/* Takes all mapped pages out of the resident set; reading a tensor again brings its pages back. */
void safetensors_drop(const safetensors *tensors);

/* "[3072, 1024]" into text; returns text. */
#define SAFETENSORS_SHAPE_TEXT 192
const char *safetensors_shape_text(const uint64_t *shape, uint32_t rank, char text[SAFETENSORS_SHAPE_TEXT]);

#endif

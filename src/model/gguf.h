/*
 * GGUF: the model file format of llama.cpp, versions 2 and 3, little-endian (the format is specified at the
 * head of gguf.c). Opening validates everything: every string, array and tensor lies inside the file, so that
 * what is found later needs no more checks. Keys, strings and arrays point into the file's bytes, which stay
 * mapped until gguf_close. Immutable once opened; any number of threads may read it.
 */
#ifndef CENTO_MODEL_GGUF_H
#define CENTO_MODEL_GGUF_H

#include "base/file.h"
#include "base/gguf_vocabulary.h"
#include "base/strmap.h"

typedef enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
} gguf_type;

typedef struct gguf_value {
    const char *key; /* not NUL-terminated */
    uint32_t key_bytes;
    gguf_type type;      /* GGUF_ARRAY: of `element` */
    gguf_type element;   /* the type itself when it is no array */
    uint64_t count;      /* elements; 1 when it is no array */
    const uint8_t *data; /* the first element; unaligned; strings are u64 length + bytes, one after another */
    size_t bytes;        /* of all elements */
} gguf_value;

#define GGUF_DIMENSIONS_MAX 4

typedef struct gguf_tensor {
    const char *name; /* not NUL-terminated */
    uint32_t name_bytes;
    uint32_t dimensions;
    uint64_t shape[GGUF_DIMENSIONS_MAX]; /* fastest first; 1 beyond `dimensions` */
    uint32_t type;                       /* ggml_type */
    uint64_t offset;                     /* in the file */
    uint64_t bytes;
} gguf_tensor;

typedef struct gguf_file {
    char *where;      /* owned; begins error messages */
    file_map map;     /* owned when gguf_open made it, else empty */
    uint32_t version; /* 2 or 3 */
    uint32_t alignment;
    gguf_value *values; /* (value_count), owned */
    size_t value_count;
    gguf_tensor *tensors; /* (tensor_count), owned */
    size_t tensor_count;
    strmap value_index, tensor_index; /* by key and by name */
} gguf_file;

cento_status gguf_open(const char *path, gguf_file *file, cento_error *error);
/* From bytes that outlive the file; for tests and fuzzing. */
cento_status gguf_open_bytes(const char *where, const void *data, size_t bytes, gguf_file *file,
                             cento_error *error);
void gguf_close(gguf_file *file);

const gguf_value *gguf_find(const gguf_file *file, const char *key); /* NULL: not there */
const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name);
const char *gguf_type_name(gguf_type type);       /* "u8", "string", … */
const char *gguf_tensor_type_name(uint32_t type); /* "Q4_K", …; "unknown" */

/* Keep *value when the key is missing; any integer type will do, in [min, max]. */
cento_status gguf_get_integer(const gguf_file *file, const char *key, int64_t min, int64_t max,
                              int64_t *value, cento_error *error);
cento_status gguf_get_bool(const gguf_file *file, const char *key, bool *value, cento_error *error);
/* *text is NUL-terminated and released with mem_free; unchanged when the key is missing. */
cento_status gguf_get_string(const gguf_file *file, const char *key, char **text, cento_error *error);

/* The tokenizer's vocabulary. Strings point into the file. Release with gguf_vocabulary_free, before
 * gguf_close. */
cento_status gguf_vocabulary_read(const gguf_file *file, gguf_vocabulary *vocabulary, cento_error *error);
void gguf_vocabulary_free(gguf_vocabulary *vocabulary);

#endif

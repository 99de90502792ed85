/* ferrum/gguf.h: reading and writing GGUF files.
 *
 * The reader maps the file and points into it: keys, strings, arrays and tensors are views that live until
 * ferrum_gguf_close. Versions 2 and 3, little-endian. Every count, length, offset, type, alignment and product is checked
 * before it is used, so a view that the reader hands out is always inside the file.
 * Source of the format: the GGUF specification (docs/gguf.md of the ggml project).
 *
 * Threads: an open ferrum_gguf is immutable and may be read from any number of threads.
 */
#ifndef FERRUM_GGUF_H
#define FERRUM_GGUF_H

#include <ferrum/common.h>
#include <ferrum/kernels.h> /* ferrum_type */

#ifdef __cplusplus
extern "C" {
#endif

/* A view of bytes that are not NUL-terminated and may hold any value. */
typedef struct ferrum_str {
    const char *data;
    size_t len;
} ferrum_str;

/* Value types, with the numbers that the file uses. */
typedef enum ferrum_gguf_type {
    FERRUM_GGUF_U8 = 0,
    FERRUM_GGUF_I8 = 1,
    FERRUM_GGUF_U16 = 2,
    FERRUM_GGUF_I16 = 3,
    FERRUM_GGUF_U32 = 4,
    FERRUM_GGUF_I32 = 5,
    FERRUM_GGUF_F32 = 6,
    FERRUM_GGUF_BOOL = 7,
    FERRUM_GGUF_STRING = 8,
    FERRUM_GGUF_ARRAY = 9,
    FERRUM_GGUF_U64 = 10,
    FERRUM_GGUF_I64 = 11,
    FERRUM_GGUF_F64 = 12,
} ferrum_gguf_type;

/* One key and its value. Arrays of arrays are refused by the reader. */
typedef struct ferrum_gguf_kv {
    ferrum_str key;
    ferrum_gguf_type type;
    union {
        uint64_t u;     /* U8 U16 U32 U64 BOOL */
        int64_t i;      /* I8 I16 I32 I64 */
        double f;       /* F32 F64 */
        ferrum_str str; /* STRING */
        struct {
            ferrum_gguf_type type; /* of the elements; never ARRAY */
            uint64_t count;
            const void *data; /* the first element, as it lies in the file: unaligned, little-endian */
            size_t bytes;     /* of all elements; strings each stand as a 64-bit length and that many bytes */
        } array;
    } value;
} ferrum_gguf_kv;

typedef struct ferrum_gguf_tensor {
    ferrum_str name; /* at most 63 bytes */
    ferrum_type type;
    uint32_t rank;     /* 1 … 4 */
    uint64_t shape[4]; /* innermost first, as the file has it; 1 beyond rank */
    uint64_t bytes;    /* of the data */
    uint32_t part;     /* which file of a split model holds it; 0 in a single file */
    uint64_t offset;   /* of the data, from the start of that part's mapping */
    const void *data;  /* inside the mapping */
} ferrum_gguf_tensor;

typedef struct ferrum_gguf ferrum_gguf;

/* Opens a GGUF file. Where the path ends in -00001-of-0000N.gguf all N parts are opened as one: the metadata is the first
 * part's, the tensors are all parts'. Any other part than the first is refused, naming the first.
 * general.alignment: a u32, a power of two from 8 to 65536.
 * Errors: FERRUM_EIO, FERRUM_EFORMAT, FERRUM_EUNSUPPORTED (version 1, big-endian, unknown block type, arrays of arrays),
 * FERRUM_EINVAL (a later part of a split model), FERRUM_ENOMEM. */
FERRUM_API int ferrum_gguf_open(ferrum_gguf **out, const char *path, ferrum_error *err);

/* The same over bytes in memory, which must outlive the handle; `name` is what messages call it. A part of a split model is
 * FERRUM_EUNSUPPORTED. */
FERRUM_API int ferrum_gguf_open_memory(ferrum_gguf **out, const void *data, size_t bytes, const char *name,
                                       ferrum_error *err);
FERRUM_API void ferrum_gguf_close(ferrum_gguf *g);

FERRUM_API uint32_t ferrum_gguf_version(const ferrum_gguf *g);
FERRUM_API const char *ferrum_gguf_path(const ferrum_gguf *g); /* as given to open */

/* The mapped parts: at least one. `bytes` is that part's length. */
FERRUM_API uint32_t ferrum_gguf_parts(const ferrum_gguf *g);
FERRUM_API const void *ferrum_gguf_part(const ferrum_gguf *g, uint32_t part, uint64_t *bytes);

FERRUM_API uint64_t ferrum_gguf_kv_count(const ferrum_gguf *g);
FERRUM_API const ferrum_gguf_kv *ferrum_gguf_kv_at(const ferrum_gguf *g, uint64_t index); /* NULL past the end */
FERRUM_API const ferrum_gguf_kv *ferrum_gguf_find(const ferrum_gguf *g, const char *key); /* NULL if absent */

FERRUM_API uint64_t ferrum_gguf_tensor_count(const ferrum_gguf *g);
FERRUM_API const ferrum_gguf_tensor *ferrum_gguf_tensor_at(const ferrum_gguf *g, uint64_t index);
FERRUM_API const ferrum_gguf_tensor *ferrum_gguf_find_tensor(const ferrum_gguf *g, const char *name);

/* Typed look-ups. 1: found and stored; 0: absent, *out untouched; negative: of another type, or outside the range of the
 * result (FERRUM_EFORMAT, the sentence names file, key and both types or the value). Integers of any width and sign are
 * taken where the value fits. */
FERRUM_API int ferrum_gguf_get_u32(const ferrum_gguf *g, const char *key, uint32_t *out, ferrum_error *err);
FERRUM_API int ferrum_gguf_get_f32(const ferrum_gguf *g, const char *key, float *out, ferrum_error *err);
FERRUM_API int ferrum_gguf_get_bool(const ferrum_gguf *g, const char *key, bool *out, ferrum_error *err);
FERRUM_API int ferrum_gguf_get_str(const ferrum_gguf *g, const char *key, ferrum_str *out, ferrum_error *err);

/* Walks an array of strings: `cursor` starts at 0 and is the walk's own. False at the end, and for any other value. */
FERRUM_API bool ferrum_gguf_next_str(const ferrum_gguf_kv *kv, size_t *cursor, ferrum_str *out);

/* Element `index` of a numeric array, as a double; index must be below its count. */
FERRUM_API double ferrum_gguf_array_number(const ferrum_gguf_kv *kv, uint64_t index);

FERRUM_API const char *ferrum_gguf_type_name(ferrum_gguf_type type);

/* Writing. Keys and tensors are collected (keys and values are copied; tensor data is borrowed until
 * ferrum_gguf_writer_save returns) and written in order, version 3, to a temporary file that takes PATH's name when all is on disk.
 * A failed add makes save fail with the same sentence, so that adds need no checking of their own. */
typedef struct ferrum_gguf_writer ferrum_gguf_writer;
FERRUM_API int ferrum_gguf_writer_open(ferrum_gguf_writer **out, ferrum_error *err);
FERRUM_API void ferrum_gguf_writer_u32(ferrum_gguf_writer *w, const char *key, uint32_t value);
FERRUM_API void ferrum_gguf_writer_u64(ferrum_gguf_writer *w, const char *key, uint64_t value);
FERRUM_API void ferrum_gguf_writer_f32(ferrum_gguf_writer *w, const char *key, float value);
FERRUM_API void ferrum_gguf_writer_bool(ferrum_gguf_writer *w, const char *key, bool value);
FERRUM_API void ferrum_gguf_writer_str(ferrum_gguf_writer *w, const char *key, const char *value);
FERRUM_API void ferrum_gguf_writer_strs(ferrum_gguf_writer *w, const char *key, const ferrum_str *values,
                                        uint64_t count);
/* `type` is any numeric type or BOOL; `values` holds `count` of them in native byte order. */
FERRUM_API void ferrum_gguf_writer_array(ferrum_gguf_writer *w, const char *key, ferrum_gguf_type type,
                                         const void *values, uint64_t count);
/* Copies a key of an open file as it is; general.alignment sets the alignment. */
FERRUM_API void ferrum_gguf_writer_copy(ferrum_gguf_writer *w, const ferrum_gguf_kv *kv);
/* Power of two from 8 to 65536; 32 unless set. Written as general.alignment where it is not 32. */
FERRUM_API void ferrum_gguf_writer_alignment(ferrum_gguf_writer *w, uint32_t alignment);
FERRUM_API void ferrum_gguf_writer_tensor(ferrum_gguf_writer *w, const char *name, ferrum_type type, uint32_t rank,
                                          const uint64_t *shape, const void *data);
FERRUM_API int ferrum_gguf_writer_save(ferrum_gguf_writer *w, const char *path, ferrum_error *err);
/* The whole file in memory; release *out with ferrum_free. */
FERRUM_API int ferrum_gguf_writer_bytes(ferrum_gguf_writer *w, void **out, size_t *bytes, ferrum_error *err);
/* The file's beginning alone, up to where the tensors' data starts, and how many bytes of data are to follow it, for data that
 * is made in place: tensors may have been added with data NULL. Release *out with ferrum_free. */
FERRUM_API int ferrum_gguf_writer_header(ferrum_gguf_writer *w, void **out, size_t *bytes, uint64_t *data_bytes,
                                         ferrum_error *err);
FERRUM_API void ferrum_gguf_writer_close(ferrum_gguf_writer *w);

#ifdef __cplusplus
}
#endif
#endif

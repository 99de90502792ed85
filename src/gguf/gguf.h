/* What the files of the GGUF reader and writer share: the rules that both hold to, and the reader's own structures. */
#ifndef FE_GGUF_H
#define FE_GGUF_H

#include "core/core.h"
#include <ferrum/gguf.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights and arrays are used in place, in the file's order");

enum {
    FE_GGUF_VERSION = 3,           /* that is written; 2 is read too, and lays its bytes out alike */
    FE_GGUF_KEY_MAX = 65535,       /* bytes of a key: the specification's limit */
    FE_GGUF_NAME_MAX = 63,         /* bytes of a tensor's name: ggml keeps it in 64 with its NUL */
    FE_GGUF_ALIGNMENT = 32,        /* where general.alignment is absent */
    FE_GGUF_ALIGNMENT_MIN = 8,     /* the specification asks for a multiple of 8 */
    FE_GGUF_ALIGNMENT_MAX = 65536, /* the largest page that CPUs map; beyond it there would be padding and no use */
};

/* ---- Rules (rules.c) ---- each returns 0, or a FERRUM_E… code with a predicate in `why`: "has an empty name". */

enum { FE_WHY = 192 };
int fe_gguf_check_name(char why[FE_WHY], ferrum_str name, size_t max);
int fe_gguf_check_alignment(char why[FE_WHY], uint64_t alignment);
int fe_gguf_check_rank(char why[FE_WHY], uint32_t rank);
/* *bytes: of the data. rank is one that fe_gguf_check_rank took. */
int fe_gguf_check_shape(char why[FE_WHY], uint32_t type, uint32_t rank, const uint64_t *shape, uint64_t *bytes);

/* Bytes of one value; 0 for strings, arrays and unknown types. */
size_t fe_gguf_value_bytes(uint32_t type);

/* A name out of a file, for a message: fe_gguf_show(name).s. */
typedef struct fe_shown {
    char s[100];
} fe_shown;
static inline fe_shown fe_gguf_show(ferrum_str name) {
    fe_shown shown;
    fe_printable(shown.s, sizeof shown.s, name.data, name.len);
    return shown;
}

/* ---- Sorted names (names.c) ---- an index over structs whose first member is their name. */

typedef struct fe_names {
    const ferrum_str **sorted;
    size_t count;
} fe_names;
/* Sorts `count` structs of `size` bytes. *twice: the later of two of one name, and *once the earlier; NULL where all
 * differ. */
int fe_names_open(fe_names *names, const void *items, size_t count, size_t size, const ferrum_str **once,
                  const ferrum_str **twice, ferrum_error *err);
void fe_names_close(fe_names *names);
const void *fe_names_find(const fe_names *names, const char *name); /* the struct, or NULL */

/* ---- The reader ---- */

typedef struct fe_kvs {
    ferrum_gguf_kv *list;
    size_t count, capacity;
    fe_names names;
} fe_kvs;
void fe_kvs_free(fe_kvs *kvs);
/* As ferrum_gguf_get_u32; path is for the message. */
int fe_kvs_get_u32(const fe_kvs *kvs, const char *path, const char *key, uint32_t *out, ferrum_error *err);

struct ferrum_gguf {
    char *path;
    uint32_t version; /* of the first part */
    fe_map *parts;
    uint32_t part_count;
    bool mapped; /* the parts are ours to unmap */
    fe_kvs kvs;  /* of the first part */
    ferrum_gguf_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    fe_names names; /* of the tensors */
};

/* Where part `part` of a file that was opened by its path lies; release with free. NULL where memory runs out. */
char *fe_gguf_part_path(const ferrum_gguf *g, uint32_t part, ferrum_error *err);
/* Would the path be opened as one part of several? */
bool fe_gguf_names_part(const char *path);

/* Reads the last of g's parts: its keys into kvs (empty before), its tensors behind those of g. `path` is that part's
 * (parse.c). */
int fe_gguf_parse(ferrum_gguf *g, const char *path, fe_kvs *kvs, uint32_t *version, ferrum_error *err);

#endif

/* Writes GGUF version 3. Keys are encoded as they come in; the file is put together when it is saved. */
#include "core/output.h"
#include "gguf/gguf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct out_key {
    ferrum_str name; /* owned */
    ferrum_gguf_type type;
    fe_text value; /* as the file has it; an array with its type and count */
} out_key;

typedef struct out_tensor {
    ferrum_str name; /* owned */
    ferrum_type type;
    uint32_t rank;
    uint64_t shape[4], bytes, offset; /* offset: from the start of the data */
    const void *data;                 /* borrowed */
} out_tensor;

struct ferrum_gguf_writer {
    out_key *keys;
    out_tensor *tensors;
    size_t key_count, key_capacity, tensor_count, tensor_capacity;
    uint32_t alignment;
    ferrum_error error; /* the first that an add met with; code 0: none */
};

int ferrum_gguf_writer_open(ferrum_gguf_writer **out, ferrum_error *err) {
    *out = calloc(1, sizeof **out);
    if (!*out) return fe_fail_memory(err, sizeof **out, "a GGUF writer");
    (*out)->alignment = FE_GGUF_ALIGNMENT;
    return 0;
}

void ferrum_gguf_writer_close(ferrum_gguf_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->key_count; i++) {
        free((void *)w->keys[i].name.data);
        fe_text_free(&w->keys[i].value);
    }
    for (size_t i = 0; i < w->tensor_count; i++) free((void *)w->tensors[i].name.data);
    free(w->keys);
    free(w->tensors);
    free(w);
}

/* Keeps the first failure. */
__attribute__((format(printf, 4, 5))) static void fail_add(ferrum_gguf_writer *w, int code, ferrum_str name,
                                                           const char *format, ...) {
    if (w->error.code) return;
    char why[320];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    fe_error_set(&w->error, code, "%s %s", fe_gguf_show(name).s, why);
}

static void *grow(ferrum_gguf_writer *w, void *list, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity) return list;
    size_t wanted = *capacity ? 2 * *capacity : 64, bytes;
    void *grown = __builtin_mul_overflow(wanted, size, &bytes) ? NULL : realloc(list, bytes);
    if (grown)
        *capacity = wanted;
    else
        fe_fail_memory(&w->error, wanted, "the entries of a GGUF file");
    return grown;
}

static bool copy_name(ferrum_gguf_writer *w, ferrum_str name, ferrum_str *out) {
    char *copy = malloc(name.len);
    if (!copy) {
        fe_fail_memory(&w->error, name.len, "a name");
        return false;
    }
    memcpy(copy, name.data, name.len);
    *out = (ferrum_str){copy, name.len};
    return true;
}

/* ---- Keys ---- */

/* That key says how this file is laid out, so it is written from w->alignment and from nothing else. */
static bool is_alignment(ferrum_str name) {
    static const char key[] = "general.alignment";
    return name.len == strlen(key) && memcmp(name.data, key, name.len) == 0;
}

/* A new key whose value is still empty; NULL after a failure. */
static fe_text *add_key(ferrum_gguf_writer *w, ferrum_str name, ferrum_gguf_type type) {
    char why[FE_WHY];
    if (w->error.code) return NULL;
    int rc = fe_gguf_check_name(why, name, FE_GGUF_KEY_MAX);
    if (rc) {
        fail_add(w, FERRUM_EINVAL, (ferrum_str){"a key", 5}, "%s", why);
        return NULL;
    }
    if (is_alignment(name)) {
        fail_add(w, FERRUM_EINVAL, name, "is given as type %s, u32 is needed", ferrum_gguf_type_name(type));
        return NULL;
    }
    out_key *grown = grow(w, w->keys, w->key_count, &w->key_capacity, sizeof *w->keys);
    if (!grown) return NULL;
    w->keys = grown;
    out_key *key = &w->keys[w->key_count];
    *key = (out_key){.type = type};
    if (!copy_name(w, name, &key->name)) return NULL;
    w->key_count++;
    return &key->value;
}

static ferrum_str str_of(const char *s) { return (ferrum_str){s, strlen(s)}; }

static void put(fe_text *t, const void *data, size_t n) { fe_text_append(t, data, n); }

static void put_str(fe_text *t, ferrum_str s) {
    uint64_t len = s.len;
    put(t, &len, sizeof len);
    put(t, s.data, s.len);
}

static void add_scalar(ferrum_gguf_writer *w, ferrum_str name, ferrum_gguf_type type, const void *value) {
    if (type == FERRUM_GGUF_U32 && is_alignment(name)) {
        uint32_t alignment;
        memcpy(&alignment, value, sizeof alignment);
        ferrum_gguf_writer_alignment(w, alignment);
        return;
    }
    fe_text *t = add_key(w, name, type);
    if (t) put(t, value, fe_gguf_value_bytes(type));
}

void ferrum_gguf_writer_u32(ferrum_gguf_writer *w, const char *key, uint32_t value) {
    add_scalar(w, str_of(key), FERRUM_GGUF_U32, &value);
}

void ferrum_gguf_writer_u64(ferrum_gguf_writer *w, const char *key, uint64_t value) {
    add_scalar(w, str_of(key), FERRUM_GGUF_U64, &value);
}

void ferrum_gguf_writer_f32(ferrum_gguf_writer *w, const char *key, float value) {
    add_scalar(w, str_of(key), FERRUM_GGUF_F32, &value);
}

void ferrum_gguf_writer_bool(ferrum_gguf_writer *w, const char *key, bool value) {
    uint8_t byte = value;
    add_scalar(w, str_of(key), FERRUM_GGUF_BOOL, &byte);
}

void ferrum_gguf_writer_str(ferrum_gguf_writer *w, const char *key, const char *value) {
    fe_text *t = add_key(w, str_of(key), FERRUM_GGUF_STRING);
    if (t) put_str(t, str_of(value));
}

static fe_text *add_array(ferrum_gguf_writer *w, ferrum_str name, ferrum_gguf_type type, uint64_t count) {
    uint32_t element = type;
    fe_text *t = add_key(w, name, FERRUM_GGUF_ARRAY);
    if (!t) return NULL;
    put(t, &element, sizeof element);
    put(t, &count, sizeof count);
    return t;
}

void ferrum_gguf_writer_strs(ferrum_gguf_writer *w, const char *key, const ferrum_str *values, uint64_t count) {
    fe_text *t = add_array(w, str_of(key), FERRUM_GGUF_STRING, count);
    for (uint64_t i = 0; t && i < count; i++) put_str(t, values[i]);
}

void ferrum_gguf_writer_array(ferrum_gguf_writer *w, const char *key, ferrum_gguf_type type, const void *values,
                              uint64_t count) {
    size_t size = fe_gguf_value_bytes(type), bytes;
    if (size == 0) {
        fail_add(w, FERRUM_EINVAL, str_of(key), "is given as an array of type %s, a number or bool is needed",
                 ferrum_gguf_type_name(type));
        return;
    }
    if (__builtin_mul_overflow(count, size, &bytes)) {
        fail_add(w, FERRUM_EINVAL, str_of(key), "is given as %llu elements of %zu bytes, more than memory holds",
                 (unsigned long long)count, size);
        return;
    }
    fe_text *t = add_array(w, str_of(key), type, count);
    if (t) put(t, values, bytes);
}

void ferrum_gguf_writer_copy(ferrum_gguf_writer *w, const ferrum_gguf_kv *kv) {
    fe_text *t;
    switch (kv->type) {
    case FERRUM_GGUF_STRING:
        t = add_key(w, kv->key, kv->type);
        if (t) put_str(t, kv->value.str);
        break;
    case FERRUM_GGUF_ARRAY:
        t = add_array(w, kv->key, kv->value.array.type, kv->value.array.count);
        if (t) put(t, kv->value.array.data, kv->value.array.bytes);
        break;
    case FERRUM_GGUF_F32: {
        float f = (float)kv->value.f;
        add_scalar(w, kv->key, kv->type, &f);
        break;
    }
    default: add_scalar(w, kv->key, kv->type, &kv->value); /* the low bytes of an integer, or the double */
    }
}

void ferrum_gguf_writer_alignment(ferrum_gguf_writer *w, uint32_t alignment) {
    char why[FE_WHY];
    int rc = fe_gguf_check_alignment(why, alignment);
    if (rc)
        fail_add(w, FERRUM_EINVAL, str_of("the alignment"), "%s", why);
    else
        w->alignment = alignment;
}

/* ---- Tensors ---- */

void ferrum_gguf_writer_tensor(ferrum_gguf_writer *w, const char *name, ferrum_type type, uint32_t rank,
                               const uint64_t *shape, const void *data) {
    char why[FE_WHY];
    out_tensor t = {.type = type, .rank = rank, .data = data};
    if (w->error.code) return;
    int rc = fe_gguf_check_name(why, str_of(name), FE_GGUF_NAME_MAX);
    if (rc == 0) rc = fe_gguf_check_rank(why, rank);
    if (rc == 0) rc = fe_gguf_check_shape(why, (uint32_t)type, rank, shape, &t.bytes);
    if (rc) {
        fail_add(w, FERRUM_EINVAL, *name ? str_of(name) : str_of("a tensor"), "%s", why);
        return;
    }
    memcpy(t.shape, shape, rank * sizeof *shape);
    out_tensor *grown = grow(w, w->tensors, w->tensor_count, &w->tensor_capacity, sizeof *w->tensors);
    if (!grown) return;
    w->tensors = grown;
    if (!copy_name(w, str_of(name), &t.name)) return;
    w->tensors[w->tensor_count++] = t;
}

/* ---- Putting the file together ---- */

static int check_duplicates(const void *items, size_t count, size_t size, const char *kind, ferrum_error *err) {
    fe_names names;
    const ferrum_str *once, *twice;
    int rc = fe_names_open(&names, items, count, size, &once, &twice, err);
    if (rc == 0 && twice) {
        rc = fe_fail(err, FERRUM_EINVAL, "%s %s was added twice", kind, fe_gguf_show(*twice).s);
    }
    fe_names_close(&names);
    return rc;
}

static int layout(ferrum_gguf_writer *w, uint64_t *data_bytes, ferrum_error *err) {
    uint64_t at = 0;
    for (size_t i = 0; i < w->tensor_count; i++) {
        out_tensor *t = &w->tensors[i];
        t->offset = at;
        if (!fe_add_u64(at, t->bytes, &at) || !fe_add_u64(at, w->alignment - 1, &at)) {
            return fe_fail(err, FERRUM_EINVAL, "tensor %zu ends past the 64 bits of a file's length", i);
        }
        at = at / w->alignment * w->alignment;
    }
    *data_bytes = at;
    return 0;
}

/* Header, keys and tensors, padded to where the data begins. */
static int encode_header(const ferrum_gguf_writer *w, fe_text *t, ferrum_error *err) {
    static const char zeros[FE_GGUF_ALIGNMENT_MAX];
    uint32_t version = FE_GGUF_VERSION;
    bool own_alignment = w->alignment != FE_GGUF_ALIGNMENT;
    uint64_t tensors = w->tensor_count, keys = w->key_count + own_alignment;
    put(t, "GGUF", 4);
    put(t, &version, sizeof version);
    put(t, &tensors, sizeof tensors);
    put(t, &keys, sizeof keys);
    for (size_t i = 0; i < w->key_count; i++) {
        uint32_t type = w->keys[i].type;
        put_str(t, w->keys[i].name);
        put(t, &type, sizeof type);
        put(t, w->keys[i].value.data, w->keys[i].value.len);
        t->failed |= w->keys[i].value.failed;
    }
    if (own_alignment) {
        uint32_t type = FERRUM_GGUF_U32;
        put_str(t, str_of("general.alignment"));
        put(t, &type, sizeof type);
        put(t, &w->alignment, sizeof w->alignment);
    }
    for (size_t i = 0; i < w->tensor_count; i++) {
        uint32_t type = w->tensors[i].type;
        put_str(t, w->tensors[i].name);
        put(t, &w->tensors[i].rank, sizeof w->tensors[i].rank);
        put(t, w->tensors[i].shape, w->tensors[i].rank * sizeof *w->tensors[i].shape);
        put(t, &type, sizeof type);
        put(t, &w->tensors[i].offset, sizeof w->tensors[i].offset);
    }
    put(t, zeros, (w->alignment - t->len % w->alignment) % w->alignment);
    return t->failed ? fe_fail_memory(err, t->len, "the header of a GGUF file") : 0;
}

static int prepare(ferrum_gguf_writer *w, fe_text *header, uint64_t *data_bytes, ferrum_error *err) {
    if (w->error.code) return fe_fail(err, w->error.code, "%s", w->error.message);
    int rc = check_duplicates(w->keys, w->key_count, sizeof *w->keys, "key", err);
    if (rc == 0) rc = check_duplicates(w->tensors, w->tensor_count, sizeof *w->tensors, "tensor", err);
    if (rc == 0) rc = layout(w, data_bytes, err);
    if (rc == 0) rc = encode_header(w, header, err);
    return rc;
}

int ferrum_gguf_writer_header(ferrum_gguf_writer *w, void **out, size_t *bytes, uint64_t *data_bytes,
                              ferrum_error *err) {
    fe_text header = {0};
    *out = NULL;
    int rc = prepare(w, &header, data_bytes, err);
    if (rc) {
        fe_text_free(&header);
        return rc;
    }
    *out = header.data;
    *bytes = header.len;
    return 0;
}

int ferrum_gguf_writer_bytes(ferrum_gguf_writer *w, void **out, size_t *bytes, ferrum_error *err) {
    fe_text header = {0};
    uint64_t data_bytes = 0, total;
    *out = NULL;
    int rc = prepare(w, &header, &data_bytes, err);
    if (rc) goto done;
    bool fits = fe_add_u64(header.len, data_bytes, &total) && total <= SIZE_MAX;
    char *file = fits ? calloc(1, (size_t)total) : NULL; /* zeroed: the padding */
    if (!file) {
        rc = fe_fail(err, FERRUM_ENOMEM, "out of memory: %zu and %llu bytes for a GGUF file", header.len,
                     (unsigned long long)data_bytes);
        goto done;
    }
    memcpy(file, header.data, header.len);
    for (size_t i = 0; i < w->tensor_count; i++) {
        memcpy(file + header.len + w->tensors[i].offset, w->tensors[i].data, (size_t)w->tensors[i].bytes);
    }
    *out = file;
    *bytes = (size_t)total;
done:
    fe_text_free(&header);
    return rc;
}

static int write_file(const ferrum_gguf_writer *w, const fe_output *o, const fe_text *header, ferrum_error *err) {
    static const char zeros[FE_GGUF_ALIGNMENT_MAX];
    int rc = fe_output_write(o, header->data, header->len, 0, err);
    for (size_t i = 0; i < w->tensor_count && rc == 0; i++) {
        const out_tensor *t = &w->tensors[i];
        uint64_t at = header->len + t->offset, padding = (w->alignment - t->bytes % w->alignment) % w->alignment;
        rc = fe_output_write(o, t->data, t->bytes, at, err);
        if (rc == 0) rc = fe_output_write(o, zeros, padding, at + t->bytes, err);
    }
    return rc;
}

int ferrum_gguf_writer_save(ferrum_gguf_writer *w, const char *path, ferrum_error *err) {
    fe_text header = {0};
    fe_output o = {.fd = -1};
    uint64_t data_bytes = 0, bytes;
    int rc = prepare(w, &header, &data_bytes, err);
    if (rc == 0 && !fe_add_u64(header.len, data_bytes, &bytes))
        rc = fe_fail(err, FERRUM_EINVAL, "%s: would be longer than 64 bits count", path);
    if (rc == 0) rc = fe_output_open(&o, path, bytes, err);
    if (rc == 0) rc = write_file(w, &o, &header, err);
    if (rc == 0) rc = fe_output_commit(&o, err);
    fe_output_close(&o);
    fe_text_free(&header);
    return rc;
}

/* Reads one GGUF file: header, keys, tensors. Nothing in it is trusted: every number is compared with the bytes that are
 * there before it is used, and memory grows with what was read, never with what a count claims.
 *
 * Source of the format: the GGUF specification. All numbers little-endian:
 *   header   "GGUF", u32 version, u64 tensors, u64 keys
 *   key      string, u32 value type, value; a string is a u64 length and its bytes, an array u32 type, u64 count, values
 *   tensor   string, u32 rank, u64 shape[rank], u32 type, u64 offset from the start of the data
 *   data     from the next multiple of general.alignment on */
#include "gguf/gguf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    KEY_BYTES = 8 + 1 + 4 + 1,            /* the least that a key takes: one letter, type, one byte of value */
    TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* and a tensor: one letter, rank, one dimension, type, offset */
};

typedef struct cursor {
    const uint8_t *data;
    size_t bytes, pos;
    const char *path, *kind; /* kind: what is being read, "key" or "tensor"; NULL in the header */
    uint64_t index;          /* its number in the file */
    ferrum_str name;         /* its name; empty until that is known */
    ferrum_error *err;
} cursor;

__attribute__((format(printf, 3, 4))) static int fail_at(const cursor *c, int code, const char *format, ...) {
    char what[sizeof(fe_shown) + 16], why[320];
    if (!c->kind)
        snprintf(what, sizeof what, "the header");
    else if (c->name.len)
        snprintf(what, sizeof what, "%s %s", c->kind, fe_gguf_show(c->name).s);
    else
        snprintf(what, sizeof what, "%s %llu", c->kind, (unsigned long long)c->index);
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return fe_fail(c->err, code, "%s: %s %s", c->path, what, why);
}

static size_t left(const cursor *c) { return c->bytes - c->pos; }

/* The next n bytes, which `what` names; NULL with err filled where the file ends before. */
static const void *take(cursor *c, uint64_t n, const char *what) {
    if (n > left(c)) {
        fail_at(c, FERRUM_EFORMAT, "is cut short: %s takes %llu bytes from byte %zu, the file ends at byte %zu", what,
                (unsigned long long)n, c->pos, c->bytes);
        return NULL;
    }
    const void *p = c->data + c->pos;
    c->pos += (size_t)n;
    return p;
}

static int take_number(cursor *c, void *number, size_t n, const char *what) {
    const void *p = take(c, n, what);
    if (!p) return FERRUM_EFORMAT;
    memcpy(number, p, n);
    return 0;
}

static int take_string(cursor *c, const char *length, const char *what, ferrum_str *out) {
    uint64_t len;
    int rc = take_number(c, &len, sizeof len, length);
    if (rc) return rc;
    const void *p = take(c, len, what);
    if (!p) return FERRUM_EFORMAT;
    *out = (ferrum_str){p, (size_t)len};
    return 0;
}

/* A list with room for one more; NULL, with err filled and the list as it was, where memory runs out. */
static void *grow(void *list, size_t count, size_t *capacity, size_t size, const cursor *c) {
    if (count < *capacity) return list;
    size_t wanted = *capacity ? 2 * *capacity : 64, bytes;
    void *grown = __builtin_mul_overflow(wanted, size, &bytes) ? NULL : realloc(list, bytes);
    if (grown)
        *capacity = wanted;
    else
        fe_fail(c->err, FERRUM_ENOMEM, "%s: out of memory after %zu entries", c->path, count);
    return grown;
}

/* ---- Header ---- */

static int check_version(const cursor *c, uint32_t version) {
    if (version == 2 || version == FE_GGUF_VERSION) return 0;
    if (version == 1) {
        return fe_fail(c->err, FERRUM_EUNSUPPORTED, "%s: is GGUF version 1, only versions 2 and 3 are supported",
                       c->path);
    }
    uint32_t swapped = __builtin_bswap32(version);
    if (swapped >= 1 && swapped <= 0xFFFF) {
        return fe_fail(c->err, FERRUM_EUNSUPPORTED,
                       "%s: is a big-endian GGUF file (version %u), only little-endian ones are supported", c->path,
                       swapped);
    }
    return fe_fail(c->err, FERRUM_EUNSUPPORTED, "%s: is GGUF version %u, only versions 2 and 3 are supported", c->path,
                   version);
}

static int check_count(const cursor *c, uint64_t count, size_t least, const char *what) {
    if (count <= left(c) / least) return 0;
    return fail_at(c, FERRUM_EFORMAT, "claims %llu %s, the %zu bytes that follow can hold %zu at most",
                   (unsigned long long)count, what, left(c), left(c) / least);
}

static int read_header(cursor *c, uint32_t *version, uint64_t *tensors, uint64_t *keys) {
    uint8_t magic[4];
    int rc = take_number(c, magic, sizeof magic, "its magic");
    if (rc) return rc;
    if (memcmp(magic, "GGUF", 4) != 0) {
        return fe_fail(c->err, FERRUM_EFORMAT,
                       "%s: is not a GGUF file: it starts with the bytes %02x %02x %02x %02x, not with \"GGUF\"",
                       c->path, magic[0], magic[1], magic[2], magic[3]);
    }
    if ((rc = take_number(c, version, sizeof *version, "its version"))) return rc;
    if ((rc = check_version(c, *version))) return rc;
    if ((rc = take_number(c, tensors, sizeof *tensors, "its number of tensors"))) return rc;
    if ((rc = take_number(c, keys, sizeof *keys, "its number of keys"))) return rc;
    if ((rc = check_count(c, *keys, KEY_BYTES, "keys"))) return rc;
    return check_count(c, *tensors, TENSOR_BYTES, "tensors");
}

/* ---- Keys ---- */

static int read_name(cursor *c, size_t max, ferrum_str *out) {
    ferrum_str name = {0};
    char why[FE_WHY];
    int rc = take_string(c, "the length of its name", "its name", &name);
    if (rc) return rc;
    if ((rc = fe_gguf_check_name(why, name, max))) return fail_at(c, rc, "%s", why);
    *out = c->name = name;
    return 0;
}

static int read_scalar(cursor *c, ferrum_gguf_kv *kv) {
    const void *p = take(c, fe_gguf_value_bytes(kv->type), "its value");
    if (!p) return FERRUM_EFORMAT;
    switch (kv->type) {
    case FERRUM_GGUF_U8: kv->value.u = *(const uint8_t *)p; break;
    case FERRUM_GGUF_I8: kv->value.i = *(const int8_t *)p; break;
    case FERRUM_GGUF_U16: {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        kv->value.u = v;
        break;
    }
    case FERRUM_GGUF_I16: {
        int16_t v;
        memcpy(&v, p, sizeof v);
        kv->value.i = v;
        break;
    }
    case FERRUM_GGUF_U32: {
        uint32_t v;
        memcpy(&v, p, sizeof v);
        kv->value.u = v;
        break;
    }
    case FERRUM_GGUF_I32: {
        int32_t v;
        memcpy(&v, p, sizeof v);
        kv->value.i = v;
        break;
    }
    case FERRUM_GGUF_F32: {
        float v;
        memcpy(&v, p, sizeof v);
        kv->value.f = (double)v;
        break;
    }
    case FERRUM_GGUF_U64: memcpy(&kv->value.u, p, sizeof kv->value.u); break;
    case FERRUM_GGUF_I64: memcpy(&kv->value.i, p, sizeof kv->value.i); break;
    case FERRUM_GGUF_F64: memcpy(&kv->value.f, p, sizeof kv->value.f); break;
    default: /* FERRUM_GGUF_BOOL */
        kv->value.u = *(const uint8_t *)p;
        if (kv->value.u > 1) {
            return fail_at(c, FERRUM_EFORMAT, "is a bool of value %u, only 0 and 1 are allowed", *(const uint8_t *)p);
        }
    }
    return 0;
}

/* Walks over the strings of an array, so that ferrum_gguf_next_str need check nothing. */
static int skip_strings(cursor *c, uint64_t count) {
    if (count > left(c) / 8) {
        return fail_at(c, FERRUM_EFORMAT, "claims %llu strings, the %zu bytes that follow can hold %zu at most",
                       (unsigned long long)count, left(c), left(c) / 8);
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t len = 8;
        size_t start = c->pos;
        if (left(c) >= 8) {
            memcpy(&len, c->data + c->pos, 8);
            c->pos += 8;
        }
        if (c->pos == start || len > left(c)) {
            return fail_at(c, FERRUM_EFORMAT,
                           "is cut short: string %llu takes %llu bytes from byte %zu, the file ends at byte %zu",
                           (unsigned long long)i, (unsigned long long)len, c->pos, c->bytes);
        }
        c->pos += (size_t)len;
    }
    return 0;
}

static int read_array(cursor *c, ferrum_gguf_kv *kv) {
    uint32_t type;
    uint64_t count;
    int rc = take_number(c, &type, sizeof type, "the type of its elements");
    if (rc) return rc;
    if (type == FERRUM_GGUF_ARRAY)
        return fail_at(c, FERRUM_EUNSUPPORTED, "is an array of arrays, which is not supported");
    size_t size = fe_gguf_value_bytes(type);
    if (size == 0 && type != FERRUM_GGUF_STRING) {
        return fail_at(c, FERRUM_EFORMAT, "is an array of the unknown value type %u", type);
    }
    if ((rc = take_number(c, &count, sizeof count, "its number of elements"))) return rc;
    const uint8_t *data = c->data + c->pos;
    if (type == FERRUM_GGUF_STRING) {
        if ((rc = skip_strings(c, count))) return rc;
    } else {
        if (count > left(c) / size) {
            return fail_at(c, FERRUM_EFORMAT,
                           "claims %llu elements of type %s, the %zu bytes that follow can hold %zu at most",
                           (unsigned long long)count, ferrum_gguf_type_name(type), left(c), left(c) / size);
        }
        c->pos += (size_t)count * size;
    }
    for (uint64_t i = 0; type == FERRUM_GGUF_BOOL && i < count; i++) {
        if (data[i] > 1) {
            return fail_at(c, FERRUM_EFORMAT, "holds the bool value %u at index %llu, only 0 and 1 are allowed",
                           data[i], (unsigned long long)i);
        }
    }
    kv->value.array.type = (ferrum_gguf_type)type;
    kv->value.array.count = count;
    kv->value.array.data = data;
    kv->value.array.bytes = (size_t)(c->data + c->pos - data);
    return 0;
}

static int read_key(cursor *c, ferrum_gguf_kv *kv) {
    uint32_t type;
    int rc = read_name(c, FE_GGUF_KEY_MAX, &kv->key);
    if (rc) return rc;
    if ((rc = take_number(c, &type, sizeof type, "its value type"))) return rc;
    kv->type = (ferrum_gguf_type)type;
    if (type == FERRUM_GGUF_ARRAY) return read_array(c, kv);
    if (type == FERRUM_GGUF_STRING) return take_string(c, "the length of its value", "its value", &kv->value.str);
    if (fe_gguf_value_bytes(type)) return read_scalar(c, kv);
    return fail_at(c, FERRUM_EFORMAT, "has the unknown value type %u", type);
}

static int read_keys(cursor *c, fe_kvs *kvs, uint64_t count) {
    c->kind = "key";
    for (uint64_t i = 0; i < count; i++) {
        c->index = i;
        c->name = (ferrum_str){0};
        void *grown = grow(kvs->list, kvs->count, &kvs->capacity, sizeof *kvs->list, c);
        if (!grown) return FERRUM_ENOMEM;
        kvs->list = grown;
        int rc = read_key(c, &kvs->list[kvs->count]);
        if (rc) return rc;
        kvs->count++;
    }
    const ferrum_str *once, *twice;
    int rc = fe_names_open(&kvs->names, kvs->list, kvs->count, sizeof *kvs->list, &once, &twice, c->err);
    if (rc || !twice) return rc;
    c->name = *twice;
    return fail_at(c, FERRUM_EFORMAT, "appears twice, as key %zu and key %zu",
                   (size_t)((const ferrum_gguf_kv *)once - kvs->list),
                   (size_t)((const ferrum_gguf_kv *)twice - kvs->list));
}

static int read_alignment(cursor *c, const fe_kvs *kvs, uint32_t *alignment) {
    char why[FE_WHY];
    const ferrum_gguf_kv *kv = fe_names_find(&kvs->names, "general.alignment");
    *alignment = FE_GGUF_ALIGNMENT;
    if (!kv) return 0;
    c->name = kv->key;
    if (kv->type != FERRUM_GGUF_U32) {
        return fail_at(c, FERRUM_EFORMAT, "is of type %s, u32 is needed", ferrum_gguf_type_name(kv->type));
    }
    int rc = fe_gguf_check_alignment(why, kv->value.u);
    if (rc) return fail_at(c, rc, "%s", why);
    *alignment = (uint32_t)kv->value.u;
    return 0;
}

/* ---- Tensors ---- */

static int read_tensor(cursor *c, ferrum_gguf_tensor *t, uint32_t alignment) {
    char why[FE_WHY];
    uint32_t type;
    int rc = read_name(c, FE_GGUF_NAME_MAX, &t->name);
    if (rc) return rc;
    if ((rc = take_number(c, &t->rank, sizeof t->rank, "its rank"))) return rc;
    if ((rc = fe_gguf_check_rank(why, t->rank))) return fail_at(c, rc, "%s", why);
    for (uint32_t d = 0; d < 4; d++) t->shape[d] = 1;
    if ((rc = take_number(c, t->shape, t->rank * sizeof *t->shape, "its shape"))) return rc;
    if ((rc = take_number(c, &type, sizeof type, "its type"))) return rc;
    if ((rc = fe_gguf_check_shape(why, type, t->rank, t->shape, &t->bytes))) return fail_at(c, rc, "%s", why);
    t->type = (ferrum_type)type;
    if ((rc = take_number(c, &t->offset, sizeof t->offset, "its offset"))) return rc;
    if (t->offset % alignment == 0) return 0;
    return fail_at(c, FERRUM_EFORMAT, "has the offset %llu, not a multiple of the alignment %u",
                   (unsigned long long)t->offset, alignment);
}

/* Turns the offset within the data, which begins at `start`, into one within the file. */
static int place_tensor(cursor *c, ferrum_gguf_tensor *t, uint64_t start) {
    uint64_t end;
    c->name = t->name;
    if (start > c->bytes) {
        return fail_at(c, FERRUM_EFORMAT, "is cut short: the data begins at byte %llu, the file ends at byte %zu",
                       (unsigned long long)start, c->bytes);
    }
    if (t->offset > c->bytes - start) {
        return fail_at(c, FERRUM_EFORMAT, "begins %llu bytes into the data, which are %llu bytes",
                       (unsigned long long)t->offset, (unsigned long long)(c->bytes - start));
    }
    t->offset += start;
    if (!fe_add_u64(t->offset, t->bytes, &end) || end > c->bytes) {
        return fail_at(c, FERRUM_EFORMAT, "begins at byte %llu and takes %llu, the file ends at byte %zu",
                       (unsigned long long)t->offset, (unsigned long long)t->bytes, c->bytes);
    }
    t->data = c->data + t->offset;
    return 0;
}

static int compare_offsets(const void *a, const void *b) {
    const ferrum_gguf_tensor *x = *(const ferrum_gguf_tensor *const *)a, *y = *(const ferrum_gguf_tensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x > y) - (x < y);
}

static int check_overlap(cursor *c, const ferrum_gguf_tensor *tensors, size_t count) {
    const ferrum_gguf_tensor **sorted = calloc(fe_max(count, 1), sizeof *sorted);
    if (!sorted) return fe_fail_memory(c->err, count * sizeof *sorted, "the tensors of a GGUF file");
    int rc = 0;
    for (size_t i = 0; i < count; i++) sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof *sorted, compare_offsets);
    for (size_t i = 1; i < count && rc == 0; i++) {
        const ferrum_gguf_tensor *a = sorted[i - 1], *b = sorted[i];
        if (b->offset - a->offset >= a->bytes) continue;
        c->name = b->name;
        rc =
            fail_at(c, FERRUM_EFORMAT, "begins at byte %llu, inside tensor %s, which ends at byte %llu",
                    (unsigned long long)b->offset, fe_gguf_show(a->name).s, (unsigned long long)(a->offset + a->bytes));
    }
    free(sorted);
    return rc;
}

static int read_tensors(cursor *c, ferrum_gguf *g, uint64_t count, uint32_t alignment) {
    size_t first = g->tensor_count;
    int rc = 0;
    c->kind = "tensor";
    for (uint64_t i = 0; i < count; i++) {
        c->index = i;
        c->name = (ferrum_str){0};
        void *grown = grow(g->tensors, g->tensor_count, &g->tensor_capacity, sizeof *g->tensors, c);
        if (!grown) return FERRUM_ENOMEM;
        g->tensors = grown;
        ferrum_gguf_tensor *t = &g->tensors[g->tensor_count];
        *t = (ferrum_gguf_tensor){.part = g->part_count - 1};
        if ((rc = read_tensor(c, t, alignment))) return rc;
        g->tensor_count++;
    }
    uint64_t start = (uint64_t)c->pos + (alignment - c->pos % alignment) % alignment;
    for (size_t i = first; i < g->tensor_count && rc == 0; i++) rc = place_tensor(c, &g->tensors[i], start);
    if (rc || g->tensor_count == first) return rc;
    return check_overlap(c, g->tensors + first, g->tensor_count - first);
}

int fe_gguf_parse(ferrum_gguf *g, const char *path, fe_kvs *kvs, uint32_t *version, ferrum_error *err) {
    const fe_map *map = &g->parts[g->part_count - 1];
    cursor c = {.data = map->data, .bytes = map->bytes, .path = path, .err = err};
    uint64_t tensors, keys;
    uint32_t alignment;
    int rc = read_header(&c, version, &tensors, &keys);
    if (rc) return rc;
    if ((rc = read_keys(&c, kvs, keys))) return rc;
    if ((rc = read_alignment(&c, kvs, &alignment))) return rc;
    return read_tensors(&c, g, tensors, alignment);
}

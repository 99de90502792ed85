/* What an open file hands out. Everything was checked when it was opened. */
#include "gguf/gguf.h"

#include <float.h>
#include <math.h>
#include <string.h>

uint32_t ferrum_gguf_version(const ferrum_gguf *g) { return g->version; }
const char *ferrum_gguf_path(const ferrum_gguf *g) { return g->path; }
uint32_t ferrum_gguf_parts(const ferrum_gguf *g) { return g->part_count; }
uint64_t ferrum_gguf_kv_count(const ferrum_gguf *g) { return g->kvs.count; }
uint64_t ferrum_gguf_tensor_count(const ferrum_gguf *g) { return g->tensor_count; }

const void *ferrum_gguf_part(const ferrum_gguf *g, uint32_t part, uint64_t *bytes) {
    if (part >= g->part_count) {
        *bytes = 0;
        return NULL;
    }
    *bytes = g->parts[part].bytes;
    return g->parts[part].data;
}

const ferrum_gguf_kv *ferrum_gguf_kv_at(const ferrum_gguf *g, uint64_t index) {
    return index < g->kvs.count ? &g->kvs.list[index] : NULL;
}

const ferrum_gguf_kv *ferrum_gguf_find(const ferrum_gguf *g, const char *key) {
    return fe_names_find(&g->kvs.names, key);
}

const ferrum_gguf_tensor *ferrum_gguf_tensor_at(const ferrum_gguf *g, uint64_t index) {
    return index < g->tensor_count ? &g->tensors[index] : NULL;
}

const ferrum_gguf_tensor *ferrum_gguf_find_tensor(const ferrum_gguf *g, const char *name) {
    return fe_names_find(&g->names, name);
}

static int wrong_type(const char *path, const ferrum_gguf_kv *kv, const char *key, const char *wanted,
                      ferrum_error *err) {
    bool array = kv->type == FERRUM_GGUF_ARRAY;
    return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is of type %s%s, %s is needed", path, key, array ? "array of " : "",
                   ferrum_gguf_type_name(array ? kv->value.array.type : kv->type), wanted);
}

int fe_kvs_get_u32(const fe_kvs *kvs, const char *path, const char *key, uint32_t *out, ferrum_error *err) {
    const ferrum_gguf_kv *kv = fe_names_find(&kvs->names, key);
    if (!kv) return 0;
    switch (kv->type) {
    case FERRUM_GGUF_U8:
    case FERRUM_GGUF_U16:
    case FERRUM_GGUF_U32:
    case FERRUM_GGUF_U64:
        if (kv->value.u > UINT32_MAX) {
            return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is %llu, at most %u is allowed", path, key,
                           (unsigned long long)kv->value.u, UINT32_MAX);
        }
        *out = (uint32_t)kv->value.u;
        return 1;
    case FERRUM_GGUF_I8:
    case FERRUM_GGUF_I16:
    case FERRUM_GGUF_I32:
    case FERRUM_GGUF_I64:
        if (kv->value.i < 0 || kv->value.i > UINT32_MAX) {
            return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is %lld, only 0 to %u is allowed", path, key,
                           (long long)kv->value.i, UINT32_MAX);
        }
        *out = (uint32_t)kv->value.i;
        return 1;
    default: return wrong_type(path, kv, key, "an integer", err);
    }
}

int ferrum_gguf_get_u32(const ferrum_gguf *g, const char *key, uint32_t *out, ferrum_error *err) {
    return fe_kvs_get_u32(&g->kvs, g->path, key, out, err);
}

int ferrum_gguf_get_f32(const ferrum_gguf *g, const char *key, float *out, ferrum_error *err) {
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, key);
    if (!kv) return 0;
    if (kv->type != FERRUM_GGUF_F32 && kv->type != FERRUM_GGUF_F64)
        return wrong_type(g->path, kv, key, "f32 or f64", err);
    if (isfinite(kv->value.f) && fabs(kv->value.f) > (double)FLT_MAX) {
        return fe_fail(err, FERRUM_EFORMAT, "%s: key %s is %g, at most %g is allowed", g->path, key, kv->value.f,
                       (double)FLT_MAX);
    }
    *out = (float)kv->value.f;
    return 1;
}

int ferrum_gguf_get_bool(const ferrum_gguf *g, const char *key, bool *out, ferrum_error *err) {
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, key);
    if (!kv) return 0;
    if (kv->type != FERRUM_GGUF_BOOL) return wrong_type(g->path, kv, key, "bool", err);
    *out = kv->value.u != 0;
    return 1;
}

int ferrum_gguf_get_str(const ferrum_gguf *g, const char *key, ferrum_str *out, ferrum_error *err) {
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, key);
    if (!kv) return 0;
    if (kv->type != FERRUM_GGUF_STRING) return wrong_type(g->path, kv, key, "string", err);
    *out = kv->value.str;
    return 1;
}

bool ferrum_gguf_next_str(const ferrum_gguf_kv *kv, size_t *cursor, ferrum_str *out) {
    if (!kv || kv->type != FERRUM_GGUF_ARRAY || kv->value.array.type != FERRUM_GGUF_STRING) return false;
    if (*cursor >= kv->value.array.bytes) return false;
    const char *p = (const char *)kv->value.array.data + *cursor;
    uint64_t len;
    memcpy(&len, p, sizeof len);
    *out = (ferrum_str){p + sizeof len, (size_t)len};
    *cursor += sizeof len + (size_t)len;
    return true;
}

double ferrum_gguf_array_number(const ferrum_gguf_kv *kv, uint64_t index) {
    size_t size = fe_gguf_value_bytes(kv->value.array.type);
    const char *p = (const char *)kv->value.array.data + (size_t)index * size;
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } v = {0};
    memcpy(&v, p, size);
    switch (kv->value.array.type) {
    case FERRUM_GGUF_U8:
    case FERRUM_GGUF_BOOL: return v.u8;
    case FERRUM_GGUF_I8: return v.i8;
    case FERRUM_GGUF_U16: return v.u16;
    case FERRUM_GGUF_I16: return v.i16;
    case FERRUM_GGUF_U32: return v.u32;
    case FERRUM_GGUF_I32: return v.i32;
    case FERRUM_GGUF_F32: return (double)v.f32;
    case FERRUM_GGUF_U64: return (double)v.u64;
    case FERRUM_GGUF_I64: return (double)v.i64;
    default: return v.f64; /* FERRUM_GGUF_F64 */
    }
}

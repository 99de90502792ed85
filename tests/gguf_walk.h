/* Touches everything that an open file hands out, so that a view outside the file crashes under a sanitizer or at a guard
 * page, and checks that what can be told is true: abort() where it is not. */
#ifndef TEST_GGUF_WALK_H
#define TEST_GGUF_WALK_H

#include <ferrum/gguf.h>
#include <stdlib.h>
#include <string.h>

static volatile unsigned char walk_sink;

static inline void walk_bytes(const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) walk_sink ^= p[i];
}

static inline char *walk_c_string(ferrum_str s) {
    char *copy = malloc(s.len + 1);
    if (!copy) abort();
    memcpy(copy, s.data, s.len);
    copy[s.len] = 0;
    return copy;
}

static inline void walk_array(const ferrum_gguf_kv *kv) {
    walk_bytes(kv->value.array.data, kv->value.array.bytes);
    if (kv->value.array.type == FERRUM_GGUF_STRING) {
        size_t cursor = 0;
        uint64_t n = 0;
        ferrum_str s;
        for (; ferrum_gguf_next_str(kv, &cursor, &s); n++) walk_bytes(s.data, s.len);
        if (n != kv->value.array.count) abort();
        return;
    }
    for (uint64_t i = 0; i < kv->value.array.count; i++) walk_sink ^= ferrum_gguf_array_number(kv, i) > 0;
}

static inline void walk_key(const ferrum_gguf *g, const ferrum_gguf_kv *kv) {
    char *key = walk_c_string(kv->key);
    uint32_t u;
    float f;
    bool b;
    ferrum_str s;
    ferrum_error err;
    if (ferrum_gguf_find(g, key) != kv) abort();
    ferrum_gguf_get_u32(g, key, &u, &err);
    ferrum_gguf_get_f32(g, key, &f, &err);
    ferrum_gguf_get_bool(g, key, &b, &err);
    ferrum_gguf_get_str(g, key, &s, &err);
    if (kv->type == FERRUM_GGUF_STRING) walk_bytes(kv->value.str.data, kv->value.str.len);
    if (kv->type == FERRUM_GGUF_ARRAY) walk_array(kv);
    free(key);
}

static inline void walk_tensor(const ferrum_gguf *g, const ferrum_gguf_tensor *t) {
    char *name = walk_c_string(t->name);
    uint64_t bytes;
    const char *part = ferrum_gguf_part(g, t->part, &bytes);
    if (ferrum_gguf_find_tensor(g, name) != t) abort();
    if ((const char *)t->data != part + t->offset || t->bytes == 0 || t->offset + t->bytes > bytes) abort();
    walk_bytes(t->data, 1);
    walk_bytes((const char *)t->data + t->bytes - 1, 1);
    free(name);
}

static inline void walk(const ferrum_gguf *g) {
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(g); i++) walk_key(g, ferrum_gguf_kv_at(g, i));
    for (uint64_t i = 0; i < ferrum_gguf_tensor_count(g); i++) walk_tensor(g, ferrum_gguf_tensor_at(g, i));
}

#endif

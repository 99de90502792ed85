/* Hand-built GGUF files for tests: every number and string is put down under a label, and a list of edits says which of
 * them are to be wrong. Independent of the library's writer. */
#ifndef TEST_GGUF_BUILD_H
#define TEST_GGUF_BUILD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct edit {
    const char *at; /* the label; NULL ends a list */
    enum { EDIT_SET, EDIT_TEXT, EDIT_FILL, EDIT_CUT } op;
    uint64_t value;
    const char *text;
} edit;

/* clang-format off */
#define SET(label, number)  {label, EDIT_SET, number, NULL}                    /* instead of the number there */
#define TEXT(label, string) {label, EDIT_TEXT, sizeof(string) - 1, string}     /* instead of the string; may hold NULs */
#define FILL(label, count)  {label, EDIT_FILL, count, NULL}                    /* a string of so many letters x */
#define CUT(label, count)   {label, EDIT_CUT, count, NULL}                     /* the file ends so many bytes behind it */
/* clang-format on */

typedef struct build {
    uint8_t *data;
    size_t len, capacity, cut; /* cut: the length that remains, where is_cut */
    bool is_cut;
    const edit *edits;
    unsigned applied; /* so that a test can tell a label that does not exist */
} build;

static inline void build_put(build *b, const void *data, size_t n) {
    if (b->len + n > b->capacity) {
        b->capacity = 2 * (b->len + n) + 1024;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) abort();
    }
    if (n) memcpy(b->data + b->len, data, n);
    b->len += n;
}

static inline const edit *build_edit(build *b, const char *label) {
    const edit *found = NULL;
    for (const edit *e = b->edits; e && e->at; e++) {
        if (strcmp(e->at, label) != 0) continue;
        b->applied++;
        if (e->op == EDIT_CUT) {
            b->is_cut = true;
            b->cut = b->len + (size_t)e->value;
        } else {
            found = e;
        }
    }
    return found;
}

static inline void build_number(build *b, const char *label, size_t width, uint64_t value) {
    const edit *e = build_edit(b, label);
    if (e) value = e->value;
    build_put(b, &value, width); /* tests run on little-endian machines, as the library does */
}

static inline void build_f32(build *b, const char *label, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    build_number(b, label, 4, bits);
}

/* The length can be edited too, as LABEL.length. */
static inline void build_string(build *b, const char *label, const char *text) {
    char length[64];
    size_t n = strlen(text);
    char *filled = NULL;
    const edit *e = build_edit(b, label);
    if (e && e->op == EDIT_TEXT) {
        text = e->text;
        n = (size_t)e->value;
    } else if (e && e->op == EDIT_FILL) {
        text = filled = malloc((size_t)e->value + 1);
        if (!filled) abort();
        n = (size_t)e->value;
        memset(filled, 'x', n);
    }
    snprintf(length, sizeof length, "%s.length", label);
    build_number(b, length, 8, n);
    snprintf(length, sizeof length, "%s.text", label);
    build_edit(b, length); /* a place to cut at */
    build_put(b, text, n);
    free(filled);
}

static inline void build_pad(build *b, size_t multiple) {
    while (b->len % multiple) build_put(b, "", 1);
}

/* Key `n`: its name and type; the value follows. Labels: keyN, keyN.type. */
static inline void build_key(build *b, int n, const char *name, uint32_t type) {
    char label[32];
    snprintf(label, sizeof label, "key%d", n);
    build_string(b, label, name);
    snprintf(label, sizeof label, "key%d.type", n);
    build_number(b, label, 4, type);
}

/* Tensor `n`. Labels: tensorN, tensorN.rank, .shape0 …, .type, .offset. */
static inline void build_tensor(build *b, int n, const char *name, uint32_t type, uint32_t rank, const uint64_t *shape,
                                uint64_t offset) {
    char label[32];
    snprintf(label, sizeof label, "tensor%d", n);
    build_string(b, label, name);
    snprintf(label, sizeof label, "tensor%d.rank", n);
    build_number(b, label, 4, rank);
    for (uint32_t d = 0; d < rank; d++) {
        snprintf(label, sizeof label, "tensor%d.shape%u", n, d);
        build_number(b, label, 8, shape[d]);
    }
    snprintf(label, sizeof label, "tensor%d.type", n);
    build_number(b, label, 4, type);
    snprintf(label, sizeof label, "tensor%d.offset", n);
    build_number(b, label, 8, offset);
}

static inline void build_header(build *b, uint32_t version, uint64_t tensors, uint64_t keys) {
    build_number(b, "magic", 4, 0x46554747); /* "GGUF" */
    build_number(b, "version", 4, version);
    build_number(b, "tensors", 8, tensors);
    build_number(b, "keys", 8, keys);
}

/* The file that malformed ones are made from: nine keys and three tensors, ending with the last tensor's last byte.
 * Value types: 0 u8, 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array, 10 u64. Tensor types: 0 F32, 1 F16, 2 Q4_0. */
static inline void build_sample(build *b, uint32_t version) {
    build_header(b, version, 3, 9);
    build_key(b, 0, "general.architecture", 8);
    build_string(b, "key0.value", "test");
    build_key(b, 1, "general.alignment", 4);
    build_number(b, "key1.value", 4, 32);
    build_key(b, 2, "a.bool", 7);
    build_number(b, "key2.value", 1, 1);
    build_key(b, 3, "a.f32", 6);
    build_f32(b, "key3.value", 0.5f);
    build_key(b, 4, "a.u64", 10);
    build_number(b, "key4.value", 8, 1ull << 40);
    build_key(b, 5, "a.tokens", 9);
    build_number(b, "key5.elements", 4, 8);
    build_number(b, "key5.count", 8, 3);
    build_string(b, "key5.0", "one");
    build_string(b, "key5.1", "");
    build_string(b, "key5.2", "three");
    build_key(b, 6, "a.types", 9);
    build_number(b, "key6.elements", 4, 5);
    build_number(b, "key6.count", 8, 4);
    for (uint64_t i = 0; i < 4; i++) build_number(b, "key6.value", 4, 0u - i); /* 0 -1 -2 -3 */
    build_key(b, 7, "a.flags", 9);
    build_number(b, "key7.elements", 4, 7);
    build_number(b, "key7.count", 8, 2);
    build_number(b, "key7.0", 1, 0);
    build_number(b, "key7.1", 1, 1);
    build_key(b, 8, "z.last", 0);
    build_number(b, "key8.value", 1, 200);
    build_tensor(b, 0, "norm", 0, 1, (uint64_t[]){8}, 0);             /* 32 bytes */
    build_tensor(b, 1, "weight", 2, 2, (uint64_t[]){32, 4}, 32);      /* 4 blocks of 18 bytes, to 104 */
    build_tensor(b, 2, "stack", 1, 4, (uint64_t[]){4, 2, 3, 1}, 128); /* 48 bytes, to 176 */
    build_edit(b, "padding");
    build_pad(b, 32);
    build_edit(b, "data");
    for (uint8_t i = 0; i < 176; i++) build_put(b, &i, 1);
    if (b->is_cut && b->cut < b->len) b->len = b->cut;
}

#endif

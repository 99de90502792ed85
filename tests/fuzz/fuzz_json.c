/* The JSON parser over any bytes: what it takes, written again and read again, is the same text. */
#include "core/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_value(fe_text *out, const fe_json *v) {
    static const char *const words[] = {"false", "true"};
    switch (v->type) {
    case FE_JSON_NULL: fe_text_puts(out, "null"); return;
    case FE_JSON_BOOL: fe_text_puts(out, words[v->truth]); return;
    case FE_JSON_NUMBER: fe_text_append(out, v->text, v->len); return;
    case FE_JSON_STRING: fe_json_put_string(out, v->text, v->len, true); return;
    case FE_JSON_ARRAY:
    case FE_JSON_OBJECT: break;
    }
    size_t count = 0;
    fe_text_puts(out, v->type == FE_JSON_ARRAY ? "[" : "{");
    for (const fe_json *e = v->first; e; e = e->next) {
        if (count++) fe_text_puts(out, ",");
        if (v->type == FE_JSON_OBJECT) {
            fe_json_put_string(out, e->key, e->key_len, false);
            fe_text_puts(out, ":");
        }
        write_value(out, e);
    }
    if (count != v->count) abort();
    fe_text_puts(out, v->type == FE_JSON_ARRAY ? "]" : "}");
}

/* False: refused, with a sentence. */
static bool rewrite(const char *data, size_t size, fe_text *out) {
    fe_arena arena = fe_arena_make(64 << 20);
    const fe_json *v = NULL;
    ferrum_error err = {0};
    int rc = fe_json_parse(&v, data, size, "fuzz", NULL, &arena, &err);
    if (rc == 0) write_value(out, v);
    if (rc != 0 && (v || err.code != rc || strncmp(err.message, "fuzz: ", 6) != 0)) abort();
    fe_arena_free(&arena);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fe_text once = {0}, twice = {0};
    if (rewrite((const char *)data, size, &once)) {
        if (!rewrite(once.data, once.len, &twice)) abort();
        if (once.len != twice.len || memcmp(once.data, twice.data, once.len) != 0) abort();
    }
    fe_text_free(&once);
    fe_text_free(&twice);
    return 0;
}

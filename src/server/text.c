#include "server/text.h"

#include <ferrum/common.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(serve_text *t, size_t more) {
    if (t->failed) return false;
    if (more < t->capacity - t->len) return true;
    size_t capacity = t->len + more + 1 > 2 * t->capacity ? t->len + more + 256 : 2 * t->capacity;
    char *grown = realloc(t->data, capacity);
    t->failed = !grown;
    if (!grown) return false;
    t->data = grown;
    t->capacity = capacity;
    return true;
}

void serve_text_add(serve_text *t, const char *data, size_t len) {
    if (!reserve(t, len)) return;
    if (len) memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

void serve_text_puts(serve_text *t, const char *s) { serve_text_add(t, s, strlen(s)); }

void serve_text_printf(serve_text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0 || !reserve(t, (size_t)len)) return;
    va_start(args, format);
    vsnprintf(t->data + t->len, (size_t)len + 1, format, args);
    va_end(args);
    t->len += (size_t)len;
}

static int dump(const char *data, size_t len, void *user) {
    serve_text *t = user;
    serve_text_add(t, data, len);
    return t->failed ? -1 : 0;
}

void serve_text_json(serve_text *t, json_t *value) {
    /* 9 digits carry a float. */
    if (!value || json_dump_callback(value, dump, t, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) != 0)
        t->failed = true;
    json_decref(value);
}

/* A leaf: a number with 15 digits, as it was written by people, where these carry it; 17 carry any. */
static void put_leaf(serve_text *t, const json_t *value) {
    char text[32];
    size_t digits = 15;
    if (json_is_real(value)) {
        snprintf(text, sizeof text, "%.15g", json_real_value(value));
        if (strtod(text, NULL) != json_real_value(value)) digits = 17;
    }
    if (json_dump_callback(value, dump, t, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits)) != 0)
        t->failed = true;
}

static void put_value(serve_text *t, const json_t *value) {
    const char *key, *between = "";
    size_t i;
    json_t *part;
    if (json_is_array(value)) {
        serve_text_puts(t, "[");
        json_array_foreach(value, i, part) {
            serve_text_puts(t, between);
            put_value(t, part);
            between = ",";
        }
        serve_text_puts(t, "]");
    } else if (json_is_object(value)) {
        serve_text_puts(t, "{");
        json_object_foreach((json_t *)value, key, part) {
            serve_text_puts(t, between);
            serve_text_json(t, json_string(key));
            serve_text_puts(t, ":");
            put_value(t, part);
            between = ",";
        }
        serve_text_puts(t, "}");
    } else {
        put_leaf(t, value);
    }
}

char *serve_json_dump(const json_t *value) {
    serve_text t = {0};
    if (value) put_value(&t, value);
    if (!value || t.failed) serve_text_free(&t);
    return t.data;
}

void serve_text_free(serve_text *t) {
    free(t->data);
    *t = (serve_text){0};
}

static void begin_character(serve_characters *c, unsigned char lead) {
    c->need = lead < 0xC2 || lead > 0xF4 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    c->low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    c->high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
}

size_t serve_characters_add(serve_characters *c, unsigned char byte) {
    if (c->have && (byte < c->low || byte > c->high)) { /* it broke off: none of its bytes was UTF-8 */
        c->whole += c->have;
        c->have = 0;
    }
    size_t before = c->whole + (c->have > 0);
    if (c->have == 0) begin_character(c, byte);
    if (c->have++ > 0) c->low = 0x80, c->high = 0xBF;
    if (c->have < c->need) return before;
    c->whole++;
    c->have = 0;
    return before;
}

json_t *serve_json_text(const char *data, size_t len) {
    json_t *whole = json_stringn(data, len);
    if (whole) return whole;
    char *text;
    if (ferrum_utf8_repair(data, len, &text, &len, NULL) != 0) return NULL;
    whole = json_stringn(text, len);
    ferrum_free(text);
    return whole;
}

/* JSON as values, and values as JSON: Python's json.dumps as transformers' filter tojson calls it. */
#include "text/jinja_core.h"

#include <math.h>
#include <string.h>

static bool is_whole(const fe_json *v) { return !memchr(v->text, '.', v->len) && !strpbrk(v->text, "eE"); }

jvalue fe_j_from_json(jinja *j, const fe_json *v) {
    jvalue result = fe_j_none();
    fe_j_enter(j);
    if (v->type == FE_JSON_BOOL) {
        result = fe_j_bool(v->truth);
    } else if (v->type == FE_JSON_STRING) {
        result = fe_j_str(j, v->text, v->len);
    } else if (v->type == FE_JSON_NUMBER) {
        result = v->integer ? fe_j_int(v->int64) : fe_j_float(v->number);
        if (!v->integer && is_whole(v)) result = J_VALUE(J_BIGINT, .str = fe_j_str(j, v->text, v->len).str);
    } else if (v->type == FE_JSON_ARRAY) {
        jvalue *items = fe_j_alloc(j, v->count, sizeof *items);
        size_t i = 0;
        for (const fe_json *e = v->first; e; e = e->next) items[i++] = fe_j_from_json(j, e);
        result = fe_j_seq(j, J_LIST, items, i);
    } else if (v->type == FE_JSON_OBJECT) {
        jdict *d = fe_j_dict(j, v->count);
        for (const fe_json *e = v->first; e; e = e->next) { /* the parser saw to it that no key is there twice */
            d->keys[d->count] = fe_j_str(j, e->key, e->key_len);
            d->values[d->count++] = fe_j_from_json(j, e);
        }
        result = J_VALUE(J_DICT, .dict = d);
    }
    fe_j_leave(j);
    return result;
}

typedef struct writer {
    jinja *j;
    jbuf *out;
    bool ascii, sort;
    const jstr *indent;     /* NULL: all in one line */
    const jstr *item, *key; /* separators */
    size_t depth;
} writer;

static void put_json(writer *w, jvalue v);

static void put_text(writer *w, const jstr *s) { fe_j_put(w->j, w->out, s->data, s->len); }

static void put_string(writer *w, const jstr *s) {
    jbuf *out = w->out;
    fe_text text = {0};
    fe_json_put_string(&text, s->data, s->len, w->ascii);
    if (text.failed) {
        fe_text_free(&text);
        fe_j_fail_limit(w->j, "out of memory");
    }
    char *copy = fe_arena_copy(&w->j->arena, text.data, text.len);
    size_t len = text.len;
    fe_text_free(&text);
    if (!copy) fe_j_fail_limit(w->j, "the template needs more than %zu MiB of memory", FE_JINJA_MEMORY >> 20);
    fe_j_put(w->j, out, copy, len);
}

static void put_float(writer *w, double f) {
    if (isfinite(f))
        fe_j_put_float(w->j, w->out, f);
    else
        fe_j_puts(w->j, w->out, isnan(f) ? "NaN" : f < 0 ? "-Infinity" : "Infinity");
}

static void new_line(writer *w) {
    if (!w->indent) return;
    fe_j_puts(w->j, w->out, "\n");
    for (size_t i = 0; i < w->depth; i++) put_text(w, w->indent);
}

static void put_key(writer *w, jvalue key) {
    jbuf text = {0}, *out = w->out;
    w->out = &text;
    if (key.type == J_STR) {
        w->out = out;
        put_string(w, key.str);
        return;
    }
    if (key.type != J_BOOL && key.type != J_NONE && key.type != J_INT && key.type != J_FLOAT && key.type != J_BIGINT)
        fe_j_fail(w->j, "JSON's keys cannot be '%s'", fe_j_type(key));
    put_json(w, key);
    w->out = out;
    put_string(w, fe_j_str_of(w->j, &text).str);
}

static void put_elements(writer *w, const jvalue *keys, const jvalue *values, size_t count) {
    fe_j_puts(w->j, w->out, keys ? "{" : "[");
    w->depth++;
    for (size_t i = 0; i < count; i++) {
        if (i) put_text(w, w->item);
        new_line(w);
        if (keys) {
            put_key(w, keys[i]);
            put_text(w, w->key);
        }
        put_json(w, values[i]);
    }
    w->depth--;
    if (count) new_line(w);
    fe_j_puts(w->j, w->out, keys ? "}" : "]");
}

static void put_dict(writer *w, const jdict *d) {
    static const jvalue none[1];
    if (!w->sort) {
        put_elements(w, d->count ? d->keys : none, d->values, d->count);
        return;
    }
    jvalue *keys = fe_j_alloc(w->j, d->count + 1, sizeof *keys),
           *values = fe_j_alloc(w->j, d->count + 1, sizeof *values);
    for (size_t i = 0; i < d->count; i++) {
        keys[i] = d->keys[i];
        values[i] = d->values[i];
    }
    fe_j_sort(w->j, keys, values, d->count, false);
    put_elements(w, keys, values, d->count);
}

static void put_json(writer *w, jvalue v) {
    jinja *j = w->j;
    fe_j_enter(j);
    switch (v.type) {
    case J_NONE: fe_j_puts(j, w->out, "null"); break;
    case J_BOOL: fe_j_puts(j, w->out, v.boolean ? "true" : "false"); break;
    case J_INT:
    case J_BIGINT: fe_j_repr(j, w->out, v); break;
    case J_FLOAT: put_float(w, v.number); break;
    case J_STR: put_string(w, v.str); break;
    case J_LIST:
    case J_TUPLE: put_elements(w, NULL, v.seq->items, v.seq->count); break;
    case J_DICT: put_dict(w, v.dict); break;
    default: fe_j_fail(j, "Object of type %s is not JSON serializable", fe_j_type(v));
    }
    fe_j_leave(j);
}

static const jstr *indent_of(jinja *j, jvalue v) {
    if (v.type == J_STR) return v.str;
    int64_t n = fe_j_need_int(j, v, "tojson's indent");
    jbuf spaces = {0};
    fe_j_fill(j, &spaces, ' ', n > 0 ? (size_t)n : 0);
    return fe_j_str_of(j, &spaces).str;
}

jvalue fe_j_tojson(jinja *j, jvalue self, const jvalue *args) {
    jbuf out = {0};
    writer w = {.j = j, .out = &out};
    w.ascii = fe_j_truth(j, args[0]);
    if (args[1].type != J_ABSENT && args[1].type != J_NONE) w.indent = indent_of(j, args[1]);
    w.sort = fe_j_truth(j, args[3]);
    w.item = fe_j_text(j, w.indent ? "," : ", ").str;
    w.key = fe_j_text(j, ": ").str;
    if (args[2].type != J_ABSENT && args[2].type != J_NONE) {
        const jseq *pair = fe_j_to_seq(j, args[2]);
        if (pair->count != 2 || pair->items[0].type != J_STR || pair->items[1].type != J_STR)
            fe_j_fail(j, "tojson's separators must be two strings");
        w.item = pair->items[0].str;
        w.key = pair->items[1].str;
    }
    put_json(&w, self);
    return fe_j_str_of(j, &out);
}

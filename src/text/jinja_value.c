/* Values: making, printing and going through them. */
#include "text/jinja_core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- Making ---- */

jvalue fe_j_undefined(jinja *j, const char *format, ...) {
    char hint[256];
    va_list args;
    va_start(args, format);
    vsnprintf(hint, sizeof hint, format, args);
    va_end(args);
    size_t size = strlen(hint) + 1;
    char *copy = fe_j_alloc(j, size, 1);
    memcpy(copy, hint, size);
    return J_VALUE(J_UNDEFINED, .hint = copy);
}

jvalue fe_j_str(jinja *j, const char *data, size_t len) {
    jstr *s = fe_j_alloc(j, 1, sizeof *s);
    size_t chars = 0;
    for (size_t i = 0; i < len; i++) chars += ((unsigned char)data[i] & 0xC0) != 0x80;
    fe_j_steps(j, len / 256);
    *s = (jstr){data, len, chars, false};
    return J_VALUE(J_STR, .str = s);
}

jvalue fe_j_str_of(jinja *j, const jbuf *b) { return fe_j_str(j, b->data ? b->data : "", b->len); }
jvalue fe_j_text(jinja *j, const char *s) { return fe_j_str(j, s, strlen(s)); }

jvalue fe_j_marked(jinja *j, jvalue str, bool markup) {
    if (str.str->markup == markup) return str;
    jstr *s = fe_j_alloc(j, 1, sizeof *s);
    *s = *str.str;
    s->markup = markup;
    return J_VALUE(J_STR, .str = s);
}

jvalue fe_j_seq(jinja *j, jtype type, const jvalue *items, size_t count) {
    jseq *s = fe_j_alloc(j, 1, sizeof *s);
    *s = (jseq){(jvalue *)items, count, false};
    return (jvalue){.type = type, .seq = s};
}

jvalue fe_j_pair(jinja *j, jvalue a, jvalue b) {
    jvalue *items = fe_j_alloc(j, 2, sizeof *items);
    items[0] = a;
    items[1] = b;
    return fe_j_seq(j, J_TUPLE, items, 2);
}

/* ---- Dicts ---- */

jdict *fe_j_dict(jinja *j, size_t capacity) {
    jdict *d = fe_j_alloc(j, 1, sizeof *d);
    d->capacity = capacity;
    d->keys = fe_j_alloc(j, capacity, sizeof *d->keys);
    d->values = fe_j_alloc(j, capacity, sizeof *d->values);
    return d;
}

bool fe_j_hashable(jvalue v) {
    if (v.type == J_TUPLE) {
        for (size_t i = 0; i < v.seq->count; i++)
            if (!fe_j_hashable(v.seq->items[i])) return false;
        return true;
    }
    return v.type != J_LIST && v.type != J_DICT && v.type != J_VIEW;
}

/* Where the key stands, or count. */
static size_t find(jinja *j, const jdict *d, jvalue key) {
    size_t i = 0;
    if (!fe_j_hashable(key)) fe_j_fail(j, "unhashable type: '%s'", fe_j_type(key));
    fe_j_steps(j, d->count / 8);
    while (i < d->count && !fe_j_equal(j, d->keys[i], key)) i++;
    return i;
}

const jvalue *fe_j_dict_get(jinja *j, const jdict *d, jvalue key) {
    size_t i = find(j, d, key);
    return i < d->count ? &d->values[i] : NULL;
}

const jvalue *fe_j_dict_find(jinja *j, const jdict *d, const char *key, size_t len) {
    fe_j_steps(j, d->count / 8);
    for (size_t i = 0; i < d->count; i++)
        if (d->keys[i].type == J_STR && d->keys[i].str->len == len && memcmp(d->keys[i].str->data, key, len) == 0)
            return &d->values[i];
    return NULL;
}

void fe_j_dict_put(jinja *j, jdict *d, jvalue key, jvalue value) {
    size_t there = find(j, d, key);
    if (there < d->count) {
        d->values[there] = value;
        return;
    }
    if (d->count == d->capacity) {
        size_t capacity = 2 * d->capacity + 4;
        jvalue *keys = fe_j_alloc(j, capacity, sizeof *keys), *values = fe_j_alloc(j, capacity, sizeof *values);
        for (size_t i = 0; i < d->count; i++) {
            keys[i] = d->keys[i];
            values[i] = d->values[i];
        }
        d->keys = keys;
        d->values = values;
        d->capacity = capacity;
    }
    d->keys[d->count] = key;
    d->values[d->count++] = value;
}

/* ---- Asking ---- */

const char *fe_j_type(jvalue v) {
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    switch (v.type) {
    case J_ABSENT:
    case J_UNDEFINED: return "Undefined";
    case J_NONE: return "NoneType";
    case J_BOOL: return "bool";
    case J_INT:
    case J_BIGINT: return "int";
    case J_FLOAT: return "float";
    case J_STR: return v.str->markup ? "Markup" : "str";
    case J_LIST: return "list";
    case J_TUPLE: return "tuple";
    case J_DICT: return "dict";
    case J_VIEW: return views[v.view->kind];
    case J_RANGE: return "range";
    case J_ITER: return "generator";
    case J_NAMESPACE: return "Namespace";
    case J_LOOP: return "LoopContext";
    case J_MACRO: return "Macro";
    case J_BUILTIN: return "function";
    case J_CYCLER: return "Cycler";
    case J_JOINER: return "Joiner";
    }
    return "";
}

bool fe_j_is(jvalue v, const char *s) {
    return v.type == J_STR && v.str->len == strlen(s) && memcmp(v.str->data, s, v.str->len) == 0;
}

bool fe_j_truth(jinja *j, jvalue v) {
    int64_t length;
    switch (v.type) {
    case J_ABSENT:
    case J_UNDEFINED:
    case J_NONE: return false;
    case J_BOOL: return v.boolean;
    case J_INT: return v.integer != 0;
    case J_FLOAT: return v.number != 0;
    default: return v.type == J_ITER || !fe_j_length(j, v, &length) || length > 0;
    }
}

bool fe_j_length(jinja *j, jvalue v, int64_t *out) {
    switch (v.type) {
    case J_UNDEFINED: *out = 0; return true;
    case J_STR: *out = (int64_t)v.str->chars; return true;
    case J_LIST:
    case J_TUPLE: *out = (int64_t)v.seq->count; return true;
    case J_DICT: *out = (int64_t)v.dict->count; return true;
    case J_VIEW: *out = (int64_t)v.view->dict->count; return true;
    case J_RANGE: *out = v.range->count; return true;
    case J_LOOP: *out = fe_j_loop_attribute(j, v.loop, fe_j_name("length", 6)).integer; return true;
    default: return false;
    }
}

/* ---- Printing ---- */

/* A string as Python writes it in its code. */
static void repr_str(jinja *j, jbuf *out, const jstr *s) {
    bool quote = memchr(s->data, '\'', s->len) && !memchr(s->data, '"', s->len);
    char mark = quote ? '"' : '\'', escape[16];
    if (s->markup) fe_j_puts(j, out, "Markup(");
    fe_j_put(j, out, &mark, 1);
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        size_t n = fe_utf8_decode(s->data + at, s->len - at, &cp);
        if (cp == '\\' || cp == (uint32_t)mark) {
            snprintf(escape, sizeof escape, "\\%c", (int)cp);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            snprintf(escape, sizeof escape, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
        } else if (!fe_j_is_printable(cp)) {
            snprintf(escape, sizeof escape, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        } else {
            memcpy(escape, s->data + at, n);
            escape[n] = 0;
        }
        if (cp)
            fe_j_puts(j, out, escape);
        else
            fe_j_puts(j, out, "\\x00");
        at += n;
    }
    fe_j_put(j, out, &mark, 1);
    if (s->markup) fe_j_puts(j, out, ")");
}

static void repr_items(jinja *j, jbuf *out, const jvalue *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (i) fe_j_puts(j, out, ", ");
        fe_j_repr(j, out, items[i]);
    }
}

static void repr_dict(jinja *j, jbuf *out, const jdict *d) {
    fe_j_puts(j, out, "{");
    for (size_t i = 0; i < d->count; i++) {
        if (i) fe_j_puts(j, out, ", ");
        fe_j_repr(j, out, d->keys[i]);
        fe_j_puts(j, out, ": ");
        fe_j_repr(j, out, d->values[i]);
    }
    fe_j_puts(j, out, "}");
}

static void repr_seq(jinja *j, jbuf *out, jvalue v) {
    bool list = v.type == J_LIST;
    fe_j_puts(j, out, list ? "[" : "(");
    repr_items(j, out, v.seq->items, v.seq->count);
    if (!list && v.seq->count == 1) fe_j_puts(j, out, ",");
    fe_j_puts(j, out, list ? "]" : ")");
}

static void repr_view(jinja *j, jbuf *out, jvalue v) {
    fe_j_puts(j, out, fe_j_type(v));
    fe_j_puts(j, out, "(");
    repr_seq(j, out, J_VALUE(J_LIST, .seq = fe_j_to_seq(j, v)));
    fe_j_puts(j, out, ")");
}

static void repr_range(jinja *j, jbuf *out, const jrange *r) {
    char text[96];
    snprintf(text, sizeof text, r->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)", (long long)r->start,
             (long long)r->stop, (long long)r->step);
    fe_j_puts(j, out, text);
}

static void repr_loop(jinja *j, jbuf *out, jvalue v) {
    char text[96];
    int64_t length = 0;
    fe_j_length(j, v, &length);
    snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)v.loop->index + 1, (long long)length);
    fe_j_puts(j, out, text);
}

static void repr_macro(jinja *j, jbuf *out, const jmacro *m) {
    fe_j_puts(j, out, "<Macro ");
    if (m->node->named)
        repr_str(j, out, fe_j_str(j, m->node->name.data, m->node->name.len).str);
    else
        fe_j_puts(j, out, "anonymous");
    fe_j_puts(j, out, ">");
}

void fe_j_repr(jinja *j, jbuf *out, jvalue v) {
    fe_j_enter(j);
    switch (v.type) {
    case J_ABSENT:
    case J_UNDEFINED: fe_j_puts(j, out, "Undefined"); break;
    case J_NONE: fe_j_puts(j, out, "None"); break;
    case J_BOOL: fe_j_puts(j, out, v.boolean ? "True" : "False"); break;
    case J_INT: fe_j_put_int(j, out, v.integer); break;
    case J_BIGINT: fe_j_put(j, out, v.str->data, v.str->len); break;
    case J_FLOAT: fe_j_put_float(j, out, v.number); break;
    case J_STR: repr_str(j, out, v.str); break;
    case J_LIST:
    case J_TUPLE: repr_seq(j, out, v); break;
    case J_DICT: repr_dict(j, out, v.dict); break;
    case J_VIEW: repr_view(j, out, v); break;
    case J_RANGE: repr_range(j, out, v.range); break;
    case J_NAMESPACE:
        fe_j_puts(j, out, "<Namespace ");
        repr_dict(j, out, v.dict);
        fe_j_puts(j, out, ">");
        break;
    case J_LOOP: repr_loop(j, out, v); break;
    case J_MACRO: repr_macro(j, out, v.macro); break;
    case J_ITER:
    case J_BUILTIN:
    case J_CYCLER:
    case J_JOINER: /* Python writes an address */
        fe_j_fail(j, "a %s has no text: %s", fe_j_type(v), v.type == J_ITER ? "use |list first" : "call it");
    }
    fe_j_leave(j);
}

void fe_j_print(jinja *j, jbuf *out, jvalue v) {
    if (v.type == J_STR)
        fe_j_put(j, out, v.str->data, v.str->len);
    else if (v.type != J_UNDEFINED)
        fe_j_repr(j, out, v);
}

const jstr *fe_j_soft_str(jinja *j, jvalue v) {
    if (v.type == J_STR) return v.str;
    jbuf out = {0};
    fe_j_print(j, &out, v);
    return fe_j_str_of(j, &out).str;
}

const jstr *fe_j_to_str(jinja *j, jvalue v) {
    return fe_j_marked(j, J_VALUE(J_STR, .str = fe_j_soft_str(j, v)), false).str;
}

const char *fe_j_repr_shown(jinja *j, jvalue v) {
    jbuf out = {0};
    fe_j_repr(j, &out, v);
    return fe_j_shown(j, out.data, out.len);
}

/* ---- Going through ---- */

static bool next_item(jinja *j, jiter *it, jvalue *out) {
    const jvalue v = it->source;
    size_t i = it->at++;
    switch (v.type) {
    case J_LIST:
    case J_TUPLE:
        if (i >= v.seq->count) break;
        *out = v.seq->items[i];
        return true;
    case J_DICT:
        if (i >= v.dict->count) break;
        *out = v.dict->keys[i];
        return true;
    case J_VIEW:
        if (i >= v.view->dict->count) break;
        *out = v.view->kind == JV_KEYS     ? v.view->dict->keys[i]
               : v.view->kind == JV_VALUES ? v.view->dict->values[i]
                                           : fe_j_pair(j, v.view->dict->keys[i], v.view->dict->values[i]);
        return true;
    case J_RANGE:
        if ((int64_t)i >= v.range->count) break;
        *out = fe_j_int(v.range->start + (int64_t)i * v.range->step);
        return true;
    default: break;
    }
    it->at--;
    return false;
}

/* `at` counts bytes here. */
static bool next_char(jinja *j, jiter *it, jvalue *out) {
    const jstr *s = it->source.str;
    uint32_t cp;
    if (it->at >= s->len) return false;
    size_t n = fe_utf8_decode(s->data + it->at, s->len - it->at, &cp);
    *out = fe_j_str(j, s->data + it->at, n);
    it->at += n;
    return true;
}

static bool next_of_loop(jinja *j, jiter *it, jvalue *out) {
    jloop *loop = it->source.loop;
    if (!fe_j_loop_next(j, loop)) return false;
    *out = fe_j_pair(j, loop->current, it->source);
    return true;
}

bool fe_j_iterable(jvalue v) {
    switch (v.type) {
    case J_UNDEFINED:
    case J_STR:
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_VIEW:
    case J_RANGE:
    case J_ITER:
    case J_LOOP: return true;
    default: return false;
    }
}

jvalue fe_j_make_iter(jinja *j, jiter it) {
    jiter *copy = fe_j_alloc(j, 1, sizeof *copy);
    *copy = it;
    return J_VALUE(J_ITER, .iter = copy);
}

jiter *fe_j_iter(jinja *j, jvalue v) {
    if (!fe_j_iterable(v)) fe_j_fail(j, "'%s' object is not iterable", fe_j_type(v));
    if (v.type == J_ITER) return v.iter;
    return fe_j_make_iter(j, (jiter){.next = v.type == J_STR    ? next_char
                                             : v.type == J_LOOP ? next_of_loop
                                                                : next_item,
                                     .source = v})
        .iter;
}

bool fe_j_next(jinja *j, jiter *it, jvalue *out) {
    fe_j_enter(j);
    bool more = it->next(j, it, out);
    fe_j_leave(j);
    return more;
}

const jseq *fe_j_to_seq(jinja *j, jvalue v) {
    if (v.type == J_LIST || v.type == J_TUPLE) return v.seq;
    jiter *it = fe_j_iter(j, v);
    jseq *s = fe_j_alloc(j, 1, sizeof *s);
    size_t capacity = 0;
    for (jvalue item; fe_j_next(j, it, &item); s->items[s->count++] = item) {
        if (s->count < capacity) continue;
        capacity = fe_max(2 * capacity, 8);
        jvalue *grown = fe_j_alloc(j, capacity, sizeof *grown);
        if (s->count) memcpy(grown, s->items, s->count * sizeof *grown);
        s->items = grown;
    }
    return s;
}

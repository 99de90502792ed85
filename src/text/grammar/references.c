/* Where references lead in a document. */
#include "text/grammar/shape.h"

#include <stdio.h>
#include <string.h>

/* ---- References -------------------------------------------------------------------------------------------------- */

static bool add_anchor(compiler *c, anchor a) {
    if (!fe_grow((void **)&c->anchors, &c->anchor_capacity, c->anchor_count + 1, sizeof *c->anchors))
        return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    c->anchors[c->anchor_count++] = a;
    return true;
}

static bool add_base(compiler *c, const fe_json *schema, const fe_json *document) {
    if (!fe_grow((void **)&c->bases, &c->base_capacity, c->base_count + 1, sizeof *c->bases))
        return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    c->bases[c->base_count++] = (struct base){schema, document};
    return true;
}

bool fe_schema_find_anchors(compiler *c, const fe_json *v, const fe_json *document) {
    if (v->type != FE_JSON_OBJECT && v->type != FE_JSON_ARRAY) return true;
    bool object = v->type == FE_JSON_OBJECT, refers = false;
    for (const fe_json *m = v->first; m && object; m = m->next) {
        bool text = m->type == FE_JSON_STRING, id = !strcmp(m->key, "$id") || !strcmp(m->key, "id");
        anchor a = {fe_json_str(m), v, A_ID};
        if (!strcmp(m->key, "$anchor")) a.kind = A_ANCHOR;
        if (!strcmp(m->key, "$dynamicAnchor")) a.kind = A_DYNAMIC;
        if (!strcmp(m->key, "$recursiveAnchor") && m->type == FE_JSON_BOOL && m->truth)
            a = (anchor){{"", 0}, v, A_RECURSIVE}, text = true;
        if (text && (id || a.kind != A_ID) && !add_anchor(c, a)) return false;
        if (text && id && v != c->root && *m->text != '#' && (*m->key == '$') == (c->draft > 4)) document = v;
        refers |= text && strstr(m->key, "ef") && *m->key == '$';
    }
    if (refers && document != c->root && !add_base(c, v, document)) return false;
    for (const fe_json *m = v->first; m; m = m->next) {
        bool data = object && (!strcmp(m->key, "const") || !strcmp(m->key, "enum") || !strcmp(m->key, "default") ||
                               !strcmp(m->key, "examples"));
        if (!data && !fe_schema_find_anchors(c, m, document)) return false;
    }
    return true;
}

static const fe_json *document_of(const compiler *c, const fe_json *schema) {
    for (size_t i = 0; i < c->base_count; i++)
        if (c->bases[i].schema == schema) return c->bases[i].document;
    return c->root;
}

static ferrum_str without_hash(ferrum_str s) {
    while (s.len && s.data[s.len - 1] == '#') s.len--;
    return s;
}

/* An id is the reference, or ends in it behind a slash. */
static bool names_document(ferrum_str id, ferrum_str uri) {
    id = without_hash(id);
    if (id.len < uri.len || memcmp(id.data + id.len - uri.len, uri.data, uri.len) != 0) return false;
    return id.len == uri.len || id.data[id.len - uri.len - 1] == '/';
}

static const fe_json *child_by(const fe_json *v, const char *name, size_t len) {
    size_t index = 0;
    if (v->type == FE_JSON_ARRAY) {
        for (size_t i = 0; i < len; i++) {
            if (name[i] < '0' || name[i] > '9' || index > 10000000) return NULL;
            index = index * 10 + (size_t)(name[i] - '0');
        }
        const fe_json *e = v->first;
        while (e && index--) e = e->next;
        return e;
    }
    if (v->type != FE_JSON_OBJECT) return NULL;
    for (const fe_json *m = v->first; m; m = m->next)
        if (m->key_len == len && !memcmp(m->key, name, len)) return m;
    return NULL;
}

static int hex_value(char x) {
    return x >= '0' && x <= '9' ? x - '0' : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10 : -1;
}

/* One step of a JSON Pointer in a fragment, its %XX and ~0 and ~1 undone. */
static size_t unescape(const char *from, size_t len, char *to) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char x = from[i];
        if (x == '%' && i + 2 < len && hex_value(from[i + 1]) >= 0 && hex_value(from[i + 2]) >= 0) {
            x = (char)(hex_value(from[i + 1]) * 16 + hex_value(from[i + 2]));
            i += 2;
        }
        if (n && to[n - 1] == '~' && (x == '0' || x == '1'))
            to[n - 1] = x == '0' ? '\1' : '/';
        else
            to[n++] = x;
    }
    for (size_t i = 0; i < n; i++)
        if (to[i] == '\1') to[i] = '~';
    return n;
}

static const fe_json *follow_pointer(compiler *c, const fe_json *v, ferrum_str pointer) {
    char *name = fe_schema_alloc(c, pointer.len + 1);
    while (name && v && pointer.len) {
        size_t end = 1;
        while (end < pointer.len && pointer.data[end] != '/') end++;
        v = child_by(v, name, unescape(pointer.data + 1, end - 1, name));
        pointer.data += end;
        pointer.len -= end;
    }
    return name ? v : NULL;
}

static const fe_json *find_anchor(const compiler *c, ferrum_str name) {
    for (size_t i = 0; i < c->anchor_count; i++) {
        ferrum_str id = c->anchors[i].id;
        if (id.len && *id.data == '#') id.data++, id.len--;
        if (c->anchors[i].kind != A_RECURSIVE && fe_str_equal(id, name)) return c->anchors[i].schema;
    }
    return NULL;
}

const fe_json *fe_schema_resolve(compiler *c, const fe_json *schema, const fe_json *ref) {
    if (ref->type != FE_JSON_STRING) return fe_schema_fail(c, FERRUM_EINVAL, schema, ref->key, "not a string"), NULL;
    const char *hash = memchr(ref->text, '#', ref->len);
    ferrum_str uri = {ref->text, hash ? (size_t)(hash - ref->text) : ref->len};
    ferrum_str fragment = {hash ? hash + 1 : "", hash ? ref->len - uri.len - 1 : 0};
    const fe_json *document = uri.len ? NULL : document_of(c, schema), *v = document;
    for (size_t i = 0; i < c->anchor_count && !v; i++)
        if (c->anchors[i].kind == A_ID && names_document(c->anchors[i].id, uri)) v = c->anchors[i].schema;
    if (v && fragment.len && *fragment.data == '/') {
        v = follow_pointer(c, v, fragment);
        if (!v && document) v = follow_pointer(c, c->root, fragment); /* as some write it who give a part an $id */
    } else if (v && fragment.len)
        v = find_anchor(c, fragment);
    char shown[80], what[160];
    fe_printable(shown, sizeof shown, ref->text, ref->len);
    snprintf(what, sizeof what, "\"%s\" is not in this document", shown);
    if (!v) fe_schema_fail(c, FERRUM_EUNSUPPORTED, schema, ref->key, what);
    return v;
}

bool fe_schema_unambiguous(compiler *c, const fe_json *schema, const fe_json *ref) {
    bool dynamic = !strcmp(ref->key, "$dynamicRef");
    size_t n = 0;
    ferrum_str name = {ref->text, ref->type == FE_JSON_STRING ? ref->len : 0};
    for (const char *hash; name.len && (hash = memchr(name.data, '#', name.len));)
        name.len -= (size_t)(hash + 1 - name.data), name.data = hash + 1;
    for (size_t i = 0; i < c->anchor_count; i++) {
        const anchor *a = &c->anchors[i];
        n += dynamic ? a->kind == A_DYNAMIC && fe_str_equal(a->id, name) : a->kind == A_RECURSIVE;
    }
    return n <= 1 || fe_schema_fail(c, FERRUM_EUNSUPPORTED, schema, ref->key, "it may mean one schema or another");
}

#include "text/grammar/schema.h"

#include "text/grammar/shape.h"
#include <stdio.h>
#include <string.h>

enum { CONJUNCTIONS_MOST = 100000, CLASSES_MOST = 64, WANTS_MOST = 16, NOTES_MOST = 1 << 14 };
#define ARENA_LIMIT ((size_t)256 << 20)

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

/* The JSON Pointer of a value of the document, from its end to its start; false: it is not below v. */
static bool find_path(const fe_json *v, const fe_json *wanted, fe_text *out, unsigned depth) {
    if (v == wanted) return true;
    if (!v || depth > 200 || (v->type != FE_JSON_ARRAY && v->type != FE_JSON_OBJECT)) return false;
    size_t index = 0;
    for (const fe_json *e = v->first; e; e = e->next, index++) {
        size_t before = out->len;
        fe_text_puts(out, "/");
        if (v->type == FE_JSON_OBJECT)
            fe_text_append(out, e->key, e->key_len);
        else {
            char number[24];
            snprintf(number, sizeof number, "%zu", index);
            fe_text_puts(out, number);
        }
        if (find_path(e, wanted, out, depth + 1)) return true;
        if (!out->failed) out->len = before;
    }
    return false;
}

bool fe_schema_fail(compiler *c, int code, const fe_json *where, const char *keyword, const char *what) {
    if (c->rc) return false;
    c->rc = code;
    if (c->quiet && code == FERRUM_EUNSUPPORTED) return false;
    fe_text path = {0};
    fe_text_puts(&path, "#");
    if (!where) where = c->here;
    if (where && !find_path(c->root, where, &path, 0)) path.len = 1;
    char shown[200] = "#", named[48];
    if (!path.failed) fe_printable(shown, sizeof shown, path.data, path.len);
    fe_printable(named, sizeof named, keyword ? keyword : "", keyword ? strlen(keyword) : 0);
    fe_text_free(&path);
    fe_error_set(c->err, code, "%s: %s: %s%s%s", c->name, shown, named, keyword ? ": " : "", what);
    return false;
}

void fe_schema_note(compiler *c, const char *before, const char *name, const char *behind) {
    char shown[80];
    fe_text line = {0};
    if (!c->notes || c->quiet || c->notes->len > NOTES_MOST) return;
    fe_printable(shown, sizeof shown, name, strlen(name));
    fe_text_puts(&line, before);
    fe_text_puts(&line, shown);
    fe_text_puts(&line, behind);
    fe_text_puts(&line, "\n");
    if (!line.failed && (!c->notes->len || !strstr(c->notes->data, line.data)))
        fe_text_append(c->notes, line.data, line.len);
    fe_text_free(&line);
}

void *fe_schema_alloc(compiler *c, size_t bytes) {
    void *p = c->rc ? NULL : fe_arena_alloc(&c->arena, bytes);
    if (!p) fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "the schema takes more than 256 MiB to compile");
    return p;
}

bool fe_schema_step(compiler *c) { return fe_schema_steps(c, 1); }

bool fe_schema_steps(compiler *c, size_t count) {
    if ((c->steps += count) > FE_SCHEMA_STEPS)
        fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "the schema takes too many steps to compile");
    return !c->rc;
}

bool fe_schema_pattern(compiler *c, const fe_json *schema, const char *keyword, const char *text, size_t len,
                       fe_re *out) {
    for (size_t i = 0; i < c->pattern_count; i++)
        if (c->patterns[i].len == len && !memcmp(c->patterns[i].text, text, len)) return *out = c->patterns[i].r, true;
    ferrum_error why;
    int rc = fe_pattern_compile(c->res, FE_JSON, false, text, len, out, &why);
    if (rc) return fe_schema_fail(c, rc, schema, keyword, why.message);
    char *copy = fe_arena_copy(&c->arena, text, len);
    if (!copy || !fe_grow((void **)&c->patterns, &c->pattern_capacity, c->pattern_count + 1, sizeof *c->patterns))
        return fe_schema_fail(c, FERRUM_ENOMEM, schema, keyword, "out of memory");
    c->patterns[c->pattern_count++] = (struct pattern){copy, len, *out};
    return true;
}

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

/* The names by which references find schemas, and the documents that are embedded in this one. */
static bool find_anchors(compiler *c, const fe_json *v, const fe_json *document) {
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
        if (!data && !find_anchors(c, m, document)) return false;
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

/* ---- Conjunctions ------------------------------------------------------------------------------------------------ */

bool fe_parts_add(compiler *c, parts *p, part x) {
    for (int hops = 0; !x.constant && hops < 50; hops++) {
        const fe_json *ref = x.value->type == FE_JSON_OBJECT ? fe_json_get(x.value, "$ref") : NULL;
        if (!ref || (x.value->count > 1 && c->draft >= 2019)) break;
        x.value = fe_schema_resolve(c, x.value, ref);
        if (!x.value) return false;
    }
    bool all =
        !x.constant && !x.negative &&
        ((x.value->type == FE_JSON_BOOL && x.value->truth) || (x.value->type == FE_JSON_OBJECT && !x.value->count));
    if (all) return true;
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].value == x.value && p->list[i].constant == x.constant && p->list[i].negative == x.negative)
            return true;
    if (!fe_grow((void **)&p->list, &p->capacity, p->count + 1, sizeof *p->list))
        return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    p->list[p->count++] = x;
    return true;
}

static int compare_parts(const void *a, const void *b) {
    const part *x = a, *y = b;
    uintptr_t v = (uintptr_t)x->value, w = (uintptr_t)y->value;
    if (v != w) return v < w ? -1 : 1;
    return (x->constant - y->constant) * 2 + (x->negative - y->negative);
}

static uint64_t hash_parts(const parts *p) {
    uint64_t h = p->count;
    for (size_t i = 0; i < p->count; i++) {
        h ^= (uint64_t)(uintptr_t)p->list[i].value * 4 + p->list[i].constant * 2u + p->list[i].negative;
        h = h * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h;
}

static bool same_parts(const parts *a, const parts *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (compare_parts(&a->list[i], &b->list[i])) return false;
    return true;
}

static bool rehash(compiler *c) {
    size_t size = c->slots ? (c->slot_mask + 1) * 2 : 256;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    free(c->slots);
    c->slots = slots;
    c->slot_mask = size - 1;
    for (size_t k = 0; k < c->conjunction_count; k++) {
        size_t i = c->conjunctions[k].hash & c->slot_mask;
        while (slots[i]) i = (i + 1) & c->slot_mask;
        slots[i] = (uint32_t)k + 1;
    }
    return true;
}

/* The node of the conjunction, defined when its turn comes. Takes the list of parts. */
static fe_node node_of(compiler *c, parts *p) {
    if (p->count > 1) qsort(p->list, p->count, sizeof *p->list, compare_parts);
    uint64_t h = hash_parts(p);
    if (c->rc || ((!c->slots || c->conjunction_count * 2 >= c->slot_mask) && !rehash(c)))
        return free(p->list), FE_NODE_NEVER;
    size_t i = h & c->slot_mask;
    for (; c->slots[i]; i = (i + 1) & c->slot_mask) {
        const conjunction *x = &c->conjunctions[c->slots[i] - 1];
        if (x->hash == h && same_parts(&x->parts, p)) return free(p->list), x->node;
    }
    if (c->conjunction_count == CONJUNCTIONS_MOST)
        fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "more than 100000 different combinations of schemas");
    else if (!fe_grow((void **)&c->conjunctions, &c->conjunction_capacity, c->conjunction_count + 1,
                      sizeof *c->conjunctions))
        fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    if (c->rc) return free(p->list), FE_NODE_NEVER;
    fe_node node = fe_node_reserve(c->g);
    c->conjunctions[c->conjunction_count] = (conjunction){*p, node, h};
    c->slots[i] = (uint32_t)++c->conjunction_count;
    return node;
}

/* ---- Objects ----------------------------------------------------------------------------------------------------- */

typedef struct names {
    fe_property *list;
    size_t count, capacity;
    uint32_t *slots;
    size_t mask;
} names;

static uint64_t hash_name(ferrum_str s) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.data[i]) * 1099511628211u;
    return h ^ h >> 32;
}

/* The property of that name, added if it is new. */
static fe_property *property(compiler *c, names *n, ferrum_str name) {
    if (!n->slots || n->count * 2 >= n->mask) {
        size_t size = n->slots ? (n->mask + 1) * 2 : 32;
        uint32_t *slots = calloc(size, sizeof *slots);
        if (!slots) return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory"), NULL;
        free(n->slots);
        n->slots = slots;
        n->mask = size - 1;
        for (size_t k = 0; k < n->count; k++) {
            size_t i = hash_name(n->list[k].name) & n->mask;
            while (slots[i]) i = (i + 1) & n->mask;
            slots[i] = (uint32_t)k + 1;
        }
    }
    size_t i = hash_name(name) & n->mask;
    for (; n->slots[i]; i = (i + 1) & n->mask)
        if (fe_str_equal(n->list[n->slots[i] - 1].name, name)) return &n->list[n->slots[i] - 1];
    if (!fe_grow((void **)&n->list, &n->capacity, n->count + 1, sizeof *n->list))
        return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory"), NULL;
    n->list[n->count] = (fe_property){.name = name};
    n->slots[i] = (uint32_t)++n->count;
    return &n->list[n->count - 1];
}

/* Lists in shapes stand last first: this puts the layers' properties into the schema's order. */
static bool name_layers(compiler *c, const layer *l, names *n) {
    const layer *stack[64];
    size_t layers = 0;
    for (; l && layers < 64; l = l->next) stack[layers++] = l;
    while (layers--) {
        size_t count = 0, i = 0;
        for (const member *m = stack[layers]->members; m; m = m->next) count++;
        const member **list = fe_schema_alloc(c, (count + 1) * sizeof *list);
        if (!list) return false;
        for (const member *m = stack[layers]->members; m; m = m->next) list[i++] = m;
        while (count--)
            if (list[count]->pattern == FE_RE_NEVER && !property(c, n, list[count]->name)) return false;
    }
    for (; l; l = l->next)
        for (const member *m = l->members; m; m = m->next)
            if (m->pattern == FE_RE_NEVER && !property(c, n, m->name)) return false;
    return true;
}

static bool name_all(compiler *c, const shape *s, names *n) {
    if (!name_layers(c, s->layers, n)) return false;
    for (const name_list *r = s->required; r; r = r->next) {
        fe_property *p = property(c, n, r->name);
        if (!p) return false;
        p->required = true;
    }
    for (const need *d = s->needs; d; d = d->next)
        if (!property(c, n, d->name) || !property(c, n, d->needed)) return false;
    for (const need *d = s->needs; d; d = d->next) {
        uint32_t needed = (uint32_t)(property(c, n, d->needed) - n->list);
        fe_property *p = property(c, n, d->name);
        uint32_t *needs = fe_schema_alloc(c, (p->needs_count + 1) * sizeof *needs);
        if (!needs) return false;
        if (p->needs_count) memcpy(needs, p->needs, p->needs_count * sizeof *needs);
        needs[p->needs_count++] = needed;
        p->needs = needs;
    }
    return !c->rc;
}

static bool make_values(compiler *c, const shape *s, names *n) {
    for (size_t i = 0; i < n->count; i++) {
        parts p = {0};
        if (!fe_parts_of_key(c, s, n->list[i].name, &p)) return free(p.list), false;
        n->list[i].value = node_of(c, &p);
    }
    return !c->rc;
}

/* The names, in every spelling that a string may have. */
static fe_re spell_names(compiler *c, const names *n) {
    ferrum_str *words = malloc((n->count + 1) * sizeof *words);
    fe_re r = FE_RE_NEVER;
    size_t count = 0;
    for (size_t i = 0; words && i < n->count; i++) {
        ferrum_str name = n->list[i].name;
        bool plain = true;
        for (size_t k = 0; k < name.len; k++) {
            unsigned char b = (unsigned char)name.data[k];
            plain &= b >= 0x20 && b < 0x7F && b != '"' && b != '\\';
        }
        if (plain)
            words[count++] = name;
        else
            r = fe_re_or(c->res, r, fe_re_spell(c->res, FE_JSON, name.data, name.len));
    }
    if (words)
        r = fe_re_or(c->res, r, fe_re_words(c->res, words, count));
    else
        fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    free(words);
    return r;
}

/* A class of keys that no property has: those that the same patterns name. */
typedef struct class {
    fe_re key; /* between the quotes */
    const fe_re *patterns;
    size_t count;
} class;

static bool split_class(compiler *c, class *list, size_t *count, fe_re pattern) {
    size_t before = *count;
    for (size_t i = 0; i < before; i++) {
        fe_re with = fe_re_and(c->res, list[i].key, pattern), without = fe_re_minus(c->res, list[i].key, pattern);
        bool none = fe_re_is_empty(c->res, with);
        if (none) continue;
        if (*count == CLASSES_MOST)
            return fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "patternProperties", "too many patterns overlap");
        fe_re *patterns = fe_schema_alloc(c, (list[i].count + 1) * sizeof *patterns);
        if (!patterns) return false;
        if (list[i].count) memcpy(patterns, list[i].patterns, list[i].count * sizeof *patterns);
        patterns[list[i].count] = pattern;
        list[(*count)++] = (class){with, patterns, list[i].count + 1};
        list[i].key = fe_re_is_empty(c->res, without) ? FE_RE_NEVER : without;
    }
    return true;
}

static bool class_has(const class *k, fe_re pattern) {
    for (size_t i = 0; i < k->count; i++)
        if (k->patterns[i] == pattern) return true;
    return false;
}

static bool parts_of_class(compiler *c, const shape *s, const class *k, parts *out) {
    for (const layer *l = s->layers; l; l = l->next) {
        bool named = false;
        for (const member *m = l->members; m; m = m->next) {
            if (m->pattern == FE_RE_NEVER || !class_has(k, m->pattern)) continue;
            named = true;
            if (!fe_parts_add(c, out, m->schema)) return false;
        }
        if (!named && l->has_other && !fe_parts_add(c, out, l->other)) return false;
    }
    return true;
}

static bool never_fits(const parts *p) {
    for (size_t i = 0; i < p->count; i++)
        if (!p->list[i].constant && p->list[i].value->type == FE_JSON_BOOL &&
            p->list[i].value->truth == p->list[i].negative)
            return true;
    return false;
}

static fe_re quote(compiler *c, fe_re r) {
    fe_re mark = fe_re_text(c->res, "\"");
    return fe_re_cat(c->res, mark, fe_re_cat(c->res, r, mark));
}

static bool make_extras(compiler *c, const shape *s, const names *n, fe_extra *out, size_t *count) {
    class list[CLASSES_MOST] = {{fe_re_minus(c->res, s->names, spell_names(c, n)), NULL, 0}};
    size_t classes = 1;
    for (const layer *l = s->layers; l; l = l->next)
        for (const member *m = l->members; m; m = m->next) {
            bool known = m->pattern == FE_RE_NEVER;
            for (size_t i = 0; i < classes && !known; i++) known = class_has(&list[i], m->pattern);
            if (!known && !split_class(c, list, &classes, m->pattern)) return false;
        }
    for (const want *w = s->wants; w; w = w->next)
        if (!split_class(c, list, &classes, w->keys)) return false;
    *count = 0;
    for (size_t i = 0; i < classes; i++) {
        parts p = {0};
        if (list[i].key == FE_RE_NEVER) continue;
        if (!parts_of_class(c, s, &list[i], &p)) return free(p.list), false;
        if (never_fits(&p))
            free(p.list);
        else
            out[(*count)++] = (fe_extra){quote(c, list[i].key), node_of(c, &p)};
    }
    return !c->rc;
}

/* Which properties and which other keys are among those that a want is for. */
static bool fill_want(compiler *c, const names *n, const fe_extra *extras, size_t extra_count, fe_re keys,
                      fe_want *out) {
    uint32_t *list = fe_schema_alloc(c, (n->count + 1) * sizeof *list);
    if (!list) return false;
    *out = (fe_want){.properties = list};
    for (size_t i = 0; i < n->count; i++)
        if (fe_name_fits(c, keys, n->list[i].name)) list[out->count++] = (uint32_t)i;
    fe_re quoted = quote(c, keys);
    for (size_t i = 0; i < extra_count; i++)
        if (!fe_re_is_empty(c->res, fe_re_and(c->res, extras[i].key, quoted))) out->extras |= (uint64_t)1 << i;
    return !c->rc;
}

/* Where only a member's being there is wanted, not its value. */
static fe_node make_simple_object(compiler *c, const shape *s) {
    names n = {0};
    fe_extra extras[CLASSES_MOST];
    fe_want wants[WANTS_MOST];
    size_t extra_count = 0, want_count = 0;
    uint64_t required = 0;
    fe_node node = FE_NODE_NEVER;
    bool ok = name_all(c, s, &n) && make_values(c, s, &n) && make_extras(c, s, &n, extras, &extra_count);
    for (size_t i = 0; i < n.count; i++) required += n.list[i].required;
    /* A key that is no property's may come twice, and is then one member. */
    if (ok && extra_count && s->members_least > 1 && required < s->members_least)
        ok = fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "minProperties",
                            "more than 1 is not held where keys are free");
    for (const want *w = s->wants; w && ok; w = w->next) {
        if (w->has_value) continue;
        if (want_count == WANTS_MOST || s->members_most != FE_RE_INF)
            ok = fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "not",
                                "negations of several closed objects, or of one beside maxProperties");
        else
            ok = fill_want(c, &n, extras, extra_count, w->keys, &wants[want_count++]);
    }
    if (ok)
        node = fe_node_object(c->g, &(fe_object_spec){.properties = n.list,
                                                      .count = n.count,
                                                      .extras = extras,
                                                      .extra_count = extra_count,
                                                      .wants = wants,
                                                      .want_count = want_count,
                                                      .least = s->members_least,
                                                      .most = s->members_most,
                                                      .ordered = c->options.ordered});
    free(n.list);
    free(n.slots);
    return node;
}

/* A key that is no property's may come again with another value, which counts: no value of it can be wanted. */
static bool check_free_keys(compiler *c, const shape *s, const names *n, const want *w) {
    fe_extra extras[CLASSES_MOST];
    size_t count = 0;
    fe_want found;
    if (!make_extras(c, s, n, extras, &count) || !fill_want(c, &(names){0}, extras, count, w->keys, &found))
        return false;
    return !found.extras || fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "not",
                                           "that a member has another value is not held where keys are free");
}

/* The wants from w on: each property that may fulfil one is an alternative. */
static bool make_object(compiler *c, const shape *s, const want *w, fe_node **list, size_t *count, size_t *capacity) {
    while (w && !w->has_value) w = w->next;
    if (!fe_schema_step(c)) return false;
    if (!w) {
        if (!fe_grow((void **)list, capacity, *count + 1, sizeof **list))
            return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
        (*list)[*count] = make_simple_object(c, s);
        ++*count;
        return !c->rc;
    }
    names n = {0};
    bool ok = name_all(c, s, &n) && check_free_keys(c, s, &n, w);
    for (size_t i = 0; i < n.count && ok; i++) {
        if (!fe_name_fits(c, w->keys, n.list[i].name)) continue;
        member *m = fe_schema_alloc(c, sizeof *m);
        if (!m) break;
        *m = (member){.name = n.list[i].name, .schema = w->value};
        shape x = *s;
        layer l = {.members = m, .next = s->layers};
        name_list required = {n.list[i].name, s->required};
        x.layers = &l, x.required = &required;
        ok = make_object(c, &x, w->next, list, count, capacity);
    }
    free(n.list);
    free(n.slots);
    return ok && !c->rc;
}

/* ---- Arrays and all values --------------------------------------------------------------------------------------- */

static const fe_json nothing = {.type = FE_JSON_BOOL, .truth = false};

/* The item at that index with those of the contains that are bits of the set, and without the others as far as they are counted up to
 * a bound. */
static bool make_item(compiler *c, const shape *s, size_t index, uint32_t set, fe_node *out) {
    parts p = {0};
    bool ok = fe_parts_of_item(c, s, index, &p);
    uint32_t i = 0;
    for (const contain *x = s->contains; x && ok; x = x->next, i++) {
        bool in = set >> i & 1, skipped = index < x->skipped;
        if (skipped && in)
            ok = fe_parts_add(c, &p, (part){&nothing, false, false});
        else if (in || (x->most != FE_RE_INF && !skipped))
            ok = fe_parts_add(c, &p, (part){x->schema.value, x->schema.constant, x->schema.negative == in});
    }
    if (ok)
        *out = node_of(c, &p);
    else
        free(p.list);
    return ok && !c->rc;
}

static fe_re make_scalar(compiler *c, const shape *s);

/* Items that are not to be equal are compared as they are written: every value is written in one way. */
static fe_re only_spelling(compiler *c, const shape *s) {
    static const char text[] = "([^\\x00-\\x1f\"\\\\]|\\\\([bfnrt\"\\\\]|u00(0[0-7bef]|1[0-9a-f])))*";
    static const char number[] = "0|-?(0\\.[0-9]*[1-9]|[1-9][0-9]*(\\.[0-9]*[1-9])?)";
    shape x = *s;
    fe_re r;
    if (x.types & T_STRING) {
        if (fe_pattern_compile(c->res, FE_UTF8, true, text, sizeof text - 1, &r, NULL)) return FE_RE_NEVER;
        x.string = fe_re_and(c->res, x.string, r);
    }
    if (x.types & T_NUMBER) {
        if (fe_pattern_compile(c->res, FE_UTF8, true, number, sizeof number - 1, &r, NULL)) return FE_RE_NEVER;
        x.number = fe_re_and(c->res, x.number, r);
    }
    return make_scalar(c, &x);
}

static bool make_unique_item(compiler *c, const shape *s, size_t index, fe_node *out) {
    parts p = {0};
    shapes list = {0};
    shape any = fe_shape_any(c);
    fe_re r = FE_RE_NEVER;
    bool ok = fe_parts_of_item(c, s, index, &p) && fe_shapes_add(c, &list, &any);
    for (size_t i = 0; i < p.count && ok; i++) ok = fe_apply(c, &list, p.list[i]);
    ok = ok && (fe_shapes_prune(c, &list) || !c->rc);
    for (size_t i = 0; i < list.count && ok; i++) {
        if (list.list[i].types & (T_ARRAY | T_OBJECT))
            ok = fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "uniqueItems", "not held of arrays and objects");
        else
            r = fe_re_or(c->res, r, only_spelling(c, &list.list[i]));
    }
    *out = ok && !c->rc && !fe_re_is_empty(c->res, r) ? fe_node_term(c->g, r) : FE_NODE_NEVER;
    free(p.list);
    free(list.list);
    return ok && !c->rc;
}

/* No two items are equal. What cannot be held is a choice that leaves too few for the items that have to follow. */
static fe_node make_unique_array(compiler *c, const shape *s, size_t count) {
    fe_node *items = fe_schema_alloc(c, (count + 1) * sizeof *items);
    uint64_t there;
    for (size_t i = 0; items && i <= count; i++)
        if (!make_unique_item(c, s, i, &items[i])) return FE_NODE_NEVER;
    if (c->rc) return FE_NODE_NEVER;
    if (s->contains) return fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "uniqueItems", "not held beside contains"), 0;
    if (count && s->items_least > 1)
        return fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "uniqueItems",
                              "not held where more than one item is required and they have schemas of their own"),
               FE_NODE_NEVER;
    bool all = fe_re_count(c->res, fe_node_term_of(c->g, items[0]), s->items_least, &there);
    if (!all && there < s->items_least)
        return fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "uniqueItems", "are there so many values? Not known"), 0;
    return fe_node_array(
        c->g, &(fe_array_spec){
                  .items = items, .count = count, .least = s->items_least, .most = s->items_most, .unique = true});
}

static bool read_contains(compiler *c, const shape *s, fe_array_spec *spec) {
    for (const contain *x = s->contains; x; x = x->next) {
        if (spec->contains == FE_CONTAINS_MOST)
            return fe_schema_fail(c, FERRUM_EUNSUPPORTED, NULL, "contains", "more than 4 for one array are not held");
        spec->matching[spec->contains].least = x->least;
        spec->matching[spec->contains++].most = x->most;
    }
    return fe_array_table_size(spec) <= FE_TABLE_MOST ||
           fe_schema_fail(c, FERRUM_ELIMIT, NULL, "contains", "with counts so large it is not held");
}

static fe_node make_array(compiler *c, const shape *s) {
    size_t count = 0;
    for (const row *r = s->rows; r; r = r->next) count = fe_max(count, r->skipped + r->count);
    for (const contain *x = s->contains; x; x = x->next) count = fe_max(count, x->skipped);
    count = fe_min(count, s->items_most);
    if (s->unique && s->items_most > 1) return make_unique_array(c, s, count);
    fe_array_spec spec = {.count = count, .least = s->items_least, .most = s->items_most};
    if (!read_contains(c, s, &spec)) return FE_NODE_NEVER;
    uint32_t sets = 1u << spec.contains;
    fe_node *items = fe_schema_alloc(c, (count + 1) * sets * sizeof *items);
    for (size_t i = 0; items && i < (count + 1) * sets; i++)
        if (!make_item(c, s, i / sets, (uint32_t)(i % sets), &items[i])) return FE_NODE_NEVER;
    spec.items = items;
    return items ? fe_node_array(c->g, &spec) : FE_NODE_NEVER;
}

static fe_re make_scalar(compiler *c, const shape *s) {
    fe_re list[5];
    size_t n = 0;
    if (s->types & T_NULL) list[n++] = c->tokens->null;
    if (s->types & T_TRUE && s->types & T_FALSE)
        list[n++] = c->tokens->boolean;
    else if (s->types & (T_TRUE | T_FALSE))
        list[n++] = fe_re_text(c->res, s->types & T_TRUE ? "true" : "false");
    if (s->types & T_NUMBER) list[n++] = s->number;
    if (s->types & T_STRING) list[n++] = quote(c, fe_shape_string(c, s));
    return n ? fe_re_or_of(c->res, list, n) : FE_RE_NEVER;
}

static void define(compiler *c, size_t index) {
    const conjunction k = c->conjunctions[index];
    shapes s = {0};
    shape any = fe_shape_any(c);
    fe_node *choices = NULL;
    size_t count = 0, capacity = 0;
    c->here = k.parts.count ? k.parts.list[0].value : NULL;
    bool ok = fe_shapes_add(c, &s, &any);
    for (size_t i = 0; i < k.parts.count && ok; i++) ok = fe_apply(c, &s, k.parts.list[i]);
    if (ok) fe_shapes_prune(c, &s);
    for (size_t i = 0; i < s.count && !c->rc; i++) {
        const shape *x = &s.list[i];
        if (!fe_grow((void **)&choices, &capacity, count + 3, sizeof *choices)) {
            fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
            break;
        }
        choices[count++] = fe_node_term(c->g, make_scalar(c, x));
        if (x->types & T_ARRAY) choices[count++] = make_array(c, x);
        if (x->types & T_OBJECT) make_object(c, x, x->wants, &choices, &count, &capacity);
    }
    if (!c->rc) fe_node_define(c->g, k.node, fe_node_choice(c->g, choices, count));
    free(choices);
    free(s.list);
}

/* ---- The schema -------------------------------------------------------------------------------------------------- */

static int draft_of(const fe_json *root) {
    static const struct {
        const char *mark;
        int draft;
    } drafts[] = {{"draft-03", 4}, {"draft-04", 4}, {"draft-06", 6}, {"draft-07", 7}, {"2019-09", 2019}};
    const fe_json *v = root->type == FE_JSON_OBJECT ? fe_json_get(root, "$schema") : NULL;
    for (size_t i = 0; v && v->type == FE_JSON_STRING && i < sizeof drafts / sizeof *drafts; i++)
        if (strstr(v->text, drafts[i].mark)) return drafts[i].draft;
    return 2020;
}

/* Defines every conjunction of parts that is met on the way. */
static int compile(compiler *c, const fe_json *schema, bool object, fe_node *root) {
    static const fe_json name = {.type = FE_JSON_STRING, .text = "object", .len = 6, .key = "type", .key_len = 4};
    static const fe_json objects = {.type = FE_JSON_OBJECT, .first = (fe_json *)&name, .count = 1};
    parts start = {0};
    find_anchors(c, c->root, c->root);
    if (!c->rc) fe_parts_add(c, &start, (part){schema, false, false});
    if (!c->rc && object) fe_parts_add(c, &start, (part){&objects, false, false});
    *root = node_of(c, &start);
    for (size_t i = 0; i < c->conjunction_count && !c->rc; i++) {
        define(c, i);
        ferrum_error why;
        int rc = fe_res_failed(c->res, &why);
        if (rc) fe_schema_fail(c, rc, NULL, NULL, why.message);
    }
    return c->rc;
}

int fe_schema_node(fe_node *out, fe_schema_site *site, const fe_json *schema, const fe_schema_options *options,
                   ferrum_error *err) {
    compiler c = {.g = site->g,
                  .res = fe_grammar_res(site->g),
                  .tokens = fe_grammar_tokens(site->g),
                  .name = site->name,
                  .root = site->document ? site->document : schema,
                  .options = *options,
                  .notes = site->notes,
                  .steps = site->steps,
                  .err = err,
                  .arena = fe_arena_make(ARENA_LIMIT)};
    c.content = fe_re_minus(c.res, fe_re_star(c.res, c.tokens->json_char), site->never);
    c.draft = draft_of(c.root);
    int rc = compile(&c, schema, site->object, out);
    site->steps = c.steps;
    for (size_t i = 0; i < c.conjunction_count; i++) free(c.conjunctions[i].parts.list);
    free(c.conjunctions);
    free(c.slots);
    free(c.anchors);
    free(c.bases);
    free(c.patterns);
    fe_arena_free(&c.arena);
    return rc;
}

int fe_schema_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, const char *name,
                      const fe_schema_options *options, fe_text *notes, ferrum_error *err) {
    fe_schema_site site = {.name = name, .notes = notes, .never = FE_RE_NEVER};
    fe_arena arena = fe_arena_make(ARENA_LIMIT);
    const fe_json *root;
    fe_node node;
    ferrum_error why;
    *out = NULL;
    int rc = fe_json_parse(&root, text, len, name, NULL, &arena, err);
    if (!rc && !(site.g = fe_grammar_open(tokens, options->space))) rc = fe_fail_memory(err, len, "a grammar");
    if (!rc) rc = fe_schema_node(&node, &site, root, options, err);
    if (!rc && (rc = fe_grammar_finish(site.g, node, NULL, NULL, &why)) != 0)
        rc = rc == FERRUM_EINVAL ? fe_fail(err, rc, "%s: no finite value fits the schema", name)
                                 : fe_fail(err, rc, "%s: %s", name, why.message);
    fe_arena_free(&arena);
    if (rc)
        fe_grammar_close(site.g);
    else
        *out = site.g;
    return rc;
}

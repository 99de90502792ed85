/* Lists of shapes: what narrows all of them, and what makes more of them. */
#include "text/grammar/apply.h"

/* ---- Lists of shapes --------------------------------------------------------------------------------------------- */

shape fe_shape_any(const compiler *c) {
    return (shape){.types = T_ALL,
                   .number = c->tokens->number,
                   .string = c->content,
                   .length_most = FE_RE_INF,
                   .items_most = FE_RE_INF,
                   .names = c->content,
                   .members_most = FE_RE_INF};
}

bool fe_shapes_add(compiler *c, shapes *s, const shape *x) {
    if (!x->types) return true;
    if (s->count == FE_SHAPES_MOST)
        return fe_schema_fail(c, FERRUM_ELIMIT, NULL, NULL, "more than 3000 alternatives for one value");
    if (!fe_grow((void **)&s->list, &s->capacity, s->count + 1, sizeof *s->list))
        return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
    s->list[s->count++] = *x;
    return true;
}

void fe_shapes_drop_dead(shapes *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i].types) s->list[n++] = s->list[i];
    s->count = n;
}

bool fe_shapes_branch(compiler *c, const shapes *from, part p, shapes *to) {
    shapes copy = {0};
    bool ok = fe_shapes_copy(c, from, &copy) && fe_apply(c, &copy, p) && fe_shapes_copy(c, &copy, to);
    free(copy.list);
    return ok;
}

void fe_shapes_replace(shapes *s, shapes *by) {
    free(s->list);
    *s = *by;
    *by = (shapes){0};
}

void fe_shapes_keep(shapes *s, unsigned types) {
    for (size_t i = 0; i < s->count; i++) s->list[i].types &= types;
    fe_shapes_drop_dead(s);
}

bool fe_shapes_copy(compiler *c, const shapes *from, shapes *to) {
    for (size_t i = 0; i < from->count; i++)
        if (!fe_shapes_add(c, to, &from->list[i])) return false;
    return true;
}

bool fe_shapes_split(compiler *c, shapes *s, unsigned type, shapes *to) {
    for (size_t i = 0; i < s->count; i++) {
        shape x = s->list[i];
        x.types &= ~type;
        if (!fe_shapes_add(c, to, &x)) return false;
    }
    fe_shapes_keep(s, type);
    return true;
}

/* ---- What is said of items and members --------------------------------------------------------------------------- */

bool fe_shapes_row(compiler *c, shapes *s, const row *made) {
    for (size_t i = 0; i < s->count; i++) {
        row *r = fe_schema_alloc(c, sizeof *r);
        if (!r) return false;
        *r = *made;
        r->next = s->list[i].rows;
        s->list[i].rows = r;
    }
    return true;
}

bool fe_shapes_contain(compiler *c, shapes *s, const contain *made) {
    for (size_t i = 0; i < s->count; i++) {
        contain *x = fe_schema_alloc(c, sizeof *x);
        if (!x) return false;
        *x = *made;
        x->next = s->list[i].contains;
        s->list[i].contains = x;
    }
    return true;
}

bool fe_shapes_layer(compiler *c, shapes *s, const layer *made) {
    for (size_t i = 0; i < s->count; i++) {
        layer *l = fe_schema_alloc(c, sizeof *l);
        if (!l) return false;
        *l = *made;
        l->next = s->list[i].layers;
        s->list[i].layers = l;
    }
    return true;
}

bool fe_shapes_want(compiler *c, shapes *s, const want *made) {
    for (size_t i = 0; i < s->count; i++) {
        want *w = fe_schema_alloc(c, sizeof *w);
        if (!w) return false;
        *w = *made;
        w->next = s->list[i].wants;
        s->list[i].wants = w;
    }
    return true;
}

bool fe_shapes_require(compiler *c, shapes *s, ferrum_str name) {
    for (size_t i = 0; i < s->count; i++) {
        name_list *n = fe_schema_alloc(c, sizeof *n);
        if (!n) return false;
        *n = (name_list){name, s->list[i].required};
        s->list[i].required = n;
    }
    return true;
}

bool fe_shapes_member(compiler *c, shapes *s, ferrum_str name, part p) {
    member *m = fe_schema_alloc(c, sizeof *m);
    if (!m) return false;
    *m = (member){.name = name, .schema = p};
    return fe_shapes_layer(c, s, &(layer){.members = m});
}

bool fe_cases_begin(compiler *c, const shapes *s, cases *k) {
    k->one.count = 0;
    return fe_shapes_copy(c, s, &k->one);
}
bool fe_cases_end(compiler *c, cases *k) { return fe_shapes_copy(c, &k->one, &k->all); }
bool fe_cases_finish(compiler *c, shapes *s, cases *k, bool ok) {
    if (ok && !c->rc) fe_shapes_replace(s, &k->all);
    free(k->one.list);
    free(k->all.list);
    return ok && !c->rc;
}

bool fe_cases_item_differs(compiler *c, const shapes *s, cases *k, const fe_json *first, bool constant) {
    uint32_t i = 0;
    for (const fe_json *e = first; e; e = e->next, i++) {
        if (!fe_cases_begin(c, s, k)) return false;
        for (size_t j = 0; j < k->one.count; j++) fe_raise_to(&k->one.list[j].items_least, i + 1);
        row r = {.first = e, .count = 1, .skipped = i, .constant = constant, .negative = true};
        if (!fe_shapes_row(c, &k->one, &r) || !fe_cases_end(c, k)) return false;
    }
    return true;
}

bool fe_layer_add(compiler *c, layer *l, const fe_json *m, fe_re pattern) {
    member *x = fe_schema_alloc(c, sizeof *x);
    if (!x) return false;
    *x = (member){.name = fe_json_key(m), .pattern = pattern, .schema = fe_schema_part(m, false), .next = l->members};
    l->members = x;
    return true;
}

static int compare_members(const void *a, const void *b) {
    return fe_str_compare((*(const member *const *)a)->name, (*(const member *const *)b)->name);
}

bool fe_layer_sort(compiler *c, layer *l) {
    enum { FEW = 16 };
    size_t count = 0, named = 0, patterns = 0;
    for (const member *m = l->members; m; m = m->next) count++;
    if (count < FEW) return true;
    const member **list = fe_schema_alloc(c, count * sizeof *list);
    if (!list) return false;
    for (const member *m = l->members; m; m = m->next)
        if (m->pattern == FE_RE_NEVER) list[named++] = m;
    for (const member *m = l->members; m; m = m->next)
        if (m->pattern != FE_RE_NEVER) list[named + patterns++] = m;
    if (named) qsort(list, named, sizeof *list, compare_members);
    l->sorted = list, l->named = named, l->patterns = patterns;
    return true;
}

const member *fe_layer_find(const layer *l, ferrum_str name) {
    size_t from = 0, to = l->named;
    while (from < to) {
        size_t at = from + (to - from) / 2;
        int order = fe_str_compare(name, l->sorted[at]->name);
        if (order == 0) return l->sorted[at];
        *(order < 0 ? &to : &from) = order < 0 ? at : at + 1;
    }
    return NULL;
}

fe_re fe_layer_other_keys(compiler *c, const layer *l) {
    fe_re *list = NULL, r = FE_RE_NEVER;
    size_t n = 0, capacity = 0;
    for (const member *m = l->members; m; m = m->next) {
        if (!fe_grow((void **)&list, &capacity, n + 1, sizeof *list)) {
            fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory");
            break;
        }
        list[n++] = m->pattern != FE_RE_NEVER ? m->pattern : fe_re_spell(c->res, FE_JSON, m->name.data, m->name.len);
    }
    if (!c->rc) r = fe_re_minus(c->res, c->content, n ? fe_re_or_of(c->res, list, n) : FE_RE_NEVER);
    free(list);
    return r;
}

/* What no value can fit: proofs of emptiness, as far as they are cheap. */
#include "text/grammar/shape.h"

#include <string.h>

fe_re fe_shape_string(compiler *c, const shape *s) {
    if (s->length_least > s->length_most) return FE_RE_NEVER;
    if (!s->length_least && s->length_most == FE_RE_INF) return s->string;
    return fe_re_and(c->res, s->string, fe_re_repeat(c->res, c->tokens->json_char, s->length_least, s->length_most));
}

/* Does the name, as it is written between quotes, belong to the expression? Its first spelling stands for all. */
bool fe_name_fits(compiler *c, fe_re r, ferrum_str name) {
    fe_text quoted = {0};
    fe_json_put_string(&quoted, name.data, name.len, false);
    bool fits = !quoted.failed && fe_re_matches(c->res, r, quoted.data + 1, quoted.len - 2);
    fe_text_free(&quoted);
    return fits;
}

/* What the layer says of the key, of the member of its name and of patterns that it fits. */
static bool parts_of_layer(compiler *c, const layer *l, ferrum_str name, parts *out, bool *named) {
    const member *own = l->sorted ? fe_layer_find(l, name) : NULL;
    *named = own != NULL;
    if (own && !fe_parts_add(c, out, own->schema)) return false;
    for (size_t i = 0; l->sorted && i < l->patterns; i++) {
        const member *m = l->sorted[l->named + i];
        if (!fe_name_fits(c, m->pattern, name)) continue;
        *named = true;
        if (!fe_parts_add(c, out, m->schema)) return false;
    }
    for (const member *m = l->sorted ? NULL : l->members; m; m = m->next) {
        if (m->pattern == FE_RE_NEVER ? !fe_str_equal(m->name, name) : !fe_name_fits(c, m->pattern, name)) continue;
        *named = true;
        if (!fe_parts_add(c, out, m->schema)) return false;
    }
    return true;
}

bool fe_parts_of_key(compiler *c, const shape *s, ferrum_str name, parts *out) {
    static const fe_json nothing = {.type = FE_JSON_BOOL, .truth = false};
    if (!fe_name_fits(c, s->names, name) && !fe_parts_add(c, out, (part){&nothing, false, false})) return false;
    size_t layers = 0;
    for (const layer *l = s->layers; l; l = l->next) {
        bool named;
        if (!parts_of_layer(c, l, name, out, &named)) return false;
        if (!named && l->has_other && !fe_parts_add(c, out, l->other)) return false;
        layers++;
    }
    return fe_schema_steps(c, layers / 16);
}

bool fe_parts_of_item(compiler *c, const shape *s, size_t index, parts *out) {
    for (const row *r = s->rows; r; r = r->next) {
        const fe_json *e = r->first;
        if (index >= r->skipped + r->count) {
            if (r->has_rest && !fe_parts_add(c, out, r->rest)) return false;
            continue;
        }
        for (size_t i = r->skipped; i < index; i++) e = e->next;
        if (!fe_schema_steps(c, index > r->skipped ? (index - r->skipped) / 16 : 0)) return false;
        if (index >= r->skipped && !fe_parts_add(c, out, (part){e, r->constant, r->negative})) return false;
    }
    return !c->rc;
}

/* Is it proved that no value fits all of the parts? A keyword that cannot be held proves nothing. */
static bool contradict(compiler *c, const parts *p) {
    if (c->proving >= FE_PROOF_DEPTH || !p->count || c->rc) return false;
    shapes s = {0};
    shape any = fe_shape_any(c);
    bool quiet = c->quiet, empty = false;
    unsigned evaluating = c->evaluating, items = c->evaluating_items, unseen = c->unseen;
    c->quiet = true, c->proving++, c->evaluating = c->evaluating_items = c->unseen = 0;
    fe_shapes_add(c, &s, &any);
    for (size_t i = 0; i < p->count && !c->rc; i++) fe_apply(c, &s, p->list[i]);
    if (!c->rc) empty = !fe_shapes_prune(c, &s);
    c->quiet = quiet, c->proving--, c->evaluating = evaluating, c->evaluating_items = items, c->unseen = unseen;
    if (c->rc == FERRUM_EUNSUPPORTED) c->rc = 0, empty = false;
    free(s.list);
    return empty && !c->rc;
}

/* A want that nothing fulfils: where another layer names all keys that there may be, each of them is looked at. */
static bool want_empty(compiler *c, const shape *s, const want *w) {
    const layer *closed = s->layers;
    while (closed && !(closed->has_other && closed->other.value->type == FE_JSON_BOOL &&
                       closed->other.value->truth == closed->other.negative))
        closed = closed->next;
    if (!closed) return false;
    for (const member *m = closed->members; m; m = m->next) {
        if (m->pattern != FE_RE_NEVER) return false;
        if (!fe_name_fits(c, w->keys, m->name)) continue;
        parts p = {0};
        bool empty =
            fe_parts_of_key(c, s, m->name, &p) && (!w->has_value || fe_parts_add(c, &p, w->value)) && contradict(c, &p);
        free(p.list);
        if (!empty || !fe_schema_step(c)) return false;
    }
    return !c->rc;
}

static int compare_names(const void *a, const void *b) {
    return fe_str_compare(*(const ferrum_str *)a, *(const ferrum_str *)b);
}

/* The names that are required, each once: their number. *list: to be freed. */
static size_t required_names(compiler *c, const shape *s, ferrum_str **list) {
    size_t count = 0, n = 0;
    for (const name_list *r = s->required; r; r = r->next) count++;
    *list = malloc((count + 1) * sizeof **list);
    if (!*list) return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory"), 0;
    for (const name_list *r = s->required; r; r = r->next) (*list)[n++] = r->name;
    if (count) qsort(*list, count, sizeof **list, compare_names);
    n = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || !fe_str_equal((*list)[i], (*list)[n - 1])) (*list)[n++] = (*list)[i];
    return n;
}

static bool object_empty(compiler *c, const shape *s) {
    ferrum_str *names;
    size_t required = required_names(c, s, &names);
    bool empty = false;
    for (size_t i = 0; i < required && !empty; i++) {
        parts p = {0};
        empty = (fe_parts_of_key(c, s, names[i], &p) && contradict(c, &p)) || !fe_schema_step(c);
        free(p.list);
    }
    free(names);
    if (empty || c->rc) return true;
    for (const want *w = s->wants; w; w = w->next)
        if (want_empty(c, s, w)) return true;
    return s->members_least > s->members_most || required > s->members_most;
}

static bool array_empty(compiler *c, const shape *s) {
    if (s->items_least > s->items_most) return true;
    for (const contain *x = s->contains; x; x = x->next)
        if (x->least > x->most || (uint64_t)x->least + x->skipped > s->items_most) return true;
    for (uint32_t i = 0; i < s->items_least && i < 4; i++) {
        parts p = {0};
        bool empty = fe_parts_of_item(c, s, i, &p) && contradict(c, &p);
        free(p.list);
        if (empty) return true;
    }
    return false;
}

static void prune(compiler *c, shape *s) {
    if (s->types & T_NUMBER && fe_re_is_empty(c->res, s->number)) s->types &= ~(unsigned)T_NUMBER;
    if (s->types & T_STRING && fe_re_is_empty(c->res, fe_shape_string(c, s))) s->types &= ~(unsigned)T_STRING;
    if (s->types & T_OBJECT && object_empty(c, s)) s->types &= ~(unsigned)T_OBJECT;
    if (s->types & T_ARRAY && array_empty(c, s)) s->types &= ~(unsigned)T_ARRAY;
}

bool fe_shapes_prune(compiler *c, shapes *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->count && !c->rc; i++) {
        prune(c, &s->list[i]);
        if (s->list[i].types) s->list[n++] = s->list[i];
    }
    s->count = n;
    return n > 0;
}

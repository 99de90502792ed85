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

bool fe_parts_of_key(compiler *c, const shape *s, ferrum_str name, parts *out) {
    static const fe_json nothing = {.type = FE_JSON_BOOL, .truth = false};
    if (!fe_name_fits(c, s->names, name) && !fe_parts_add(c, out, (part){&nothing, false, false})) return false;
    size_t layers = 0;
    for (const layer *l = s->layers; l; l = l->next) {
        bool named = false;
        for (const member *m = l->members; m; m = m->next) {
            if (m->pattern == FE_RE_NEVER ? !fe_str_equal(m->name, name) : !fe_name_fits(c, m->pattern, name)) continue;
            named = true;
            if (!fe_parts_add(c, out, m->schema)) return false;
        }
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

static bool object_empty(compiler *c, const shape *s) {
    uint64_t required = 0;
    for (const name_list *n = s->required; n; n = n->next) {
        bool again = false;
        for (const name_list *m = s->required; m != n && !again; m = m->next) again = fe_str_equal(m->name, n->name);
        if (again) continue;
        required++;
        parts p = {0};
        bool empty = fe_parts_of_key(c, s, n->name, &p) && contradict(c, &p);
        free(p.list);
        if (empty || !fe_schema_step(c)) return true;
    }
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

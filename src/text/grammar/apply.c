/* What a schema, or its negation, makes of shapes: keywords that combine others, and all of them in turn. */
#include "text/grammar/apply.h"

#include <string.h>

static const fe_json anything = {.type = FE_JSON_BOOL, .truth = true};

/* ---- Combinations ------------------------------------------------------------------------------------------------ */

static bool is_list(compiler *c, const fe_json *schema, const fe_json *v) {
    return (v->type == FE_JSON_ARRAY && v->count) || fe_schema_invalid(c, schema, v->key, "not a list of schemas");
}

static bool apply_each(compiler *c, shapes *s, const fe_json *v, bool negative) {
    for (const fe_json *e = v->first; e; e = e->next)
        if (!fe_apply(c, s, fe_schema_part(e, negative))) return false;
    return true;
}

static bool apply_one_of_these(compiler *c, shapes *s, const fe_json *v, bool negative) {
    shapes out = {0};
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next)
        ok = fe_shapes_branch(c, s, fe_schema_part(e, negative), &out);
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

static bool apply_all_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return is_list(c, schema, v) && apply_each(c, s, v, false);
}
static bool not_all_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return is_list(c, schema, v) && apply_one_of_these(c, s, v, true);
}
/* Where it matters which branches evaluate something, every set of them that may hold together is an alternative. */
static bool apply_some_of(compiler *c, shapes *s, const fe_json *v) {
    shapes out = {0};
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next) {
        shapes more = {0};
        ok = fe_shapes_copy(c, &out, &more) && fe_shapes_branch(c, s, fe_schema_part(e, false), &more);
        ok = ok && fe_shapes_branch(c, &out, fe_schema_part(e, false), &more);
        if (ok) fe_shapes_replace(&out, &more);
        free(more.list);
    }
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

static bool apply_any_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (!is_list(c, schema, v)) return false;
    return c->evaluating && !c->unseen ? apply_some_of(c, s, v) : apply_one_of_these(c, s, v, false);
}
static bool not_any_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return is_list(c, schema, v) && apply_each(c, s, v, true);
}

/* Of the shapes, all of which fit one branch, those that fit another too are taken away. */
static bool exclude(compiler *c, shapes *s, const fe_json *schema, const fe_json *other) {
    shapes out = {0};
    bool ok = true;
    for (size_t i = 0; i < s->count && ok; i++) {
        shapes both = {0};
        bool quiet = c->quiet;
        c->quiet = true;
        ok = fe_shapes_add(c, &both, &s->list[i]) && fe_apply(c, &both, fe_schema_part(other, false));
        bool apart = ok && !fe_shapes_prune(c, &both);
        both.count = 0;
        if (!apart && !c->rc && fe_shapes_add(c, &both, &s->list[i]))
            ok = fe_apply(c, &both, fe_schema_part(other, true));
        c->quiet = quiet;
        if (c->rc == FERRUM_EUNSUPPORTED) {
            c->rc = 0;
            ok = fe_schema_unsupported(c, schema, "oneOf",
                                       "that no value fits two of its branches can neither be proved nor held");
        }
        if (ok && apart) ok = fe_shapes_add(c, &out, &s->list[i]);
        for (size_t k = 0; ok && !apart && k < both.count; k++) ok = fe_shapes_add(c, &out, &both.list[k]);
        free(both.list);
    }
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

static bool apply_one_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (!is_list(c, schema, v)) return false;
    shapes out = {0};
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next) {
        shapes one = {0};
        ok = fe_shapes_branch(c, s, fe_schema_part(e, false), &one);
        ok = ok && (fe_shapes_prune(c, &one) || !c->rc);
        for (const fe_json *other = v->first; other && ok && one.count; other = other->next)
            if (other != e) ok = exclude(c, &one, schema, other);
        ok = ok && fe_shapes_copy(c, &one, &out);
        free(one.list);
    }
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

/* None of them, or two at least. */
static bool not_one_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (!is_list(c, schema, v)) return false;
    shapes out = {0};
    bool ok = fe_shapes_copy(c, s, &out) && apply_each(c, &out, v, true);
    for (const fe_json *a = v->first; a && ok; a = a->next)
        for (const fe_json *b = a->next; b && ok; b = b->next) {
            shapes both = {0};
            ok = fe_shapes_branch(c, s, fe_schema_part(a, false), &both) &&
                 fe_apply(c, &both, fe_schema_part(b, false)) && fe_shapes_copy(c, &both, &out);
            free(both.list);
        }
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

static bool apply_not(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return fe_apply(c, s, fe_schema_part(v, true));
}
static bool not_not(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return fe_apply(c, s, fe_schema_part(v, false));
}

/* if and then, or not if and else. */
static bool conditional(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    const fe_json *then = fe_json_get(schema, "then"), *otherwise = fe_json_get(schema, "else");
    if (!then && !otherwise && (negative || !c->evaluating)) return negative ? fe_shapes_keep(s, 0), true : true;
    shapes yes = {0}, no = {0};
    bool ok =
        fe_shapes_branch(c, s, fe_schema_part(v, false), &yes) && fe_shapes_branch(c, s, fe_schema_part(v, true), &no);
    if (then)
        ok = ok && fe_apply(c, &yes, fe_schema_part(then, negative));
    else if (negative)
        yes.count = 0;
    if (otherwise)
        ok = ok && fe_apply(c, &no, fe_schema_part(otherwise, negative));
    else if (negative)
        no.count = 0;
    ok = ok && fe_shapes_copy(c, &no, &yes);
    if (ok) fe_shapes_replace(s, &yes);
    free(yes.list);
    free(no.list);
    return ok;
}
static bool apply_if(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return conditional(c, s, schema, v, false);
}
static bool not_if(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return conditional(c, s, schema, v, true);
}

static bool refer(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    const fe_json *target = fe_schema_resolve(c, schema, v);
    return target && fe_apply(c, s, fe_schema_part(target, negative));
}
static bool apply_ref(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return refer(c, s, schema, v, false);
}
static bool not_ref(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return refer(c, s, schema, v, true);
}

/* A reference that is told by who refers to the document: held where it can mean one schema alone. */
static bool apply_dynamic(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return fe_schema_unambiguous(c, schema, v) && refer(c, s, schema, v, false);
}
static bool not_dynamic(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return fe_schema_unambiguous(c, schema, v) && refer(c, s, schema, v, true);
}

/* ---- What is left over ------------------------------------------------------------------------------------------- */

/* Members that no layer of this schema names: those since the mark that evaluate. */
static bool apply_unevaluated_members(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    for (size_t i = 0; i < s->count; i++) {
        layer made = {.other = fe_schema_part(v, false), .has_other = true, .evaluates = !c->unseen};
        bool all = false;
        for (const layer *l = s->list[i].layers; l && l->opening != schema; l = l->next) {
            all |= l->evaluates && l->has_other;
            for (const member *m = l->evaluates ? l->members : NULL; m; m = m->next) {
                member *named = fe_schema_alloc(c, sizeof *named);
                if (!named) return false;
                *named = (member){m->name, m->pattern, fe_schema_part(&anything, false), made.members};
                made.members = named;
            }
        }
        shapes one = {.list = &s->list[i], .count = 1};
        if (!all && !(fe_layer_sort(c, &made) && fe_shapes_layer(c, &one, &made))) return false;
    }
    return true;
}

static bool apply_unevaluated_items(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    for (size_t i = 0; i < s->count; i++) {
        row made = {.rest = fe_schema_part(v, false), .has_rest = true, .evaluates = !c->unseen};
        bool all = false;
        for (const row *r = s->list[i].rows; r && r->opening != schema; r = r->next) {
            all |= r->evaluates && r->has_rest;
            if (r->evaluates) made.skipped = fe_max(made.skipped, r->skipped + r->count);
        }
        shapes one = {.list = &s->list[i], .count = 1};
        if (!all && !fe_shapes_row(c, &one, &made)) return false;
    }
    return true;
}

static bool refuse(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)s;
    return fe_schema_unsupported(c, schema, v->key, "not held");
}
static bool told_elsewhere(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)c, (void)s, (void)schema, (void)v;
    return true;
}

/* ---- Keywords ---------------------------------------------------------------------------------------------------- */

static const fe_keyword combining_keywords[] = {
    {"$ref", apply_ref, not_ref, 0},
    {"additionalItems", told_elsewhere, NULL, 0},
    {"minContains", told_elsewhere, NULL, 2019},
    {"maxContains", told_elsewhere, NULL, 2019},
    {"allOf", apply_all_of, not_all_of, 0},
    {"anyOf", apply_any_of, not_any_of, 0},
    {"oneOf", apply_one_of, not_one_of, 0},
    {"not", apply_not, not_not, 0},
    {"if", apply_if, not_if, 7},
    {"then", told_elsewhere, NULL, 0},
    {"else", told_elsewhere, NULL, 0},
    {"unevaluatedProperties", apply_unevaluated_members, refuse, 2019},
    {"unevaluatedItems", apply_unevaluated_items, refuse, 2019},
    {"$dynamicRef", apply_dynamic, not_dynamic, 2020},
    {"$recursiveRef", apply_dynamic, not_dynamic, 2019},
    {0},
};

/* Those that say nothing of values, or are read where references are followed. */
static const char *const annotations[] = {
    "$schema",    "$id",      "id",        "$anchor",  "$dynamicAnchor", "$recursiveAnchor", "$vocabulary",
    "$comment",   "$defs",    "title",     "default",  "description",    "definitions",      "examples",
    "deprecated", "readOnly", "writeOnly", "$comment", "contentSchema",  "contentMediaType", "contentEncoding"};

/* A schema that names its draft has that draft's keywords alone; what is newer says nothing in it. */
static const fe_keyword *find_keyword(compiler *c, const char *name) {
    static const fe_keyword *const tables[] = {combining_keywords, fe_scalar_keywords, fe_member_keywords};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const fe_keyword *k = tables[t]; k->name; k++) {
            if (strcmp(k->name, name) != 0) continue;
            if (k->since <= c->draft) return k;
            fe_schema_note(c, "", name, " is newer than the draft that the schema names, and says nothing");
            return NULL;
        }
    for (size_t i = 0; i < sizeof annotations / sizeof *annotations; i++)
        if (!strcmp(annotations[i], name)) return NULL;
    fe_schema_note(c, "", name, " is no keyword that is known, and says nothing");
    return NULL;
}

/* Keywords that leave several alternatives come late, so that they begin from what the others have narrowed down; and last of all
 * those that look at what the others have evaluated. */
static int turn_of(const char *name) {
    static const char *const forks[] = {"anyOf", "oneOf", "not", "if", "dependencies", "dependentSchemas", "allOf"};
    for (size_t i = 0; i < sizeof forks / sizeof *forks; i++)
        if (!strcmp(forks[i], name)) return 1;
    return !strncmp(name, "unevaluated", 11) ? 2 : 0;
}

/* From here on it is noted what the schema evaluates. */
static bool open_evaluation(compiler *c, shapes *s, const fe_json *schema, bool members, bool items) {
    c->evaluating += members || items;
    c->evaluating_items += items;
    return (!members || fe_shapes_layer(c, s, &(layer){.opening = schema})) &&
           (!items || fe_shapes_row(c, s, &(row){.opening = schema}));
}

static bool apply_schema(compiler *c, shapes *s, const fe_json *schema) {
    const fe_json *ref = fe_json_get(schema, "$ref");
    if (ref && c->draft < 2019) return apply_ref(c, s, schema, ref);
    bool members = c->draft >= 2019 && fe_json_get(schema, "unevaluatedProperties");
    bool items = c->draft >= 2019 && fe_json_get(schema, "unevaluatedItems");
    bool ok = open_evaluation(c, s, schema, members, items);
    for (int turn = 0; turn < 3; turn++)
        for (const fe_json *m = schema->first; m && ok; m = m->next) {
            const fe_keyword *k = find_keyword(c, m->key);
            if (k && turn_of(m->key) == turn && s->count) ok = k->apply(c, s, schema, m);
        }
    c->evaluating -= members || items;
    c->evaluating_items -= items;
    return ok;
}

/* Not all of the keywords hold: one of them does not. */
static bool apply_not_schema(compiler *c, shapes *s, const fe_json *schema) {
    const fe_json *ref = fe_json_get(schema, "$ref");
    if (ref && c->draft < 2019) return not_ref(c, s, schema, ref);
    shapes out = {0};
    bool ok = true;
    for (const fe_json *m = schema->first; m && ok; m = m->next) {
        const fe_keyword *k = find_keyword(c, m->key);
        if (!k || !k->negate) continue;
        shapes one = {0};
        ok = fe_shapes_copy(c, s, &one) && k->negate(c, &one, schema, m) && fe_shapes_copy(c, &one, &out);
        free(one.list);
    }
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

bool fe_apply(compiler *c, shapes *s, part p) {
    const fe_json *v = p.value;
    if (c->rc || !fe_schema_step(c)) return false;
    if (!s->count) return true;
    if (p.constant) return p.negative ? fe_apply_not_constant(c, s, v) : fe_apply_constant(c, s, v);
    if (v->type == FE_JSON_BOOL) {
        if (v->truth == p.negative) s->count = 0;
        return true;
    }
    if (v->type != FE_JSON_OBJECT) return fe_schema_invalid(c, v, NULL, "a schema is an object, true or false");
    if (++c->depth > FE_APPLY_DEPTH)
        return fe_schema_fail(c, FERRUM_EUNSUPPORTED, v, NULL,
                              "references lead round in a circle, or more than 60 schemas stand for one value");
    c->unseen += p.negative;
    bool ok = p.negative ? apply_not_schema(c, s, v) : apply_schema(c, s, v);
    c->unseen -= p.negative;
    c->depth--;
    return ok && !c->rc;
}

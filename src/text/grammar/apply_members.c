/* What keywords about items and members, or their negations, make of shapes. */
#include "text/grammar/apply.h"

#include <string.h>

static const fe_json nothing = {.type = FE_JSON_BOOL, .truth = false};

/* ---- Arrays ------------------------------------------------------------------------------------------------------ */

static bool apply_items(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    const fe_json *prefix = c->draft >= 2020 ? fe_json_get(schema, "prefixItems") : NULL;
    row r = {.evaluates = !c->unseen};
    if (v->type == FE_JSON_ARRAY) { /* as it was before 2020-12 */
        const fe_json *more = fe_json_get(schema, "additionalItems");
        r.first = v->first, r.count = v->count;
        r.rest = fe_schema_part(more, false), r.has_rest = more != NULL;
        return fe_shapes_row(c, s, &r);
    }
    r.rest = fe_schema_part(v, false), r.has_rest = true;
    if (prefix && prefix->type == FE_JSON_ARRAY) r.first = prefix->first, r.count = prefix->count;
    return fe_shapes_row(c, s, &r);
}

static bool apply_prefix(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY) return fe_schema_invalid(c, schema, "prefixItems", "not a list");
    const fe_json *items = fe_json_get(schema, "items");
    if (items && items->type != FE_JSON_ARRAY) return true; /* told there */
    return fe_shapes_row(c, s, &(row){.first = v->first, .count = v->count, .evaluates = !c->unseen});
}

static bool apply_unique(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_BOOL) return fe_schema_invalid(c, schema, "uniqueItems", "not true or false");
    for (size_t i = 0; i < s->count; i++) s->list[i].unique |= v->truth;
    return true;
}

/* minContains and maxContains, which older drafts do not have. */
static bool read_contains(compiler *c, const fe_json *schema, uint32_t *least, uint32_t *most) {
    const fe_json *min = c->draft >= 2019 ? fe_json_get(schema, "minContains") : NULL;
    const fe_json *max = c->draft >= 2019 ? fe_json_get(schema, "maxContains") : NULL;
    *least = 1, *most = FE_RE_INF;
    return (!min || fe_schema_read_count(c, schema, "minContains", min, least)) &&
           (!max || fe_schema_read_count(c, schema, "maxContains", max, most));
}

static bool apply_contains(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    contain x = {.schema = fe_schema_part(v, false)};
    if (!read_contains(c, schema, &x.least, &x.most)) return false;
    if (c->evaluating_items && !c->unseen)
        return fe_schema_unsupported(c, schema, "contains", "not held beside unevaluatedItems");
    return (!x.least && x.most == FE_RE_INF) || fe_shapes_contain(c, s, &x);
}

/* Too few that match, or too many. */
static bool not_contains(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    uint32_t least, most;
    if (!read_contains(c, schema, &least, &most)) return false;
    fe_shapes_keep(s, T_ARRAY);
    cases k = {0};
    bool ok = true;
    if (least == 1)
        ok = fe_cases_begin(c, s, &k) &&
             fe_shapes_row(c, &k.one, &(row){.rest = fe_schema_part(v, true), .has_rest = true}) && fe_cases_end(c, &k);
    else if (least)
        ok = fe_cases_begin(c, s, &k) &&
             fe_shapes_contain(c, &k.one, &(contain){.schema = fe_schema_part(v, false), .most = least - 1}) &&
             fe_cases_end(c, &k);
    if (most != FE_RE_INF)
        ok = ok && fe_cases_begin(c, s, &k) &&
             fe_shapes_contain(c, &k.one,
                               &(contain){.schema = fe_schema_part(v, false), .least = most + 1, .most = FE_RE_INF}) &&
             fe_cases_end(c, &k);
    return fe_cases_finish(c, s, &k, ok);
}

/* An array of which not all items are so has one that is not. */
static bool not_items(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    const fe_json *prefix = c->draft >= 2020 ? fe_json_get(schema, "prefixItems") : NULL, *rest = v;
    contain differs = {.least = 1, .most = FE_RE_INF};
    cases k = {0};
    bool ok = true;
    fe_shapes_keep(s, T_ARRAY);
    if (prefix && prefix->type == FE_JSON_ARRAY) differs.skipped = prefix->count;
    if (v->type == FE_JSON_ARRAY) {
        differs.skipped = v->count;
        rest = fe_json_get(schema, "additionalItems");
        ok = fe_cases_item_differs(c, s, &k, v->first, false);
    }
    if (rest) {
        differs.schema = fe_schema_part(rest, true);
        ok = ok && fe_cases_begin(c, s, &k) && fe_shapes_contain(c, &k.one, &differs) && fe_cases_end(c, &k);
    }
    return fe_cases_finish(c, s, &k, ok);
}

static bool not_prefix(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    cases k = {0};
    if (v->type != FE_JSON_ARRAY) return fe_schema_invalid(c, schema, "prefixItems", "not a list");
    fe_shapes_keep(s, T_ARRAY);
    return fe_cases_finish(c, s, &k, fe_cases_item_differs(c, s, &k, v->first, false));
}

static bool not_unique(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type == FE_JSON_BOOL && !v->truth) return fe_shapes_keep(s, 0), true;
    return fe_schema_unsupported(c, schema, "uniqueItems", "its negation is not held");
}

/* ---- Objects ----------------------------------------------------------------------------------------------------- */

static bool read_layer(compiler *c, const fe_json *schema, layer *l) {
    const fe_json *properties = fe_json_get(schema, "properties"), *patterns = fe_json_get(schema, "patternProperties");
    const fe_json *other = fe_json_get(schema, "additionalProperties");
    if (properties && properties->type != FE_JSON_OBJECT)
        return fe_schema_invalid(c, schema, "properties", "not an object");
    if (patterns && patterns->type != FE_JSON_OBJECT)
        return fe_schema_invalid(c, schema, "patternProperties", "not an object");
    for (const fe_json *m = properties ? properties->first : NULL; m; m = m->next)
        if (!fe_layer_add(c, l, m, FE_RE_NEVER)) return false;
    for (const fe_json *m = patterns ? patterns->first : NULL; m; m = m->next) {
        fe_re r;
        if (!fe_schema_pattern(c, schema, "patternProperties", m->key, m->key_len, &r)) return false;
        if (r != FE_RE_NEVER && !fe_layer_add(c, l, m, r)) return false;
    }
    if (other) l->other = fe_schema_part(other, false), l->has_other = true;
    return fe_layer_sort(c, l);
}

/* The three keywords make one layer: the first of them in the schema does it. */
static bool apply_members(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    for (const fe_json *m = schema->first; m != v; m = m->next)
        if (!strcmp(m->key, "properties") || !strcmp(m->key, "patternProperties") ||
            !strcmp(m->key, "additionalProperties"))
            return true;
    layer l = {.evaluates = !c->unseen};
    return read_layer(c, schema, &l) && fe_shapes_layer(c, s, &l);
}

/* What older schemas have there is a bool that says it of the property itself: no keyword of JSON Schema any more. */
static bool apply_required(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type == FE_JSON_BOOL) return true;
    if (v->type != FE_JSON_ARRAY) return fe_schema_invalid(c, schema, "required", "not a list");
    for (const fe_json *n = v->first; n; n = n->next) {
        if (n->type != FE_JSON_STRING) return fe_schema_invalid(c, schema, "required", "not a list of names");
        if (!fe_shapes_require(c, s, fe_json_str(n))) return false;
    }
    return true;
}

static bool not_required(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY)
        return v->type == FE_JSON_BOOL ? fe_shapes_keep(s, 0),
               true                    : fe_schema_invalid(c, schema, "required", "not a list");
    fe_shapes_keep(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *n = v->first; n && ok; n = n->next) {
        if (n->type != FE_JSON_STRING) ok = fe_schema_invalid(c, schema, "required", "not a list of names");
        ok = ok && fe_cases_begin(c, s, &k) &&
             fe_shapes_member(c, &k.one, fe_json_str(n), fe_schema_part(&nothing, false)) && fe_cases_end(c, &k);
    }
    return fe_cases_finish(c, s, &k, ok);
}

/* An object of which not all properties are so has one that is there and is not. */
static bool not_properties(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return fe_schema_invalid(c, schema, "properties", "not an object");
    fe_shapes_keep(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *m = v->first; m && ok; m = m->next)
        ok = fe_cases_begin(c, s, &k) && fe_shapes_require(c, &k.one, fe_json_key(m)) &&
             fe_shapes_member(c, &k.one, fe_json_key(m), fe_schema_part(m, true)) && fe_cases_end(c, &k);
    return fe_cases_finish(c, s, &k, ok);
}

static bool not_patterns(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return fe_schema_invalid(c, schema, "patternProperties", "not an object");
    fe_shapes_keep(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *m = v->first; m && ok; m = m->next) {
        want w = {.value = fe_schema_part(m, true), .has_value = !fe_schema_is_none(m)};
        ok = fe_schema_pattern(c, schema, "patternProperties", m->key, m->key_len, &w.keys) && fe_cases_begin(c, s, &k);
        ok = ok && (fe_schema_is_any(m) || (fe_shapes_want(c, &k.one, &w) && fe_cases_end(c, &k)));
    }
    return fe_cases_finish(c, s, &k, ok);
}

static bool not_other_members(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    layer l = {0};
    fe_shapes_keep(s, fe_schema_is_any(v) ? 0 : T_OBJECT);
    if (!s->count) return true;
    want w = {.value = fe_schema_part(v, true), .has_value = !fe_schema_is_none(v)};
    if (!read_layer(c, schema, &l)) return false;
    w.keys = fe_layer_other_keys(c, &l);
    return !c->rc && fe_shapes_want(c, s, &w);
}

/* The keys that a schema of strings takes. */
static bool read_names(compiler *c, const fe_json *v, fe_re *out) {
    shapes names = {0};
    shape any = fe_shape_any(c);
    unsigned evaluating = c->evaluating, items = c->evaluating_items;
    any.types = T_STRING;
    *out = FE_RE_NEVER;
    c->evaluating = c->evaluating_items = 0;
    bool ok = fe_shapes_add(c, &names, &any) && fe_apply(c, &names, fe_schema_part(v, false));
    for (size_t i = 0; i < names.count && ok; i++) *out = fe_re_or(c->res, *out, fe_shape_string(c, &names.list[i]));
    c->evaluating = evaluating, c->evaluating_items = items;
    free(names.list);
    return ok;
}

static bool apply_names(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    fe_re r;
    bool ok = read_names(c, v, &r);
    for (size_t i = 0; i < s->count && ok; i++) /* all of r is content */
        s->list[i].names = s->list[i].names == c->content ? r : fe_re_and(c->res, s->list[i].names, r);
    return ok;
}

static bool not_names(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    fe_re r;
    fe_shapes_keep(s, T_OBJECT);
    return read_names(c, v, &r) && fe_shapes_want(c, s, &(want){.keys = fe_re_minus(c->res, c->content, r)});
}

static bool add_need(compiler *c, shapes *s, ferrum_str name, ferrum_str needed) {
    for (size_t i = 0; i < s->count; i++) {
        need *n = fe_schema_alloc(c, sizeof *n);
        if (!n) return false;
        *n = (need){name, needed, s->list[i].needs};
        s->list[i].needs = n;
    }
    return true;
}

/* Either the member is not there, or the whole fits the schema. */
static bool apply_dependent(compiler *c, shapes *s, const fe_json *m) {
    shapes out = {0}, with = {0};
    bool ok = fe_shapes_copy(c, s, &with);
    for (size_t i = 0; i < s->count && ok; i++) { /* what is no object is not concerned */
        shape x = s->list[i];
        x.types &= ~(unsigned)T_OBJECT;
        ok = fe_shapes_add(c, &out, &x);
    }
    fe_shapes_keep(s, T_OBJECT);
    fe_shapes_keep(&with, T_OBJECT);
    ok = ok && fe_shapes_member(c, s, fe_json_key(m), fe_schema_part(&nothing, false)) && fe_shapes_copy(c, s, &out);
    ok = ok && fe_shapes_require(c, &with, fe_json_key(m)) && fe_apply(c, &with, fe_schema_part(m, false)) &&
         fe_shapes_copy(c, &with, &out);
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    free(with.list);
    return ok;
}

/* dependencies, dependentRequired and dependentSchemas at once. */
static bool apply_dependencies(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return fe_schema_invalid(c, schema, v->key, "not an object");
    for (const fe_json *m = v->first; m; m = m->next) {
        if (m->type == FE_JSON_STRING && !add_need(c, s, fe_json_key(m), fe_json_str(m))) return false;
        for (const fe_json *n = m->type == FE_JSON_ARRAY ? m->first : NULL; n; n = n->next) {
            if (n->type != FE_JSON_STRING) return fe_schema_invalid(c, schema, v->key, "not a list of names");
            if (!add_need(c, s, fe_json_key(m), fe_json_str(n))) return false;
        }
        if ((m->type == FE_JSON_OBJECT || m->type == FE_JSON_BOOL) && !apply_dependent(c, s, m)) return false;
    }
    return true;
}

/* One of the members is there and what it depends on is not so. */
static bool not_dependencies(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return fe_schema_invalid(c, schema, v->key, "not an object");
    fe_shapes_keep(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *m = v->first; m && ok; m = m->next) {
        bool names = m->type == FE_JSON_ARRAY || m->type == FE_JSON_STRING;
        for (const fe_json *n = m->type == FE_JSON_ARRAY ? m->first : m; n && ok && names;
             n = m->type == FE_JSON_ARRAY ? n->next : NULL) {
            if (n->type != FE_JSON_STRING) ok = fe_schema_invalid(c, schema, v->key, "not a list of names");
            ok = ok && fe_cases_begin(c, s, &k) && fe_shapes_require(c, &k.one, fe_json_key(m)) &&
                 fe_shapes_member(c, &k.one, fe_json_str(n), fe_schema_part(&nothing, false)) && fe_cases_end(c, &k);
        }
        if (!names)
            ok = fe_cases_begin(c, s, &k) && fe_shapes_require(c, &k.one, fe_json_key(m)) &&
                 fe_apply(c, &k.one, fe_schema_part(m, true)) && fe_cases_end(c, &k);
    }
    return fe_cases_finish(c, s, &k, ok);
}

/* ---- The keywords ------------------------------------------------------------------------------------------------ */

const fe_keyword fe_member_keywords[] = {
    {"items", apply_items, not_items, 0},
    {"prefixItems", apply_prefix, not_prefix, 2020},
    {"uniqueItems", apply_unique, not_unique, 0},
    {"contains", apply_contains, not_contains, 6},
    {"properties", apply_members, not_properties, 0},
    {"patternProperties", apply_members, not_patterns, 0},
    {"additionalProperties", apply_members, not_other_members, 0},
    {"required", apply_required, not_required, 0},
    {"propertyNames", apply_names, not_names, 6},
    {"dependencies", apply_dependencies, not_dependencies, 0},
    {"dependentRequired", apply_dependencies, not_dependencies, 2019},
    {"dependentSchemas", apply_dependencies, not_dependencies, 2019},
    {0},
};

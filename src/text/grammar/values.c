/* Shapes become nodes of the grammar. */
#include "text/grammar/shape.h"

#include <string.h>

enum { CLASSES_MOST = 64, WANTS_MOST = 16, NEEDS_MOST = 400000 };

/* ---- Objects ----------------------------------------------------------------------------------------------------- */

typedef struct names {
    fe_names names;
    fe_property *list; /* one a name */
    size_t count, capacity;
} names;

/* The property of that name, added if it is new. */
static fe_property *property(compiler *c, names *n, ferrum_str name) {
    uint32_t at = fe_names_add(&n->names, name);
    bool ok = at != FE_NO_NAME && fe_grow((void **)&n->list, &n->capacity, at + 1, sizeof *n->list);
    if (!ok) return fe_schema_fail(c, FERRUM_ENOMEM, NULL, NULL, "out of memory"), NULL;
    if (at == n->count) n->list[n->count++] = (fe_property){.name = name};
    return &n->list[at];
}

static void free_names(names *n) {
    fe_names_free(&n->names);
    free(n->list);
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
        n->list[i].value = fe_schema_node_of(c, &p);
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
            out[(*count)++] = (fe_extra){quote(c, list[i].key), fe_schema_node_of(c, &p)};
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

/* Each member that needs others has a set of all: what these take together is bounded, and so is the time to close them. */
static bool check_needs(compiler *c, const names *n) {
    uint64_t sets = 0, words = n->count / 64 + 1;
    for (size_t i = 0; i < n->count; i++) sets += n->list[i].needs_count > 0;
    return sets * words <= NEEDS_MOST ||
           fe_schema_fail(c, FERRUM_ELIMIT, NULL, "dependentRequired", "not held of so many of so many members");
}

/* Where only a member's being there is wanted, not its value. */
static fe_node make_simple_object(compiler *c, const shape *s) {
    names n = {0};
    fe_extra extras[CLASSES_MOST];
    fe_want wants[WANTS_MOST];
    size_t extra_count = 0, want_count = 0;
    uint64_t required = 0;
    fe_node node = FE_NODE_NEVER;
    bool ok = name_all(c, s, &n) && check_needs(c, &n) && make_values(c, s, &n) &&
              make_extras(c, s, &n, extras, &extra_count);
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
    free_names(&n);
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
    free_names(&n);
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
        *out = fe_schema_node_of(c, &p);
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
    if (!items || c->rc) return FE_NODE_NEVER;
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

void fe_schema_define(compiler *c, size_t index) {
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

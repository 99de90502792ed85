/* What each keyword, or its negation, makes of shapes. */
#include "text/grammar/shape.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef bool (*handler)(compiler *c, shapes *s, const fe_json *schema, const fe_json *v);

static bool unsupported(compiler *c, const fe_json *schema, const char *keyword, const char *what) {
    return fe_schema_fail(c, FERRUM_EUNSUPPORTED, schema, keyword, what);
}
static bool invalid(compiler *c, const fe_json *schema, const char *keyword, const char *what) {
    return fe_schema_fail(c, FERRUM_EINVAL, schema, keyword, what);
}

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

static void drop_dead(shapes *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i].types) s->list[n++] = s->list[i];
    s->count = n;
}

/* Adds what the part makes of a copy of the shapes to `to`. */
static bool branch(compiler *c, const shapes *from, part p, shapes *to) {
    shapes copy = {0};
    bool ok = true;
    for (size_t i = 0; i < from->count && ok; i++) ok = fe_shapes_add(c, &copy, &from->list[i]);
    ok = ok && fe_apply(c, &copy, p);
    for (size_t i = 0; i < copy.count && ok; i++) ok = fe_shapes_add(c, to, &copy.list[i]);
    free(copy.list);
    return ok;
}

static void replace(shapes *s, shapes *by) {
    free(s->list);
    *s = *by;
    *by = (shapes){0};
}

static void keep_types(shapes *s, unsigned types) {
    for (size_t i = 0; i < s->count; i++) s->list[i].types &= types;
    drop_dead(s);
}

static part schema_part(const fe_json *v, bool negative) { return (part){v, false, negative}; }

static const fe_json nothing = {.type = FE_JSON_BOOL, .truth = false}, anything = {.type = FE_JSON_BOOL, .truth = true};

static bool is_any(const fe_json *v) {
    return (v->type == FE_JSON_BOOL && v->truth) || (v->type == FE_JSON_OBJECT && !v->count);
}
static bool is_none(const fe_json *v) { return v->type == FE_JSON_BOOL && !v->truth; }

static bool copy_shapes(compiler *c, const shapes *from, shapes *to) {
    for (size_t i = 0; i < from->count; i++)
        if (!fe_shapes_add(c, to, &from->list[i])) return false;
    return true;
}

/* Adds to `to` what becomes of the shapes that are of the type, and those that are not as they are. */
static bool split_by_type(compiler *c, shapes *s, unsigned type, shapes *to) {
    for (size_t i = 0; i < s->count; i++) {
        shape x = s->list[i];
        x.types &= ~type;
        if (!fe_shapes_add(c, to, &x)) return false;
    }
    keep_types(s, type);
    return true;
}

/* ---- What is said of items and members --------------------------------------------------------------------------- */

static void raise_to(uint32_t *x, uint32_t n) { *x = *x < n ? n : *x; }
static void lower_to(uint32_t *x, uint32_t n) { *x = *x > n ? n : *x; }

static bool apply_row(compiler *c, shapes *s, const row *made) {
    for (size_t i = 0; i < s->count; i++) {
        row *r = fe_schema_alloc(c, sizeof *r);
        if (!r) return false;
        *r = *made;
        r->next = s->list[i].rows;
        s->list[i].rows = r;
    }
    return true;
}

static bool apply_contain(compiler *c, shapes *s, const contain *made) {
    for (size_t i = 0; i < s->count; i++) {
        contain *x = fe_schema_alloc(c, sizeof *x);
        if (!x) return false;
        *x = *made;
        x->next = s->list[i].contains;
        s->list[i].contains = x;
    }
    return true;
}

static bool apply_layer(compiler *c, shapes *s, const layer *made) {
    for (size_t i = 0; i < s->count; i++) {
        layer *l = fe_schema_alloc(c, sizeof *l);
        if (!l) return false;
        *l = *made;
        l->next = s->list[i].layers;
        s->list[i].layers = l;
    }
    return true;
}

static bool apply_want(compiler *c, shapes *s, const want *made) {
    for (size_t i = 0; i < s->count; i++) {
        want *w = fe_schema_alloc(c, sizeof *w);
        if (!w) return false;
        *w = *made;
        w->next = s->list[i].wants;
        s->list[i].wants = w;
    }
    return true;
}

static bool require(compiler *c, shapes *s, ferrum_str name) {
    for (size_t i = 0; i < s->count; i++) {
        name_list *n = fe_schema_alloc(c, sizeof *n);
        if (!n) return false;
        *n = (name_list){name, s->list[i].required};
        s->list[i].required = n;
    }
    return true;
}

/* A layer in which the member of that name has to fit the part. */
static bool constrain_member(compiler *c, shapes *s, ferrum_str name, part p) {
    member *m = fe_schema_alloc(c, sizeof *m);
    if (!m) return false;
    *m = (member){.name = name, .schema = p};
    return apply_layer(c, s, &(layer){.members = m});
}

/* Alternatives out of copies of the same shapes: begin_case gives one to work on, end_case puts it to the others. */
typedef struct cases {
    shapes one, all;
} cases;

static bool begin_case(compiler *c, const shapes *s, cases *k) {
    k->one.count = 0;
    return copy_shapes(c, s, &k->one);
}
static bool end_case(compiler *c, cases *k) { return copy_shapes(c, &k->one, &k->all); }
static bool end_cases(compiler *c, shapes *s, cases *k, bool ok) {
    if (ok && !c->rc) replace(s, &k->all);
    free(k->one.list);
    free(k->all.list);
    return ok && !c->rc;
}

/* One of the items, from the first on, is not what it is to be. */
static bool item_differs(compiler *c, const shapes *s, cases *k, const fe_json *first, bool constant) {
    uint32_t i = 0;
    for (const fe_json *e = first; e; e = e->next, i++) {
        if (!begin_case(c, s, k)) return false;
        for (size_t j = 0; j < k->one.count; j++) raise_to(&k->one.list[j].items_least, i + 1);
        row r = {.first = e, .count = 1, .skipped = i, .constant = constant, .negative = true};
        if (!apply_row(c, &k->one, &r) || !end_case(c, k)) return false;
    }
    return true;
}

static bool add_member(compiler *c, layer *l, const fe_json *m, fe_re pattern) {
    member *x = fe_schema_alloc(c, sizeof *x);
    if (!x) return false;
    *x = (member){.name = fe_json_key(m), .pattern = pattern, .schema = schema_part(m, false), .next = l->members};
    l->members = x;
    return true;
}

/* Keys that the layer names nowhere. */
static fe_re other_keys(compiler *c, const layer *l) {
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

/* ---- Types and constants ----------------------------------------------------------------------------------------- */

static unsigned type_bits(const char *name, bool *integer) {
    static const struct {
        const char *name;
        unsigned bits;
    } types[] = {{"null", T_NULL},      {"boolean", T_TRUE | T_FALSE}, {"number", T_NUMBER},
                 {"integer", T_NUMBER}, {"string", T_STRING},          {"array", T_ARRAY},
                 {"object", T_OBJECT}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name)) {
            *integer = !strcmp(name, "integer");
            return types[i].bits;
        }
    return 0;
}

/* The types listed, and whether numbers are to be integers alone. */
static bool read_types(compiler *c, const fe_json *schema, const fe_json *v, unsigned *bits, bool *integer) {
    bool number = false, whole = false, is_integer = false;
    *bits = 0;
    if (v->type != FE_JSON_STRING && v->type != FE_JSON_ARRAY)
        return invalid(c, schema, "type", "not a name or a list of them");
    for (const fe_json *t = v->type == FE_JSON_ARRAY ? v->first : v; t; t = v->type == FE_JSON_ARRAY ? t->next : NULL) {
        unsigned found = t->type == FE_JSON_STRING ? type_bits(t->text, &is_integer) : 0;
        if (!found) return unsupported(c, schema, "type", "no such type");
        *bits |= found;
        if (found == T_NUMBER) *(is_integer ? &whole : &number) = true;
    }
    *integer = whole && !number;
    return true;
}

static fe_re whole_decimals(compiler *c) {
    fe_re digits = fe_re_repeat(c->res, fe_re_range(c->res, '0', '9'), 1, FE_RE_INF);
    return fe_re_cat(c->res, fe_re_optional(c->res, fe_re_text(c->res, "-")), digits);
}

/* Numbers without an exponent. */
static fe_re decimals(compiler *c) {
    if (c->decimals != FE_RE_NEVER) return c->decimals;
    fe_re digits = fe_re_repeat(c->res, fe_re_range(c->res, '0', '9'), 1, FE_RE_INF);
    fe_re fraction = fe_re_optional(c->res, fe_re_cat(c->res, fe_re_text(c->res, "."), digits));
    return c->decimals = fe_re_cat(c->res, whole_decimals(c), fraction);
}

static bool apply_type(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    unsigned bits = 0;
    bool integer = false;
    if (!read_types(c, schema, v, &bits, &integer)) return false;
    for (size_t i = 0; i < s->count; i++)
        if (integer) s->list[i].number = fe_re_and(c->res, s->list[i].number, c->tokens->integer);
    keep_types(s, bits);
    return true;
}

static bool not_type(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    unsigned bits = 0;
    bool integer = false;
    if (!read_types(c, schema, v, &bits, &integer)) return false;
    if (integer) {
        bits &= ~(unsigned)T_NUMBER;
        /* Fractions of zero are integers too. */
        fe_re zeros = fe_re_cat(c->res, fe_re_text(c->res, "."),
                                fe_re_repeat(c->res, fe_re_range(c->res, '0', '0'), 1, FE_RE_INF));
        fe_re r = fe_re_cat(c->res, whole_decimals(c), fe_re_optional(c->res, zeros));
        fe_re others = fe_re_minus(c->res, decimals(c), r);
        for (size_t i = 0; i < s->count; i++) s->list[i].number = fe_re_and(c->res, s->list[i].number, others);
    }
    keep_types(s, T_ALL & ~bits);
    return true;
}

/* The number as it was written, and one that is an integer also without its fraction: one or two words. */
static size_t number_words(compiler *c, const fe_json *v, ferrum_str *words) {
    words[0] = fe_json_str(v);
    if (v->integer || fabs(v->number) >= 1e15 || v->number != (double)(int64_t)v->number) return 1;
    char *digits = fe_schema_alloc(c, 24);
    if (!digits) return 1;
    words[1] = (ferrum_str){digits, (size_t)snprintf(digits, 24, "%lld", (long long)v->number)};
    return 2;
}

static fe_re number_constant(compiler *c, const fe_json *v) {
    ferrum_str words[2];
    return fe_re_words(c->res, words, number_words(c, v, words));
}

/* All numbers of a list. */
static fe_re number_constants(compiler *c, const fe_json *list) {
    ferrum_str *words = fe_schema_alloc(c, (2 * list->count + 1) * sizeof *words);
    size_t n = 0;
    for (const fe_json *e = list->first; e && words; e = e->next)
        if (e->type == FE_JSON_NUMBER) n += number_words(c, e, words + n);
    return words ? fe_re_words(c->res, words, n) : FE_RE_NEVER;
}

/* All spellings of a number, as far as they have no exponent. */
static fe_re number_spellings(compiler *c, const fe_json *v) {
    fe_re least = fe_re_at_least(c->tokens, c->res, v->text, false),
          most = fe_re_at_most(c->tokens, c->res, v->text, false);
    return fe_re_and(c->res, decimals(c), fe_re_and(c->res, least, most));
}

static void apply_object_constant(compiler *c, shape *x, const fe_json *v) {
    layer *l = fe_schema_alloc(c, sizeof *l);
    if (!l) return;
    static const fe_json none = {.type = FE_JSON_BOOL, .truth = false};
    *l = (layer){.other = schema_part(&none, false), .has_other = true, .next = x->layers};
    for (const fe_json *m = v->first; m; m = m->next) {
        member *named = fe_schema_alloc(c, sizeof *named);
        name_list *required = fe_schema_alloc(c, sizeof *required);
        if (!named || !required) return;
        *named = (member){.name = fe_json_key(m), .schema = {m, true, false}, .next = l->members};
        *required = (name_list){fe_json_key(m), x->required};
        l->members = named;
        x->required = required;
    }
    x->layers = l;
}

static void apply_array_constant(compiler *c, shape *x, const fe_json *v) {
    row *r = fe_schema_alloc(c, sizeof *r);
    if (!r) return;
    *r = (row){.first = v->first, .count = v->count, .constant = true, .next = x->rows};
    x->rows = r;
    if (x->items_least < v->count) x->items_least = (uint32_t)v->count;
    if (x->items_most > v->count) x->items_most = (uint32_t)v->count;
}

static unsigned type_of(const fe_json *v) {
    switch (v->type) {
    case FE_JSON_NULL: return T_NULL;
    case FE_JSON_BOOL: return v->truth ? T_TRUE : T_FALSE;
    case FE_JSON_NUMBER: return T_NUMBER;
    case FE_JSON_STRING: return T_STRING;
    case FE_JSON_ARRAY: return T_ARRAY;
    case FE_JSON_OBJECT: return T_OBJECT;
    }
    return 0;
}

static bool apply_constant(compiler *c, shapes *s, const fe_json *v) {
    for (size_t i = 0; i < s->count; i++) {
        shape *x = &s->list[i];
        x->types &= type_of(v);
        if (!x->types) continue;
        if (v->type == FE_JSON_NUMBER) x->number = fe_re_and(c->res, x->number, number_constant(c, v));
        if (v->type == FE_JSON_STRING)
            x->string = fe_re_and(c->res, x->string, fe_re_spell(c->res, FE_JSON, v->text, v->len));
        if (v->type == FE_JSON_ARRAY) apply_array_constant(c, x, v);
        if (v->type == FE_JSON_OBJECT) apply_object_constant(c, x, v);
    }
    drop_dead(s);
    return !c->rc;
}

/* An array of another length, or with another item somewhere; or no array. */
static bool not_array_constant(compiler *c, shapes *s, const fe_json *v) {
    cases k = {0};
    bool ok = split_by_type(c, s, T_ARRAY, &k.all) && item_differs(c, s, &k, v->first, true) && begin_case(c, s, &k);
    for (size_t i = 0; i < k.one.count && ok; i++) raise_to(&k.one.list[i].items_least, (uint32_t)v->count + 1);
    ok = ok && end_case(c, &k);
    if (v->count) ok = ok && begin_case(c, s, &k);
    for (size_t i = 0; i < k.one.count && ok && v->count; i++)
        lower_to(&k.one.list[i].items_most, (uint32_t)v->count - 1);
    if (v->count) ok = ok && end_case(c, &k);
    return end_cases(c, s, &k, ok);
}

/* An object that lacks a member, has another value for it, or one more; or no object. */
static bool not_object_constant(compiler *c, shapes *s, const fe_json *v) {
    cases k = {0};
    layer named = {0};
    bool ok = split_by_type(c, s, T_OBJECT, &k.all);
    for (const fe_json *m = v->first; m && ok; m = m->next) {
        ok = begin_case(c, s, &k) && constrain_member(c, &k.one, fe_json_key(m), schema_part(&nothing, false)) &&
             end_case(c, &k) && begin_case(c, s, &k) && require(c, &k.one, fe_json_key(m)) &&
             constrain_member(c, &k.one, fe_json_key(m), (part){m, true, true}) && end_case(c, &k) &&
             add_member(c, &named, m, FE_RE_NEVER);
    }
    ok = ok && begin_case(c, s, &k) && apply_want(c, &k.one, &(want){.keys = other_keys(c, &named)}) && end_case(c, &k);
    return end_cases(c, s, &k, ok);
}

static bool not_constant(compiler *c, shapes *s, const fe_json *v) {
    if (v->type == FE_JSON_ARRAY) return not_array_constant(c, s, v);
    if (v->type == FE_JSON_OBJECT) return not_object_constant(c, s, v);
    if (v->type == FE_JSON_NULL || v->type == FE_JSON_BOOL) return keep_types(s, T_ALL & ~type_of(v)), true;
    for (size_t i = 0; i < s->count; i++) {
        shape *x = &s->list[i];
        if (v->type == FE_JSON_NUMBER) {
            /* Without an exponent other spellings are told. */
            x->number = fe_re_minus(c->res, fe_re_and(c->res, x->number, decimals(c)), number_spellings(c, v));
        } else
            x->string = fe_re_minus(c->res, x->string, fe_re_spell(c->res, FE_JSON, v->text, v->len));
    }
    return true;
}

static fe_re string_constants(compiler *c, const fe_json *v, size_t strings) {
    ferrum_str *words = malloc((strings + 1) * sizeof *words);
    fe_re r = FE_RE_NEVER;
    size_t n = 0;
    for (const fe_json *e = v->first; e && words; e = e->next) {
        if (e->type != FE_JSON_STRING) continue;
        bool plain = true;
        for (size_t i = 0; i < e->len; i++) {
            unsigned char b = (unsigned char)e->text[i];
            plain &= b >= 0x20 && b < 0x7F && b != '"' && b != '\\';
        }
        if (plain)
            words[n++] = fe_json_str(e);
        else
            r = fe_re_or(c->res, r, fe_re_spell(c->res, FE_JSON, e->text, e->len));
    }
    r = words ? fe_re_or(c->res, r, fe_re_words(c->res, words, n)) : FE_RE_NEVER;
    free(words);
    return r;
}

/* Scalars go together; each array and object is an alternative of its own. */
static bool apply_enum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY) return invalid(c, schema, "enum", "not a list");
    shapes out = {0};
    unsigned types = 0;
    size_t strings = 0;
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next) {
        if (e->type == FE_JSON_ARRAY || e->type == FE_JSON_OBJECT) {
            ok = branch(c, s, (part){e, true, false}, &out);
            continue;
        }
        types |= type_of(e);
        strings += e->type == FE_JSON_STRING;
    }
    fe_re numbers = types & T_NUMBER ? number_constants(c, v) : FE_RE_NEVER;
    fe_re words = strings ? string_constants(c, v, strings) : FE_RE_NEVER;
    for (size_t i = 0; i < s->count && ok; i++) {
        shape x = s->list[i];
        x.types &= types;
        if (x.types & T_NUMBER) x.number = fe_re_and(c->res, x.number, numbers);
        if (x.types & T_STRING) x.string = fe_re_and(c->res, x.string, words);
        ok = fe_shapes_add(c, &out, &x);
    }
    if (ok) replace(s, &out);
    free(out.list);
    return ok;
}

static bool not_enum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY) return invalid(c, schema, "enum", "not a list");
    size_t strings = 0;
    for (const fe_json *e = v->first; e; e = e->next) {
        strings += e->type == FE_JSON_STRING;
        if (e->type != FE_JSON_STRING && !not_constant(c, s, e)) return false;
    }
    fe_re words = strings ? string_constants(c, v, strings) : FE_RE_NEVER;
    for (size_t i = 0; i < s->count; i++) s->list[i].string = fe_re_minus(c->res, s->list[i].string, words);
    return true;
}

static bool apply_const(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return apply_constant(c, s, v);
}
static bool not_const(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return not_constant(c, s, v);
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

/* An older schema's exclusiveMinimum is a bool beside minimum. */
static bool narrow_numbers(compiler *c, shapes *s, const fe_json *schema, const char *keyword, const fe_json *v,
                           bool least, bool strict) {
    if (v->type != FE_JSON_NUMBER) return invalid(c, schema, keyword, "not a number");
    fe_re r =
        least ? fe_re_at_least(c->tokens, c->res, v->text, strict) : fe_re_at_most(c->tokens, c->res, v->text, strict);
    if (r == FE_RE_NEVER) return unsupported(c, schema, keyword, "a bound of more than 700 digits");
    for (size_t i = 0; i < s->count; i++) s->list[i].number = fe_re_and(c->res, s->list[i].number, r);
    return true;
}

static bool is_true(const fe_json *schema, const char *key) {
    const fe_json *v = fe_json_get(schema, key);
    return v && v->type == FE_JSON_BOOL && v->truth;
}

static bool apply_minimum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return narrow_numbers(c, s, schema, "minimum", v, true, is_true(schema, "exclusiveMinimum"));
}
static bool apply_maximum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return narrow_numbers(c, s, schema, "maximum", v, false, is_true(schema, "exclusiveMaximum"));
}
static bool apply_exclusive_minimum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return v->type == FE_JSON_BOOL || narrow_numbers(c, s, schema, "exclusiveMinimum", v, true, true);
}
static bool apply_exclusive_maximum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return v->type == FE_JSON_BOOL || narrow_numbers(c, s, schema, "exclusiveMaximum", v, false, true);
}
static bool not_minimum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    keep_types(s, T_NUMBER);
    return narrow_numbers(c, s, schema, "minimum", v, false, !is_true(schema, "exclusiveMinimum"));
}
static bool not_maximum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    keep_types(s, T_NUMBER);
    return narrow_numbers(c, s, schema, "maximum", v, true, !is_true(schema, "exclusiveMaximum"));
}
static bool not_exclusive_minimum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    keep_types(s, v->type == FE_JSON_BOOL ? 0 : T_NUMBER);
    return v->type == FE_JSON_BOOL || narrow_numbers(c, s, schema, "exclusiveMinimum", v, false, false);
}
static bool not_exclusive_maximum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    keep_types(s, v->type == FE_JSON_BOOL ? 0 : T_NUMBER);
    return v->type == FE_JSON_BOOL || narrow_numbers(c, s, schema, "exclusiveMaximum", v, true, false);
}

static bool multiple(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    fe_re r;
    if (v->type != FE_JSON_NUMBER || !fe_re_multiple_of(c->res, v->text, !negative, &r))
        return unsupported(c, schema, "multipleOf", "not a positive number of at most 16 digits");
    if (negative) r = fe_re_minus(c->res, decimals(c), r);
    for (size_t i = 0; i < s->count; i++) s->list[i].number = fe_re_and(c->res, s->list[i].number, r);
    return true;
}
static bool apply_multiple(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return multiple(c, s, schema, v, false);
}
static bool not_multiple(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    keep_types(s, T_NUMBER);
    return multiple(c, s, schema, v, true);
}

/* ---- Strings ----------------------------------------------------------------------------------------------------- */

/* A length or a number of things: whole and not negative, also where it is written with a fraction. What is beyond 32 bits is
 * without end. */
static bool read_count(compiler *c, const fe_json *schema, const char *keyword, const fe_json *v, uint32_t *out) {
    if (v->type != FE_JSON_NUMBER || v->number < 0 || v->number != floor(v->number))
        return invalid(c, schema, keyword, "not a whole number of 0 or more");
    *out = v->number >= 4e9 ? FE_RE_INF - 1 : (uint32_t)v->number;
    return true;
}

/* The keywords of counts: which bound, of what, and for which type. */
typedef enum counted { LENGTH_LEAST, LENGTH_MOST, ITEMS_LEAST, ITEMS_MOST, MEMBERS_LEAST, MEMBERS_MOST } counted;
static const struct {
    const char *keyword;
    unsigned type;
} counts[] = {{"minLength", T_STRING}, {"maxLength", T_STRING},     {"minItems", T_ARRAY},
              {"maxItems", T_ARRAY},   {"minProperties", T_OBJECT}, {"maxProperties", T_OBJECT}};

static bool count(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, counted what, bool negative) {
    uint32_t n = 0;
    if (!read_count(c, schema, counts[what].keyword, v, &n)) return false;
    bool least = what % 2 == 0;
    if (negative) {
        keep_types(s, least && n == 0 ? 0 : counts[what].type);
        n = least ? n - 1 : n + 1;
        what = (counted)(least ? what + 1 : what - 1);
    }
    for (size_t i = 0; i < s->count; i++) {
        shape *x = &s->list[i];
        switch (what) {
        case LENGTH_LEAST: raise_to(&x->length_least, n); break;
        case LENGTH_MOST: lower_to(&x->length_most, n); break;
        case ITEMS_LEAST: raise_to(&x->items_least, n); break;
        case ITEMS_MOST: lower_to(&x->items_most, n); break;
        case MEMBERS_LEAST: raise_to(&x->members_least, n); break;
        case MEMBERS_MOST: lower_to(&x->members_most, n); break;
        }
    }
    return true;
}

#define COUNT(name, what)                                                                       \
    static bool apply_##name(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) { \
        return count(c, s, schema, v, what, false);                                             \
    }                                                                                           \
    static bool not_##name(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {   \
        return count(c, s, schema, v, what, true);                                              \
    }
COUNT(min_length, LENGTH_LEAST)
COUNT(max_length, LENGTH_MOST)
COUNT(min_items, ITEMS_LEAST)
COUNT(max_items, ITEMS_MOST)
COUNT(min_properties, MEMBERS_LEAST)
COUNT(max_properties, MEMBERS_MOST)

static void narrow_strings(compiler *c, shapes *s, fe_re r) {
    for (size_t i = 0; i < s->count; i++) s->list[i].string = fe_re_and(c->res, s->list[i].string, r);
}

/* The same for a pattern's texts. They are texts of JSON strings: where any may come so far it is these, and that some belong to both
 * need not be searched for. */
static void narrow_to_pattern(compiler *c, shapes *s, fe_re r) {
    fe_re any = fe_re_star(c->res, c->tokens->json_char);
    for (size_t i = 0; i < s->count; i++)
        s->list[i].string = s->list[i].string == any ? r : fe_re_and(c->res, s->list[i].string, r);
}

static bool apply_pattern(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_re r;
    if (v->type != FE_JSON_STRING) return invalid(c, schema, "pattern", "not a string");
    if (!fe_schema_pattern(c, schema, "pattern", v->text, v->len, &r)) return false;
    narrow_to_pattern(c, s, r);
    return true;
}
static bool not_pattern(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_re r;
    if (v->type != FE_JSON_STRING) return invalid(c, schema, "pattern", "not a string");
    if (!fe_schema_pattern(c, schema, "pattern", v->text, v->len, &r)) return false;
    keep_types(s, T_STRING);
    narrow_strings(c, s, fe_re_not(c->res, r));
    return true;
}

/* Formats that are known and cannot be held are refused; a name that is not known says nothing. */
static bool format(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    static const char *const refused[] = {"regex", "idn-email", "idn-hostname", "iri", "iri-reference"};
    if (v->type != FE_JSON_STRING) return invalid(c, schema, "format", "not a string");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strcmp(refused[i], v->text)) return unsupported(c, schema, "format", "this format is not held");
    const char *known = fe_format_pattern(v->text);
    if (!known) {
        fe_schema_note(c, "format ", v->text, " is not known and says nothing");
        if (negative) keep_types(s, 0);
        return true;
    }
    fe_text anchored = {0};
    fe_text_puts(&anchored, "^(?:");
    fe_text_puts(&anchored, known);
    fe_text_puts(&anchored, ")$");
    fe_re r = FE_RE_NEVER;
    bool ok = !anchored.failed && fe_schema_pattern(c, schema, "format", anchored.data, anchored.len, &r);
    fe_text_free(&anchored);
    if (negative) keep_types(s, T_STRING);
    if (ok && negative)
        narrow_strings(c, s, fe_re_not(c->res, r));
    else if (ok)
        narrow_to_pattern(c, s, r);
    return ok;
}
static bool apply_format(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return format(c, s, schema, v, false);
}
static bool not_format(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return format(c, s, schema, v, true);
}

/* ---- Arrays ------------------------------------------------------------------------------------------------------ */

static bool apply_items(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    const fe_json *prefix = c->draft >= 2020 ? fe_json_get(schema, "prefixItems") : NULL;
    row r = {.evaluates = !c->unseen};
    if (v->type == FE_JSON_ARRAY) { /* as it was before 2020-12 */
        const fe_json *more = fe_json_get(schema, "additionalItems");
        r.first = v->first, r.count = v->count;
        r.rest = schema_part(more, false), r.has_rest = more != NULL;
        return apply_row(c, s, &r);
    }
    r.rest = schema_part(v, false), r.has_rest = true;
    if (prefix && prefix->type == FE_JSON_ARRAY) r.first = prefix->first, r.count = prefix->count;
    return apply_row(c, s, &r);
}

static bool apply_prefix(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY) return invalid(c, schema, "prefixItems", "not a list");
    const fe_json *items = fe_json_get(schema, "items");
    if (items && items->type != FE_JSON_ARRAY) return true; /* told there */
    return apply_row(c, s, &(row){.first = v->first, .count = v->count, .evaluates = !c->unseen});
}

static bool apply_unique(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_BOOL) return invalid(c, schema, "uniqueItems", "not true or false");
    for (size_t i = 0; i < s->count; i++) s->list[i].unique |= v->truth;
    return true;
}

/* minContains and maxContains, which older drafts do not have. */
static bool read_contains(compiler *c, const fe_json *schema, uint32_t *least, uint32_t *most) {
    const fe_json *min = c->draft >= 2019 ? fe_json_get(schema, "minContains") : NULL;
    const fe_json *max = c->draft >= 2019 ? fe_json_get(schema, "maxContains") : NULL;
    *least = 1, *most = FE_RE_INF;
    return (!min || read_count(c, schema, "minContains", min, least)) &&
           (!max || read_count(c, schema, "maxContains", max, most));
}

static bool apply_contains(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    contain x = {.schema = schema_part(v, false)};
    if (!read_contains(c, schema, &x.least, &x.most)) return false;
    if (c->evaluating_items && !c->unseen)
        return unsupported(c, schema, "contains", "not held beside unevaluatedItems");
    return (!x.least && x.most == FE_RE_INF) || apply_contain(c, s, &x);
}

/* Too few that match, or too many. */
static bool not_contains(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    uint32_t least, most;
    if (!read_contains(c, schema, &least, &most)) return false;
    keep_types(s, T_ARRAY);
    cases k = {0};
    bool ok = true;
    if (least == 1)
        ok = begin_case(c, s, &k) && apply_row(c, &k.one, &(row){.rest = schema_part(v, true), .has_rest = true}) &&
             end_case(c, &k);
    else if (least)
        ok = begin_case(c, s, &k) &&
             apply_contain(c, &k.one, &(contain){.schema = schema_part(v, false), .most = least - 1}) &&
             end_case(c, &k);
    if (most != FE_RE_INF)
        ok = ok && begin_case(c, s, &k) &&
             apply_contain(c, &k.one,
                           &(contain){.schema = schema_part(v, false), .least = most + 1, .most = FE_RE_INF}) &&
             end_case(c, &k);
    return end_cases(c, s, &k, ok);
}

/* An array of which not all items are so has one that is not. */
static bool not_items(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    const fe_json *prefix = c->draft >= 2020 ? fe_json_get(schema, "prefixItems") : NULL, *rest = v;
    contain differs = {.least = 1, .most = FE_RE_INF};
    cases k = {0};
    bool ok = true;
    keep_types(s, T_ARRAY);
    if (prefix && prefix->type == FE_JSON_ARRAY) differs.skipped = prefix->count;
    if (v->type == FE_JSON_ARRAY) {
        differs.skipped = v->count;
        rest = fe_json_get(schema, "additionalItems");
        ok = item_differs(c, s, &k, v->first, false);
    }
    if (rest) {
        differs.schema = schema_part(rest, true);
        ok = ok && begin_case(c, s, &k) && apply_contain(c, &k.one, &differs) && end_case(c, &k);
    }
    return end_cases(c, s, &k, ok);
}

static bool not_prefix(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    cases k = {0};
    if (v->type != FE_JSON_ARRAY) return invalid(c, schema, "prefixItems", "not a list");
    keep_types(s, T_ARRAY);
    return end_cases(c, s, &k, item_differs(c, s, &k, v->first, false));
}

static bool not_unique(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type == FE_JSON_BOOL && !v->truth) return keep_types(s, 0), true;
    return unsupported(c, schema, "uniqueItems", "its negation is not held");
}

/* ---- Objects ----------------------------------------------------------------------------------------------------- */

static bool read_layer(compiler *c, const fe_json *schema, layer *l) {
    const fe_json *properties = fe_json_get(schema, "properties"), *patterns = fe_json_get(schema, "patternProperties");
    const fe_json *other = fe_json_get(schema, "additionalProperties");
    if (properties && properties->type != FE_JSON_OBJECT) return invalid(c, schema, "properties", "not an object");
    if (patterns && patterns->type != FE_JSON_OBJECT) return invalid(c, schema, "patternProperties", "not an object");
    for (const fe_json *m = properties ? properties->first : NULL; m; m = m->next)
        if (!add_member(c, l, m, FE_RE_NEVER)) return false;
    for (const fe_json *m = patterns ? patterns->first : NULL; m; m = m->next) {
        fe_re r;
        if (!fe_schema_pattern(c, schema, "patternProperties", m->key, m->key_len, &r)) return false;
        if (r != FE_RE_NEVER && !add_member(c, l, m, r)) return false;
    }
    if (other) l->other = schema_part(other, false), l->has_other = true;
    return true;
}

/* The three keywords make one layer: the first of them in the schema does it. */
static bool apply_members(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    for (const fe_json *m = schema->first; m != v; m = m->next)
        if (!strcmp(m->key, "properties") || !strcmp(m->key, "patternProperties") ||
            !strcmp(m->key, "additionalProperties"))
            return true;
    layer l = {.evaluates = !c->unseen};
    return read_layer(c, schema, &l) && apply_layer(c, s, &l);
}

/* What older schemas have there is a bool that says it of the property itself: no keyword of JSON Schema any more. */
static bool apply_required(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type == FE_JSON_BOOL) return true;
    if (v->type != FE_JSON_ARRAY) return invalid(c, schema, "required", "not a list");
    for (const fe_json *n = v->first; n; n = n->next) {
        if (n->type != FE_JSON_STRING) return invalid(c, schema, "required", "not a list of names");
        if (!require(c, s, fe_json_str(n))) return false;
    }
    return true;
}

static bool not_required(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY)
        return v->type == FE_JSON_BOOL ? keep_types(s, 0), true : invalid(c, schema, "required", "not a list");
    keep_types(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *n = v->first; n && ok; n = n->next) {
        if (n->type != FE_JSON_STRING) ok = invalid(c, schema, "required", "not a list of names");
        ok = ok && begin_case(c, s, &k) && constrain_member(c, &k.one, fe_json_str(n), schema_part(&nothing, false)) &&
             end_case(c, &k);
    }
    return end_cases(c, s, &k, ok);
}

/* An object of which not all properties are so has one that is there and is not. */
static bool not_properties(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return invalid(c, schema, "properties", "not an object");
    keep_types(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *m = v->first; m && ok; m = m->next)
        ok = begin_case(c, s, &k) && require(c, &k.one, fe_json_key(m)) &&
             constrain_member(c, &k.one, fe_json_key(m), schema_part(m, true)) && end_case(c, &k);
    return end_cases(c, s, &k, ok);
}

static bool not_patterns(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return invalid(c, schema, "patternProperties", "not an object");
    keep_types(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *m = v->first; m && ok; m = m->next) {
        want w = {.value = schema_part(m, true), .has_value = !is_none(m)};
        ok = fe_schema_pattern(c, schema, "patternProperties", m->key, m->key_len, &w.keys) && begin_case(c, s, &k);
        ok = ok && (is_any(m) || (apply_want(c, &k.one, &w) && end_case(c, &k)));
    }
    return end_cases(c, s, &k, ok);
}

static bool not_other_members(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    layer l = {0};
    keep_types(s, is_any(v) ? 0 : T_OBJECT);
    if (!s->count) return true;
    want w = {.value = schema_part(v, true), .has_value = !is_none(v)};
    if (!read_layer(c, schema, &l)) return false;
    w.keys = other_keys(c, &l);
    return !c->rc && apply_want(c, s, &w);
}

/* The keys that a schema of strings takes. */
static bool read_names(compiler *c, const fe_json *v, fe_re *out) {
    shapes names = {0};
    shape any = fe_shape_any(c);
    unsigned evaluating = c->evaluating, items = c->evaluating_items;
    any.types = T_STRING;
    *out = FE_RE_NEVER;
    c->evaluating = c->evaluating_items = 0;
    bool ok = fe_shapes_add(c, &names, &any) && fe_apply(c, &names, schema_part(v, false));
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
    keep_types(s, T_OBJECT);
    return read_names(c, v, &r) && apply_want(c, s, &(want){.keys = fe_re_minus(c->res, c->content, r)});
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
    bool ok = copy_shapes(c, s, &with);
    for (size_t i = 0; i < s->count && ok; i++) { /* what is no object is not concerned */
        shape x = s->list[i];
        x.types &= ~(unsigned)T_OBJECT;
        ok = fe_shapes_add(c, &out, &x);
    }
    keep_types(s, T_OBJECT);
    keep_types(&with, T_OBJECT);
    ok = ok && constrain_member(c, s, fe_json_key(m), schema_part(&nothing, false)) && copy_shapes(c, s, &out);
    ok = ok && require(c, &with, fe_json_key(m)) && fe_apply(c, &with, schema_part(m, false)) &&
         copy_shapes(c, &with, &out);
    if (ok) replace(s, &out);
    free(out.list);
    free(with.list);
    return ok;
}

/* dependencies, dependentRequired and dependentSchemas at once. */
static bool apply_dependencies(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return invalid(c, schema, v->key, "not an object");
    for (const fe_json *m = v->first; m; m = m->next) {
        if (m->type == FE_JSON_STRING && !add_need(c, s, fe_json_key(m), fe_json_str(m))) return false;
        for (const fe_json *n = m->type == FE_JSON_ARRAY ? m->first : NULL; n; n = n->next) {
            if (n->type != FE_JSON_STRING) return invalid(c, schema, v->key, "not a list of names");
            if (!add_need(c, s, fe_json_key(m), fe_json_str(n))) return false;
        }
        if ((m->type == FE_JSON_OBJECT || m->type == FE_JSON_BOOL) && !apply_dependent(c, s, m)) return false;
    }
    return true;
}

/* One of the members is there and what it depends on is not so. */
static bool not_dependencies(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_OBJECT) return invalid(c, schema, v->key, "not an object");
    keep_types(s, T_OBJECT);
    cases k = {0};
    bool ok = true;
    for (const fe_json *m = v->first; m && ok; m = m->next) {
        bool names = m->type == FE_JSON_ARRAY || m->type == FE_JSON_STRING;
        for (const fe_json *n = m->type == FE_JSON_ARRAY ? m->first : m; n && ok && names;
             n = m->type == FE_JSON_ARRAY ? n->next : NULL) {
            if (n->type != FE_JSON_STRING) ok = invalid(c, schema, v->key, "not a list of names");
            ok = ok && begin_case(c, s, &k) && require(c, &k.one, fe_json_key(m)) &&
                 constrain_member(c, &k.one, fe_json_str(n), schema_part(&nothing, false)) && end_case(c, &k);
        }
        if (!names)
            ok = begin_case(c, s, &k) && require(c, &k.one, fe_json_key(m)) &&
                 fe_apply(c, &k.one, schema_part(m, true)) && end_case(c, &k);
    }
    return end_cases(c, s, &k, ok);
}

/* ---- Combinations ------------------------------------------------------------------------------------------------ */

static bool is_list(compiler *c, const fe_json *schema, const fe_json *v) {
    return (v->type == FE_JSON_ARRAY && v->count) || invalid(c, schema, v->key, "not a list of schemas");
}

static bool apply_each(compiler *c, shapes *s, const fe_json *v, bool negative) {
    for (const fe_json *e = v->first; e; e = e->next)
        if (!fe_apply(c, s, schema_part(e, negative))) return false;
    return true;
}

static bool apply_one_of_these(compiler *c, shapes *s, const fe_json *v, bool negative) {
    shapes out = {0};
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next) ok = branch(c, s, schema_part(e, negative), &out);
    if (ok) replace(s, &out);
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
        ok = copy_shapes(c, &out, &more) && branch(c, s, schema_part(e, false), &more);
        ok = ok && branch(c, &out, schema_part(e, false), &more);
        if (ok) replace(&out, &more);
        free(more.list);
    }
    if (ok) replace(s, &out);
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
        ok = fe_shapes_add(c, &both, &s->list[i]) && fe_apply(c, &both, schema_part(other, false));
        bool apart = ok && !fe_shapes_prune(c, &both);
        both.count = 0;
        if (!apart && !c->rc && fe_shapes_add(c, &both, &s->list[i])) ok = fe_apply(c, &both, schema_part(other, true));
        c->quiet = quiet;
        if (c->rc == FERRUM_EUNSUPPORTED) {
            c->rc = 0;
            ok = unsupported(c, schema, "oneOf",
                             "that no value fits two of its branches can neither be proved nor held");
        }
        if (ok && apart) ok = fe_shapes_add(c, &out, &s->list[i]);
        for (size_t k = 0; ok && !apart && k < both.count; k++) ok = fe_shapes_add(c, &out, &both.list[k]);
        free(both.list);
    }
    if (ok) replace(s, &out);
    free(out.list);
    return ok;
}

static bool apply_one_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (!is_list(c, schema, v)) return false;
    shapes out = {0};
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next) {
        shapes one = {0};
        ok = branch(c, s, schema_part(e, false), &one);
        ok = ok && (fe_shapes_prune(c, &one) || !c->rc);
        for (const fe_json *other = v->first; other && ok && one.count; other = other->next)
            if (other != e) ok = exclude(c, &one, schema, other);
        ok = ok && copy_shapes(c, &one, &out);
        free(one.list);
    }
    if (ok) replace(s, &out);
    free(out.list);
    return ok;
}

/* None of them, or two at least. */
static bool not_one_of(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (!is_list(c, schema, v)) return false;
    shapes out = {0};
    bool ok = copy_shapes(c, s, &out) && apply_each(c, &out, v, true);
    for (const fe_json *a = v->first; a && ok; a = a->next)
        for (const fe_json *b = a->next; b && ok; b = b->next) {
            shapes both = {0};
            ok = branch(c, s, schema_part(a, false), &both) && fe_apply(c, &both, schema_part(b, false)) &&
                 copy_shapes(c, &both, &out);
            free(both.list);
        }
    if (ok) replace(s, &out);
    free(out.list);
    return ok;
}

static bool apply_not(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return fe_apply(c, s, schema_part(v, true));
}
static bool not_not(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return fe_apply(c, s, schema_part(v, false));
}

/* if and then, or not if and else. */
static bool conditional(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    const fe_json *then = fe_json_get(schema, "then"), *otherwise = fe_json_get(schema, "else");
    if (!then && !otherwise && (negative || !c->evaluating)) return negative ? keep_types(s, 0), true : true;
    shapes yes = {0}, no = {0};
    bool ok = branch(c, s, schema_part(v, false), &yes) && branch(c, s, schema_part(v, true), &no);
    if (then)
        ok = ok && fe_apply(c, &yes, schema_part(then, negative));
    else if (negative)
        yes.count = 0;
    if (otherwise)
        ok = ok && fe_apply(c, &no, schema_part(otherwise, negative));
    else if (negative)
        no.count = 0;
    ok = ok && copy_shapes(c, &no, &yes);
    if (ok) replace(s, &yes);
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
    return target && fe_apply(c, s, schema_part(target, negative));
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
        layer made = {.other = schema_part(v, false), .has_other = true, .evaluates = !c->unseen};
        bool all = false;
        for (const layer *l = s->list[i].layers; l && l->opening != schema; l = l->next) {
            all |= l->evaluates && l->has_other;
            for (const member *m = l->evaluates ? l->members : NULL; m; m = m->next) {
                member *named = fe_schema_alloc(c, sizeof *named);
                if (!named) return false;
                *named = (member){m->name, m->pattern, schema_part(&anything, false), made.members};
                made.members = named;
            }
        }
        shapes one = {.list = &s->list[i], .count = 1};
        if (!all && !apply_layer(c, &one, &made)) return false;
    }
    return true;
}

static bool apply_unevaluated_items(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    for (size_t i = 0; i < s->count; i++) {
        row made = {.rest = schema_part(v, false), .has_rest = true, .evaluates = !c->unseen};
        bool all = false;
        for (const row *r = s->list[i].rows; r && r->opening != schema; r = r->next) {
            all |= r->evaluates && r->has_rest;
            if (r->evaluates) made.skipped = fe_max(made.skipped, r->skipped + r->count);
        }
        shapes one = {.list = &s->list[i], .count = 1};
        if (!all && !apply_row(c, &one, &made)) return false;
    }
    return true;
}

static bool refuse(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)s;
    return unsupported(c, schema, v->key, "not held");
}
static bool told_elsewhere(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)c, (void)s, (void)schema, (void)v;
    return true;
}

/* ---- Keywords ---------------------------------------------------------------------------------------------------- */

typedef struct keyword {
    const char *name;
    handler apply, negate; /* negate NULL: it says nothing by itself */
    int since;             /* the draft from which on it is one; 0: the first that is known here */
} keyword;

static const keyword keywords[] = {
    {"type", apply_type, not_type, 0},
    {"enum", apply_enum, not_enum, 0},
    {"const", apply_const, not_const, 6},
    {"$ref", apply_ref, not_ref, 0},
    {"minimum", apply_minimum, not_minimum, 0},
    {"maximum", apply_maximum, not_maximum, 0},
    {"exclusiveMinimum", apply_exclusive_minimum, not_exclusive_minimum, 0},
    {"exclusiveMaximum", apply_exclusive_maximum, not_exclusive_maximum, 0},
    {"multipleOf", apply_multiple, not_multiple, 0},
    {"minLength", apply_min_length, not_min_length, 0},
    {"maxLength", apply_max_length, not_max_length, 0},
    {"pattern", apply_pattern, not_pattern, 0},
    {"format", apply_format, not_format, 0},
    {"items", apply_items, not_items, 0},
    {"prefixItems", apply_prefix, not_prefix, 2020},
    {"additionalItems", told_elsewhere, NULL, 0},
    {"minItems", apply_min_items, not_min_items, 0},
    {"maxItems", apply_max_items, not_max_items, 0},
    {"uniqueItems", apply_unique, not_unique, 0},
    {"contains", apply_contains, not_contains, 6},
    {"minContains", told_elsewhere, NULL, 2019},
    {"maxContains", told_elsewhere, NULL, 2019},
    {"properties", apply_members, not_properties, 0},
    {"patternProperties", apply_members, not_patterns, 0},
    {"additionalProperties", apply_members, not_other_members, 0},
    {"required", apply_required, not_required, 0},
    {"minProperties", apply_min_properties, not_min_properties, 0},
    {"maxProperties", apply_max_properties, not_max_properties, 0},
    {"propertyNames", apply_names, not_names, 6},
    {"dependencies", apply_dependencies, not_dependencies, 0},
    {"dependentRequired", apply_dependencies, not_dependencies, 2019},
    {"dependentSchemas", apply_dependencies, not_dependencies, 2019},
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
};

/* Those that say nothing of values, or are read where references are followed. */
static const char *const annotations[] = {
    "$schema",    "$id",      "id",        "$anchor",  "$dynamicAnchor", "$recursiveAnchor", "$vocabulary",
    "$comment",   "$defs",    "title",     "default",  "description",    "definitions",      "examples",
    "deprecated", "readOnly", "writeOnly", "$comment", "contentSchema",  "contentMediaType", "contentEncoding"};

/* A schema that names its draft has that draft's keywords alone; what is newer says nothing in it. */
static const keyword *find_keyword(compiler *c, const char *name) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (strcmp(keywords[i].name, name) != 0) continue;
        if (keywords[i].since <= c->draft) return &keywords[i];
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
    return (!members || apply_layer(c, s, &(layer){.opening = schema})) &&
           (!items || apply_row(c, s, &(row){.opening = schema}));
}

static bool apply_schema(compiler *c, shapes *s, const fe_json *schema) {
    const fe_json *ref = fe_json_get(schema, "$ref");
    if (ref && c->draft < 2019) return apply_ref(c, s, schema, ref);
    bool members = c->draft >= 2019 && fe_json_get(schema, "unevaluatedProperties");
    bool items = c->draft >= 2019 && fe_json_get(schema, "unevaluatedItems");
    bool ok = open_evaluation(c, s, schema, members, items);
    for (int turn = 0; turn < 3; turn++)
        for (const fe_json *m = schema->first; m && ok; m = m->next) {
            const keyword *k = find_keyword(c, m->key);
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
        const keyword *k = find_keyword(c, m->key);
        if (!k || !k->negate) continue;
        shapes one = {0};
        ok = copy_shapes(c, s, &one) && k->negate(c, &one, schema, m) && copy_shapes(c, &one, &out);
        free(one.list);
    }
    if (ok) replace(s, &out);
    free(out.list);
    return ok;
}

bool fe_apply(compiler *c, shapes *s, part p) {
    const fe_json *v = p.value;
    if (c->rc || !fe_schema_step(c)) return false;
    if (!s->count) return true;
    if (p.constant) return p.negative ? not_constant(c, s, v) : apply_constant(c, s, v);
    if (v->type == FE_JSON_BOOL) {
        if (v->truth == p.negative) s->count = 0;
        return true;
    }
    if (v->type != FE_JSON_OBJECT) return invalid(c, v, NULL, "a schema is an object, true or false");
    if (++c->depth > FE_APPLY_DEPTH)
        return fe_schema_fail(c, FERRUM_EUNSUPPORTED, v, NULL,
                              "references lead round in a circle, or more than 60 schemas stand for one value");
    c->unseen += p.negative;
    bool ok = p.negative ? apply_not_schema(c, s, v) : apply_schema(c, s, v);
    c->unseen -= p.negative;
    c->depth--;
    return ok && !c->rc;
}

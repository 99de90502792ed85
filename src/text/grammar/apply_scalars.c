/* What keywords about types, constants, numbers, strings and counts, or their negations, make of shapes. */
#include "text/grammar/apply.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const fe_json nothing = {.type = FE_JSON_BOOL, .truth = false};

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
        return fe_schema_invalid(c, schema, "type", "not a name or a list of them");
    for (const fe_json *t = v->type == FE_JSON_ARRAY ? v->first : v; t; t = v->type == FE_JSON_ARRAY ? t->next : NULL) {
        unsigned found = t->type == FE_JSON_STRING ? type_bits(t->text, &is_integer) : 0;
        if (!found) return fe_schema_unsupported(c, schema, "type", "no such type");
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
    fe_shapes_keep(s, bits);
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
    fe_shapes_keep(s, T_ALL & ~bits);
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
    *l = (layer){.other = fe_schema_part(&none, false), .has_other = true, .next = x->layers};
    for (const fe_json *m = v->first; m; m = m->next) {
        member *named = fe_schema_alloc(c, sizeof *named);
        name_list *required = fe_schema_alloc(c, sizeof *required);
        if (!named || !required) return;
        *named = (member){.name = fe_json_key(m), .schema = {m, true, false}, .next = l->members};
        *required = (name_list){fe_json_key(m), x->required};
        l->members = named;
        x->required = required;
    }
    if (fe_layer_sort(c, l)) x->layers = l;
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

bool fe_apply_constant(compiler *c, shapes *s, const fe_json *v) {
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
    fe_shapes_drop_dead(s);
    return !c->rc;
}

/* An array of another length, or with another item somewhere; or no array. */
static bool not_array_constant(compiler *c, shapes *s, const fe_json *v) {
    cases k = {0};
    bool ok = fe_shapes_split(c, s, T_ARRAY, &k.all) && fe_cases_item_differs(c, s, &k, v->first, true) &&
              fe_cases_begin(c, s, &k);
    for (size_t i = 0; i < k.one.count && ok; i++) fe_raise_to(&k.one.list[i].items_least, (uint32_t)v->count + 1);
    ok = ok && fe_cases_end(c, &k);
    if (v->count) ok = ok && fe_cases_begin(c, s, &k);
    for (size_t i = 0; i < k.one.count && ok && v->count; i++)
        fe_lower_to(&k.one.list[i].items_most, (uint32_t)v->count - 1);
    if (v->count) ok = ok && fe_cases_end(c, &k);
    return fe_cases_finish(c, s, &k, ok);
}

/* An object that lacks a member, has another value for it, or one more; or no object. */
static bool not_object_constant(compiler *c, shapes *s, const fe_json *v) {
    cases k = {0};
    layer named = {0};
    bool ok = fe_shapes_split(c, s, T_OBJECT, &k.all);
    for (const fe_json *m = v->first; m && ok; m = m->next) {
        ok = fe_cases_begin(c, s, &k) && fe_shapes_member(c, &k.one, fe_json_key(m), fe_schema_part(&nothing, false)) &&
             fe_cases_end(c, &k) && fe_cases_begin(c, s, &k) && fe_shapes_require(c, &k.one, fe_json_key(m)) &&
             fe_shapes_member(c, &k.one, fe_json_key(m), (part){m, true, true}) && fe_cases_end(c, &k) &&
             fe_layer_add(c, &named, m, FE_RE_NEVER);
    }
    ok = ok && fe_cases_begin(c, s, &k) && fe_shapes_want(c, &k.one, &(want){.keys = fe_layer_other_keys(c, &named)}) &&
         fe_cases_end(c, &k);
    return fe_cases_finish(c, s, &k, ok);
}

bool fe_apply_not_constant(compiler *c, shapes *s, const fe_json *v) {
    if (v->type == FE_JSON_ARRAY) return not_array_constant(c, s, v);
    if (v->type == FE_JSON_OBJECT) return not_object_constant(c, s, v);
    if (v->type == FE_JSON_NULL || v->type == FE_JSON_BOOL) return fe_shapes_keep(s, T_ALL & ~type_of(v)), true;
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
    if (v->type != FE_JSON_ARRAY) return fe_schema_invalid(c, schema, "enum", "not a list");
    shapes out = {0};
    unsigned types = 0;
    size_t strings = 0;
    bool ok = true;
    for (const fe_json *e = v->first; e && ok; e = e->next) {
        if (e->type == FE_JSON_ARRAY || e->type == FE_JSON_OBJECT) {
            ok = fe_shapes_branch(c, s, (part){e, true, false}, &out);
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
    if (ok) fe_shapes_replace(s, &out);
    free(out.list);
    return ok;
}

static bool not_enum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    if (v->type != FE_JSON_ARRAY) return fe_schema_invalid(c, schema, "enum", "not a list");
    size_t strings = 0;
    for (const fe_json *e = v->first; e; e = e->next) {
        strings += e->type == FE_JSON_STRING;
        if (e->type != FE_JSON_STRING && !fe_apply_not_constant(c, s, e)) return false;
    }
    fe_re words = strings ? string_constants(c, v, strings) : FE_RE_NEVER;
    for (size_t i = 0; i < s->count; i++) s->list[i].string = fe_re_minus(c->res, s->list[i].string, words);
    return true;
}

static bool apply_const(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return fe_apply_constant(c, s, v);
}
static bool not_const(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    (void)schema;
    return fe_apply_not_constant(c, s, v);
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

/* An older schema's exclusiveMinimum is a bool beside minimum. */
static bool narrow_numbers(compiler *c, shapes *s, const fe_json *schema, const char *keyword, const fe_json *v,
                           bool least, bool strict) {
    if (v->type != FE_JSON_NUMBER) return fe_schema_invalid(c, schema, keyword, "not a number");
    fe_re r =
        least ? fe_re_at_least(c->tokens, c->res, v->text, strict) : fe_re_at_most(c->tokens, c->res, v->text, strict);
    if (r == FE_RE_NEVER) return fe_schema_unsupported(c, schema, keyword, "a bound of more than 700 digits");
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
    fe_shapes_keep(s, T_NUMBER);
    return narrow_numbers(c, s, schema, "minimum", v, false, !is_true(schema, "exclusiveMinimum"));
}
static bool not_maximum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_shapes_keep(s, T_NUMBER);
    return narrow_numbers(c, s, schema, "maximum", v, true, !is_true(schema, "exclusiveMaximum"));
}
static bool not_exclusive_minimum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_shapes_keep(s, v->type == FE_JSON_BOOL ? 0 : T_NUMBER);
    return v->type == FE_JSON_BOOL || narrow_numbers(c, s, schema, "exclusiveMinimum", v, false, false);
}
static bool not_exclusive_maximum(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_shapes_keep(s, v->type == FE_JSON_BOOL ? 0 : T_NUMBER);
    return v->type == FE_JSON_BOOL || narrow_numbers(c, s, schema, "exclusiveMaximum", v, true, false);
}

static bool multiple(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    fe_re r;
    if (v->type != FE_JSON_NUMBER || !fe_re_multiple_of(c->res, v->text, !negative, &r))
        return fe_schema_unsupported(c, schema, "multipleOf", "not a positive number of at most 16 digits");
    if (negative) r = fe_re_minus(c->res, decimals(c), r);
    for (size_t i = 0; i < s->count; i++) s->list[i].number = fe_re_and(c->res, s->list[i].number, r);
    return true;
}
static bool apply_multiple(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    return multiple(c, s, schema, v, false);
}
static bool not_multiple(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_shapes_keep(s, T_NUMBER);
    return multiple(c, s, schema, v, true);
}

/* ---- Strings ----------------------------------------------------------------------------------------------------- */

bool fe_schema_read_count(compiler *c, const fe_json *schema, const char *keyword, const fe_json *v, uint32_t *out) {
    if (v->type != FE_JSON_NUMBER || v->number < 0 || v->number != floor(v->number))
        return fe_schema_invalid(c, schema, keyword, "not a whole number of 0 or more");
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
    if (!fe_schema_read_count(c, schema, counts[what].keyword, v, &n)) return false;
    bool least = what % 2 == 0;
    if (negative) {
        fe_shapes_keep(s, least && n == 0 ? 0 : counts[what].type);
        n = least ? n - 1 : n + 1;
        what = (counted)(least ? what + 1 : what - 1);
    }
    for (size_t i = 0; i < s->count; i++) {
        shape *x = &s->list[i];
        switch (what) {
        case LENGTH_LEAST: fe_raise_to(&x->length_least, n); break;
        case LENGTH_MOST: fe_lower_to(&x->length_most, n); break;
        case ITEMS_LEAST: fe_raise_to(&x->items_least, n); break;
        case ITEMS_MOST: fe_lower_to(&x->items_most, n); break;
        case MEMBERS_LEAST: fe_raise_to(&x->members_least, n); break;
        case MEMBERS_MOST: fe_lower_to(&x->members_most, n); break;
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
    if (v->type != FE_JSON_STRING) return fe_schema_invalid(c, schema, "pattern", "not a string");
    if (!fe_schema_pattern(c, schema, "pattern", v->text, v->len, &r)) return false;
    narrow_to_pattern(c, s, r);
    return true;
}
static bool not_pattern(compiler *c, shapes *s, const fe_json *schema, const fe_json *v) {
    fe_re r;
    if (v->type != FE_JSON_STRING) return fe_schema_invalid(c, schema, "pattern", "not a string");
    if (!fe_schema_pattern(c, schema, "pattern", v->text, v->len, &r)) return false;
    fe_shapes_keep(s, T_STRING);
    narrow_strings(c, s, fe_re_not(c->res, r));
    return true;
}

/* Formats that are known and cannot be held are refused; a name that is not known says nothing. */
static bool format(compiler *c, shapes *s, const fe_json *schema, const fe_json *v, bool negative) {
    static const char *const refused[] = {"regex", "idn-email", "idn-hostname", "iri", "iri-reference"};
    if (v->type != FE_JSON_STRING) return fe_schema_invalid(c, schema, "format", "not a string");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strcmp(refused[i], v->text)) return fe_schema_unsupported(c, schema, "format", "this format is not held");
    const char *known = fe_format_pattern(v->text);
    if (!known) {
        fe_schema_note(c, "format ", v->text, " is not known and says nothing");
        if (negative) fe_shapes_keep(s, 0);
        return true;
    }
    fe_text anchored = {0};
    fe_text_puts(&anchored, "^(?:");
    fe_text_puts(&anchored, known);
    fe_text_puts(&anchored, ")$");
    fe_re r = FE_RE_NEVER;
    bool ok = !anchored.failed && fe_schema_pattern(c, schema, "format", anchored.data, anchored.len, &r);
    fe_text_free(&anchored);
    if (negative) fe_shapes_keep(s, T_STRING);
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

/* ---- The keywords ------------------------------------------------------------------------------------------------ */

const fe_keyword fe_scalar_keywords[] = {
    {"type", apply_type, not_type, 0},
    {"enum", apply_enum, not_enum, 0},
    {"const", apply_const, not_const, 6},
    {"minimum", apply_minimum, not_minimum, 0},
    {"maximum", apply_maximum, not_maximum, 0},
    {"exclusiveMinimum", apply_exclusive_minimum, not_exclusive_minimum, 0},
    {"exclusiveMaximum", apply_exclusive_maximum, not_exclusive_maximum, 0},
    {"multipleOf", apply_multiple, not_multiple, 0},
    {"minLength", apply_min_length, not_min_length, 0},
    {"maxLength", apply_max_length, not_max_length, 0},
    {"pattern", apply_pattern, not_pattern, 0},
    {"format", apply_format, not_format, 0},
    {"minItems", apply_min_items, not_min_items, 0},
    {"maxItems", apply_max_items, not_max_items, 0},
    {"minProperties", apply_min_properties, not_min_properties, 0},
    {"maxProperties", apply_max_properties, not_max_properties, 0},
    {0},
};

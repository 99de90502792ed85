/* What the files that apply keywords share. */
#ifndef FE_GRAMMAR_APPLY_H
#define FE_GRAMMAR_APPLY_H

#include "text/grammar/shape.h"

typedef bool (*fe_handler)(compiler *c, shapes *s, const fe_json *schema, const fe_json *v);

typedef struct fe_keyword {
    const char *name;
    fe_handler apply, negate; /* negate NULL: it says nothing by itself */
    int since;                /* the draft from which on it is one; 0: the first that is known here */
} fe_keyword;

/* Ended by a name NULL. */
extern const fe_keyword fe_scalar_keywords[]; /* apply_scalars.c: types, constants, numbers, strings, counts */
extern const fe_keyword fe_member_keywords[]; /* apply_members.c: arrays and objects */

/* apply_scalars.c */
bool fe_apply_constant(compiler *c, shapes *s, const fe_json *v);
bool fe_apply_not_constant(compiler *c, shapes *s, const fe_json *v);
/* A length or a number of things: whole and not negative, also where it is written with a fraction. What is beyond 32 bits is
 * without end. */
bool fe_schema_read_count(compiler *c, const fe_json *schema, const char *keyword, const fe_json *v, uint32_t *out);

/* ---- shapes.c. False where the compiler has failed. ---- */

/* Adds what the part makes of a copy of the shapes to `to`. */
bool fe_shapes_branch(compiler *c, const shapes *from, part p, shapes *to);
void fe_shapes_drop_dead(shapes *s);
void fe_shapes_replace(shapes *s, shapes *by);
void fe_shapes_keep(shapes *s, unsigned types);
bool fe_shapes_copy(compiler *c, const shapes *from, shapes *to);
/* Adds the shapes without the type to `to`, and keeps what is of it. */
bool fe_shapes_split(compiler *c, shapes *s, unsigned type, shapes *to);

/* Each takes one more of them; what is made is copied. */
bool fe_shapes_row(compiler *c, shapes *s, const row *made);
bool fe_shapes_contain(compiler *c, shapes *s, const contain *made);
bool fe_shapes_layer(compiler *c, shapes *s, const layer *made);
bool fe_shapes_want(compiler *c, shapes *s, const want *made);
bool fe_shapes_require(compiler *c, shapes *s, ferrum_str name);
/* A layer in which the member of that name has to fit the part. */
bool fe_shapes_member(compiler *c, shapes *s, ferrum_str name, part p);

/* Alternatives out of copies of the same shapes: fe_cases_begin gives one to work on, fe_cases_end puts it to the others. */
typedef struct cases {
    shapes one, all;
} cases;
bool fe_cases_begin(compiler *c, const shapes *s, cases *k);
bool fe_cases_end(compiler *c, cases *k);
/* Behind the last: they take the shapes' place. */
bool fe_cases_finish(compiler *c, shapes *s, cases *k, bool ok);
/* One of the items, from the first on, is not what it is to be. */
bool fe_cases_item_differs(compiler *c, const shapes *s, cases *k, const fe_json *first, bool constant);

bool fe_layer_add(compiler *c, layer *l, const fe_json *m, fe_re pattern);
/* Once all members are there: they are found by name. */
bool fe_layer_sort(compiler *c, layer *l);
/* Keys that the layer names nowhere. */
fe_re fe_layer_other_keys(compiler *c, const layer *l);

/* ---- Small ones ---- */

static inline bool fe_schema_unsupported(compiler *c, const fe_json *schema, const char *keyword, const char *what) {
    return fe_schema_fail(c, FERRUM_EUNSUPPORTED, schema, keyword, what);
}
static inline bool fe_schema_invalid(compiler *c, const fe_json *schema, const char *keyword, const char *what) {
    return fe_schema_fail(c, FERRUM_EINVAL, schema, keyword, what);
}
static inline part fe_schema_part(const fe_json *v, bool negative) { return (part){v, false, negative}; }
static inline bool fe_schema_is_any(const fe_json *v) {
    return (v->type == FE_JSON_BOOL && v->truth) || (v->type == FE_JSON_OBJECT && !v->count);
}
static inline bool fe_schema_is_none(const fe_json *v) { return v->type == FE_JSON_BOOL && !v->truth; }
static inline void fe_raise_to(uint32_t *x, uint32_t n) { *x = *x < n ? n : *x; }
static inline void fe_lower_to(uint32_t *x, uint32_t n) { *x = *x > n ? n : *x; }

#endif

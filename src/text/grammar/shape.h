/* A schema, taken apart: what the files that compile it share.
 *
 * A part is a schema, a constant, or the negation of one. A conjunction of parts becomes a list of shapes, any of which a value
 * may have; a shape says for each type of JSON what its values are, so that two of them meet type by type. All lists in a shape
 * are persistent: a shape is copied by copying the struct. */
#ifndef FE_GRAMMAR_SHAPE_H
#define FE_GRAMMAR_SHAPE_H

#include "core/json.h"
#include "text/grammar/grow.h"
#include "text/grammar/names.h"
#include "text/grammar/schema.h"

enum {
    T_NULL = 1,
    T_TRUE = 2,
    T_FALSE = 4,
    T_NUMBER = 8,
    T_STRING = 16,
    T_ARRAY = 32,
    T_OBJECT = 64,
    T_ALL = 127,
};

enum {
    FE_SHAPES_MOST = 3000, /* alternatives of one conjunction */
    FE_APPLY_DEPTH = 60,   /* schemas in one another that speak about the same value */
    FE_PROOF_DEPTH = 3,    /* levels of values that a proof of emptiness looks into */
    FE_CLASSES_MOST = 12,  /* patterns of keys in one object that may overlap */
    FE_SCHEMA_STEPS = 3000000,
};

typedef struct part {
    const fe_json *value;
    bool constant, negative;
} part;

typedef struct parts {
    part *list;
    size_t count, capacity;
} parts;

typedef struct name_list {
    ferrum_str name;
    const struct name_list *next;
} name_list;

typedef struct member { /* of a layer: the schema of a property, or of the properties that a pattern names */
    ferrum_str name;
    fe_re pattern; /* of what stands between the quotes; FE_RE_NEVER: a property */
    part schema;
    const struct member *next;
} member;

typedef struct layer { /* what one schema says about members: `other` of those that it names nowhere */
    const member *members;
    const member **sorted; /* fe_layer_sort: the properties by name, then the patterns; NULL: they are few */
    size_t named, patterns;
    part other;
    bool has_other;
    bool evaluates;         /* as unevaluatedProperties understands it */
    const fe_json *opening; /* not a layer but a mark: those before it in the list are of this schema */
    const struct layer *next;
} layer;

typedef struct row {      /* what one schema says about items */
    const fe_json *first; /* schemas, or constants, linked by next */
    size_t count;
    bool constant, negative; /* of first */
    size_t skipped;          /* items before those, of which it says nothing */
    part rest;
    bool has_rest;
    bool evaluates;         /* as above */
    const fe_json *opening; /* as above */
    const struct row *next;
} row;

typedef struct contain { /* items in number that have to fit a part */
    part schema;
    uint32_t least, most;
    size_t skipped; /* items before those that are looked at */
    const struct contain *next;
} contain;

typedef struct want { /* a member has to be there whose key, as it stands between quotes, is one of these */
    fe_re keys;
    part value; /* and whose value fits this, */
    bool has_value;
    const struct want *next;
} want;

typedef struct need { /* if a member is there, another must be */
    ferrum_str name, needed;
    const struct need *next;
} need;

typedef struct shape {
    unsigned types;
    fe_re number;
    fe_re string; /* between the quotes, without regard to the length */
    uint32_t length_least, length_most;
    const row *rows;
    uint32_t items_least, items_most;
    bool unique;
    const contain *contains;
    const layer *layers;
    const want *wants;
    const name_list *required;
    const need *needs;
    fe_re names; /* of keys, between the quotes */
    uint32_t members_least, members_most;
} shape;

typedef struct shapes {
    shape *list;
    size_t count, capacity;
} shapes;

typedef struct conjunction {
    parts parts;
    fe_node node;
    uint64_t hash;
} conjunction;

typedef struct anchor {
    ferrum_str id;
    const fe_json *schema;
    enum { A_ID, A_ANCHOR, A_DYNAMIC, A_RECURSIVE } kind;
} anchor;

typedef struct compiler {
    fe_grammar *g;
    fe_res *res;
    const fe_tokens *tokens;
    const char *name;
    const fe_json *root, *here; /* the document; a schema of the conjunction that is being defined */
    fe_schema_options options;
    fe_text *notes;
    int draft; /* 4, 6, 7, 2019 or 2020, the default. Before 2019 a $ref stands alone: what is beside it is not looked at */
    fe_arena arena;
    conjunction *conjunctions;
    size_t conjunction_count, conjunction_capacity;
    uint32_t *slots;
    size_t slot_mask;
    anchor *anchors;
    size_t anchor_count, anchor_capacity;
    struct
        base { /* a schema that refers, and the one whose $id its references are relative to, where that is not the root */
        const fe_json *schema, *document;
    } * bases;
    size_t base_count, base_capacity;
    struct pattern {
        const char *text;
        size_t len;
        fe_re r;
    } * patterns;
    size_t pattern_count, pattern_capacity;
    fe_re content;                         /* of any string */
    fe_re decimals;                        /* of numbers without exponent, once they were asked for */
    unsigned depth;                        /* of apply */
    unsigned evaluating, evaluating_items; /* schemas with unevaluated…, and with unevaluatedItems, that are applied */
    unsigned unseen;                       /* … and nots, inside which nothing is evaluated */
    size_t steps;
    int rc;
    bool quiet;       /* a proof is tried: a failure is no error */
    unsigned proving; /* levels of values, one in the other, that the proof looks into */
    ferrum_error *err;
} compiler;

/* schema.c */
bool fe_schema_fail(compiler *c, int code, const fe_json *where, const char *keyword, const char *what);
/* A line that says of a name what it means for the grammar; each comes once. */
void fe_schema_note(compiler *c, const char *before, const char *name, const char *behind);
void *fe_schema_alloc(compiler *c, size_t bytes);
bool fe_schema_step(compiler *c);
bool fe_schema_steps(compiler *c, size_t count);
bool fe_schema_pattern(compiler *c, const fe_json *schema, const char *keyword, const char *text, size_t len,
                       fe_re *out);
bool fe_parts_add(compiler *c, parts *p, part x);
/* The node of all that fits the parts; it may be defined later. */
fe_node fe_schema_node_of(compiler *c, parts *p);

/* values.c: defines the conjunction's node. */
void fe_schema_define(compiler *c, size_t index);

/* references.c */
/* The names by which references find schemas, and the documents that are embedded in this one. */
bool fe_schema_find_anchors(compiler *c, const fe_json *v, const fe_json *document);
/* Does $dynamicRef or $recursiveRef mean what $ref would? */
bool fe_schema_unambiguous(compiler *c, const fe_json *schema, const fe_json *ref);
const fe_json *fe_schema_resolve(compiler *c, const fe_json *schema, const fe_json *ref);

/* apply.c: narrows the shapes by a part; false where the compiler has failed. */
bool fe_apply(compiler *c, shapes *s, part p);

/* shapes.c */
shape fe_shape_any(const compiler *c);
bool fe_shapes_add(compiler *c, shapes *s, const shape *x);

/* The layer's property of that name, or NULL. The layer is sorted. */
const member *fe_layer_find(const layer *l, ferrum_str name);

/* prove.c */
/* Takes away the types that no value can have, and the shapes that have none left; false: so had all. */
bool fe_shapes_prune(compiler *c, shapes *s);
fe_re fe_shape_string(compiler *c, const shape *s);       /* between the quotes */
bool fe_name_fits(compiler *c, fe_re r, ferrum_str name); /* is it, as it is written between quotes, one of the keys? */
bool fe_parts_of_key(compiler *c, const shape *s, ferrum_str name, parts *out);
bool fe_parts_of_item(compiler *c, const shape *s, size_t index, parts *out);

/* bounds.c: numbers at least, or at most, what the text spells; strict: and not equal. FE_RE_NEVER where that has too many
 * digits. */
fe_re fe_re_at_least(const fe_tokens *t, fe_res *s, const char *text, bool strict);
fe_re fe_re_at_most(const fe_tokens *t, fe_res *s, const char *text, bool strict);
/* bare: with no more digits behind the point than the text has, one at least. */
bool fe_re_multiple_of(fe_res *s, const char *text, bool bare, fe_re *out);

/* formats.c: the pattern of a format, anchored; NULL: not known. */
const char *fe_format_pattern(const char *name);

static inline int fe_str_compare(ferrum_str a, ferrum_str b) {
    int order = __builtin_memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}
static inline ferrum_str fe_json_str(const fe_json *v) { return (ferrum_str){v->text, v->len}; }
static inline ferrum_str fe_json_key(const fe_json *v) { return (ferrum_str){v->key, v->key_len}; }

#endif

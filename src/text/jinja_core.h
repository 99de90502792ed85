/* What the files of the template interpreter share. jinja.h is its outside.
 *
 *     jinja_lex.c      the template's text as tokens, white space controlled
 *     jinja_parse.c    statements, jinja_expr.c expressions: tokens as a tree
 *     jinja_eval.c     expressions, jinja_exec.c statements: the tree run
 *     jinja_value.c    values: making, printing, iterating; jinja_compare.c: equality and order
 *     jinja_ops.c      arithmetic; jinja_access.c: attributes, items, slices, methods of lists and dicts
 *     jinja_string.c   text by code points; jinja_strmethods.c: the methods of str
 *     jinja_format.c   %, str.format and numbers as text
 *     jinja_filters.c  filters of texts and numbers, jinja_seqfilters.c of sequences, jinja_tests.c tests
 *     jinja_globals.c  range, namespace and the like; jinja_json.c: JSON to values and back
 *
 * Values are Python's, as far as templates can have them. Lists and dicts never change: the sandbox that templates run in forbids
 * the methods that would. All memory comes from one arena, and a failure leaves by one longjmp, so that functions return plain
 * values: nothing between may hold what must be released. */
#ifndef FE_JINJA_CORE_H
#define FE_JINJA_CORE_H

#include "core/arena.h"
#include "core/json.h"
#include "text/jinja.h"

#include <setjmp.h>

typedef struct jinja jinja;
typedef struct jvalue jvalue;

/* ---- Values ------------------------------------------------------------------------------------------------------ */

typedef enum jtype {
    J_ABSENT, /* no value: an argument that was not given */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_BIGINT, /* of JSON, too large for int64: can be printed and compared for equality, not reckoned with */
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_VIEW, /* d.keys(), d.values(), d.items() */
    J_RANGE,
    J_ITER, /* what Python calls a generator or iterator: can be gone through once */
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_BUILTIN, /* a function, or a method bound to its object */
    J_CYCLER,
    J_JOINER,
} jtype;

typedef struct jstr {
    const char *data; /* valid UTF-8, not NUL-terminated */
    size_t len, chars;
    bool markup; /* marked as safe HTML: what is added to it gets escaped */
} jstr;

typedef struct jseq {
    jvalue *items;
    size_t count;
    bool group; /* of groupby: a tuple with the attributes grouper and list */
} jseq;

typedef struct jdict {
    jvalue *keys, *values;
    size_t count, capacity;
} jdict;

typedef enum jview_kind { JV_KEYS, JV_VALUES, JV_ITEMS } jview_kind;
typedef struct jview {
    const jdict *dict;
    jview_kind kind;
} jview;

typedef struct jrange {
    int64_t start, stop, step, count;
} jrange;

struct jvalue {
    jtype type;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *hint; /* of an undefined value: what is wrong with using it */
        const jstr *str;  /* also a big integer's digits */
        const jseq *seq;
        jdict *dict; /* also a namespace's */
        const jview *view;
        const jrange *range;
        struct jiter *iter;
        struct jloop *loop;
        struct jmacro *macro;
        struct jbound *bound;
        struct jcycle *cycle; /* of a cycler or joiner */
    };
};

/* Goes through something: false at its end. */
typedef struct jiter jiter;
struct jiter {
    bool (*next)(jinja *j, jiter *it, jvalue *out);
    jvalue source; /* what an iterator over a value goes through */
    size_t at;
    jiter *inner; /* what a filter takes its values from */
    void *data;   /* the filter's own */
};

typedef struct jcycle {
    const jvalue *items; /* a joiner's: its separator */
    size_t count, at;
} jcycle;

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

typedef struct jkeyword {
    const jstr *name;
    jvalue value;
} jkeyword;

typedef struct jcall {
    const jvalue *args;
    size_t count;
    const jkeyword *keywords;
    size_t keyword_count;
} jcall;

enum { JCALL_PARAMS = 6 };

/* A row of the tables of filters, tests, methods and functions. One that jinja2 has and this interpreter does not has neither
 * function: using it is refused by its name. */
typedef struct jbuiltin {
    const char *name;
    const char *
        params; /* "old new count?": their names in order, '?' where one may be left out; a '/' in front: by place only */
    jvalue (*bound)(jinja *j, jvalue self,
                    const jvalue *args); /* args: one for each of params, J_ABSENT where not given */
    jvalue (*raw)(jinja *j, jvalue self, const jcall *call); /* takes its arguments as they come */
    bool mutates;                                            /* forbidden by the sandbox */
} jbuiltin;

typedef struct jbound {
    const jbuiltin *row;
    jvalue self;
} jbound;

/* ---- The tree ---------------------------------------------------------------------------------------------------- */

typedef struct jname {
    const char *data;
    size_t len;
    uint32_t hash;
} jname;

typedef enum jnode_type {
    /* expressions */
    JN_CONST,   /* value */
    JN_NAME,    /* name */
    JN_TUPLE,   /* list */
    JN_LIST,    /* list */
    JN_DICT,    /* list: key, value, key, value … */
    JN_COND,    /* a if b else c; c may be NULL */
    JN_OR,      /* a or b */
    JN_AND,     /* a and b */
    JN_NOT,     /* not a */
    JN_COMPARE, /* a, then list of JN_OPERAND */
    JN_OPERAND, /* op, a */
    JN_BINARY,  /* a op b */
    JN_CONCAT,  /* list */
    JN_NEG,     /* -a */
    JN_POS,     /* +a */
    JN_ATTR,    /* a.name */
    JN_ITEM,    /* a[b] */
    JN_SLICE,   /* a:b:c, each may be NULL; only as b of JN_ITEM */
    JN_CALL,    /* a(list) */
    JN_FILTER,  /* a|name(list); a is NULL in a filter block */
    JN_TEST,    /* a is name(list) */
    JN_NSREF,   /* name.attr as a target */
    /* among the arguments of a call */
    JN_KEYWORD,   /* name=a */
    JN_STAR,      /* *a */
    JN_STAR_STAR, /* **a */
    /* statements */
    JN_DATA,         /* value */
    JN_OUTPUT,       /* list */
    JN_IF,           /* list of JN_BRANCH */
    JN_BRANCH,       /* a (NULL: else), body */
    JN_FOR,          /* for a in b if c: body, else */
    JN_SET,          /* a = b */
    JN_SET_BLOCK,    /* a, filter b or NULL, body */
    JN_MACRO,        /* name, list of JN_PARAM, body */
    JN_PARAM,        /* name, default a or NULL */
    JN_CALL_BLOCK,   /* call a; b: a JN_MACRO, the caller */
    JN_FILTER_BLOCK, /* filter a, body */
    JN_WITH,         /* list: target, value, target, value …; body */
    JN_BREAK,
    JN_CONTINUE,
    JN_SCOPE, /* body: a generation block */
} jnode_type;

typedef enum jop {
    JOP_ADD,
    JOP_SUB,
    JOP_MUL,
    JOP_DIV,
    JOP_FLOORDIV,
    JOP_MOD,
    JOP_POW,
    JOP_EQ,
    JOP_NE,
    JOP_LT,
    JOP_LE,
    JOP_GT,
    JOP_GE,
    JOP_IN,
    JOP_NOT_IN,
} jop;

typedef struct jnode jnode;
struct jnode {
    jnode_type type;
    jop op;
    bool recursive;                      /* of a loop */
    bool uses_loop;                      /* of a loop: its body names `loop` */
    bool varargs, kwargs, caller, named; /* of a macro: what its body names; not anonymous */
    size_t line;
    jname name, attr;
    jvalue value;
    const jbuiltin *row; /* of a filter or test */
    jnode *a, *b, *c;
    jnode *list, *body, *otherwise;
    jnode *next; /* in the list or body that it stands in */
};

/* ---- The interpreter --------------------------------------------------------------------------------------------- */

typedef struct jvariable {
    jname name;
    jvalue value;
    struct jvariable *next;
} jvariable;

typedef struct jscope {
    struct jscope *parent;
    jvariable *first;
} jscope;

typedef struct jloop {
    jiter *iter;
    const jnode *node;            /* its JN_FOR, where the body names `loop` */
    jscope *scope;                /* round the loop */
    int64_t index, depth, length; /* index from 0; length -1: not known yet */
    jvalue before, current, after;
    jvalue changed;
} jloop;

typedef struct jmacro {
    const jnode *node;
    jscope *scope; /* where it was defined */
} jmacro;

/* Bytes that grow in the arena. */
typedef struct jbuf {
    char *data;
    size_t len, capacity;
} jbuf;

struct jinja {
    fe_arena arena;
    jmp_buf failed;
    ferrum_error *err;
    int code;         /* of the failure */
    const char *name; /* what errors call the template */
    size_t line;      /* of what is parsed or run */
    size_t steps;     /* taken */
    size_t depth;     /* of C calls that go by the template's or the data's nesting */
    jbuf *out;        /* where output goes now */
    jscope *globals;  /* the caller's variables */
    const struct tm *now;
};

/* ---- jinja.c: failing, counting, memory ---- */

/* Leaves by the longjmp with "NAME, line N: " and the sentence. */
_Noreturn void fe_j_raise(jinja *j, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define fe_j_fail(j, ...)       fe_j_raise(j, FERRUM_EFORMAT, __VA_ARGS__)
#define fe_j_fail_limit(j, ...) fe_j_raise(j, FERRUM_ELIMIT, __VA_ARGS__)
/* Counts work that goes by the template or the data. */
void fe_j_steps(jinja *j, size_t count);
void fe_j_enter(jinja *j); /* one deeper; with fe_j_leave */
static inline void fe_j_leave(jinja *j) { j->depth--; }
void *fe_j_alloc(jinja *j, size_t count, size_t size);
void fe_j_put(jinja *j, jbuf *b, const char *data, size_t len);
void fe_j_puts(jinja *j, jbuf *b, const char *s);
void fe_j_fill(jinja *j, jbuf *b, char c, size_t count);
jname fe_j_name(const char *data, size_t len);
static inline bool fe_j_same_name(jname a, jname b) {
    return a.hash == b.hash && a.len == b.len && __builtin_memcmp(a.data, b.data, a.len) == 0;
}
/* Text for a message: cut, and without control characters; from the arena. */
const char *fe_j_shown(jinja *j, const char *data, size_t len);

/* ---- jinja_lex.c, jinja_expr.c, jinja_parse.c ---- */

typedef enum jtoken_type {
    JT_END,
    JT_DATA,
    JT_VARIABLE_BEGIN,
    JT_VARIABLE_END,
    JT_BLOCK_BEGIN,
    JT_BLOCK_END,
    JT_NAME,
    JT_STRING,
    JT_NUMBER,
    JT_OPERATOR, /* text: the operator */
} jtoken_type;

typedef struct jtoken {
    jtoken_type type;
    size_t line;
    const char *text; /* of a name or operator; of data and strings: what it stands for */
    size_t len;
    jvalue value; /* of a number */
} jtoken;

typedef struct jparser {
    jinja *j;
    const jtoken *at;                   /* the token to be taken next; the last of all is JT_END */
    bool soft;                          /* inside an if: a filter that is not known fails when it is run only */
    size_t loops;                       /* that break and continue could leave */
    bool loop, varargs, kwargs, caller; /* names that were met since somebody cleared these */
    struct {
        const char *kind, *name; /* NULL: none */
        size_t line;
    } unknown; /* the first filter or test that is not known and must be */
} jparser;

const jtoken *fe_j_lex(jinja *j, const char *text, size_t len);
jnode *fe_j_parse(jinja *j, const char *text, size_t len); /* the template's body, which may be NULL */

jnode *fe_j_node(jparser *p, jnode_type type, size_t line);
void fe_j_deeper(jparser *p); /* one level of nesting more; with fe_j_leave */
bool fe_j_is_op(const jparser *p, const char *op);
bool fe_j_is_name(const jparser *p, const char *name);
bool fe_j_take_op(jparser *p, const char *op);
bool fe_j_take_name(jparser *p, const char *name);
void fe_j_expect_op(jparser *p, const char *op);
jname fe_j_expect_any_name(jparser *p, const char *what);
_Noreturn void fe_j_unexpected(jparser *p, const char *expected);
jnode *fe_j_expression(jparser *p);
/* Expressions with commas between them are a tuple. `end`: a name that ends it, or NULL. */
jnode *fe_j_tuple(jparser *p, bool with_condition, const char *end);
jnode *fe_j_target(jparser *p, bool with_namespace, const char *end);
jnode *fe_j_filters(jparser *p, jnode *node, bool inline_start); /* what follows: |name(…)|name … */

/* ---- jinja_exec.c, jinja_eval.c ---- */

void fe_j_run(jinja *j, const jnode *body, jscope *scope);
jvalue fe_j_eval(jinja *j, const jnode *n, jscope *scope);
/* The filters of a chain that ends in a JN_FILTER without an `a`, over the text. */
jvalue fe_j_eval_filters(jinja *j, const jnode *n, jvalue text, jscope *scope);
jcall fe_j_eval_args(jinja *j, const jnode *list, jscope *scope);
void fe_j_set(jinja *j, jscope *scope, jname name, jvalue v);
void fe_j_assign(jinja *j, const jnode *target, jvalue v, jscope *scope);
jvalue fe_j_lookup(jinja *j, jscope *scope, jname name);
jvalue fe_j_call(jinja *j, jvalue callee, const jcall *call);
jvalue fe_j_call_row(jinja *j, const jbuiltin *row, jvalue self, const jcall *call);
jvalue fe_j_call_macro(jinja *j, const jmacro *m, const jcall *call);
jvalue fe_j_call_loop(jinja *j, const jloop *loop, jvalue iterable);
void fe_j_bind(jinja *j, const jbuiltin *row, const jcall *call, jvalue out[static JCALL_PARAMS]);
jvalue fe_j_loop_attribute(jinja *j, jloop *loop, jname name);
bool fe_j_loop_next(jinja *j, jloop *loop);

/* ---- jinja_value.c ---- */

#define J_VALUE(type_, ...) ((jvalue){.type = type_, __VA_ARGS__})
static inline jvalue fe_j_none(void) { return (jvalue){.type = J_NONE}; }
static inline jvalue fe_j_bool(bool b) { return (jvalue){.type = J_BOOL, .boolean = b}; }
static inline jvalue fe_j_int(int64_t i) { return (jvalue){.type = J_INT, .integer = i}; }
static inline jvalue fe_j_float(double f) { return (jvalue){.type = J_FLOAT, .number = f}; }
jvalue fe_j_undefined(jinja *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text itself, not a copy: it must stay. */
jvalue fe_j_str(jinja *j, const char *data, size_t len);
jvalue fe_j_str_of(jinja *j, const jbuf *b);
jvalue fe_j_text(jinja *j, const char *s); /* a literal */
jvalue fe_j_marked(jinja *j, jvalue str, bool markup);
jvalue fe_j_seq(jinja *j, jtype type, const jvalue *items, size_t count); /* takes the items, no copy */
jvalue fe_j_pair(jinja *j, jvalue a, jvalue b);
jdict *fe_j_dict(jinja *j, size_t capacity);
void fe_j_dict_put(jinja *j, jdict *d, jvalue key, jvalue value);
/* NULL: not there. Fails for a key that Python cannot hash. */
const jvalue *fe_j_dict_get(jinja *j, const jdict *d, jvalue key);
const jvalue *fe_j_dict_find(jinja *j, const jdict *d, const char *key, size_t len);
bool fe_j_hashable(jvalue v);

const char *fe_j_type(jvalue v); /* Python's name of it, for messages */
bool fe_j_truth(jinja *j, jvalue v);
static inline bool fe_j_is_integer(jvalue v) { return v.type == J_INT || v.type == J_BOOL; }
static inline bool fe_j_is_number(jvalue v) { return fe_j_is_integer(v) || v.type == J_FLOAT; }
static inline int64_t fe_j_integer(jvalue v) { return v.type == J_BOOL ? v.boolean : v.integer; }
static inline double fe_j_number(jvalue v) { return v.type == J_FLOAT ? v.number : (double)fe_j_integer(v); }
bool fe_j_is(jvalue v, const char *s); /* the string of these characters? */

void fe_j_print(jinja *j, jbuf *out, jvalue v); /* str(v) */
void fe_j_repr(jinja *j, jbuf *out, jvalue v);
const jstr *fe_j_to_str(jinja *j, jvalue v);     /* str(v) */
const jstr *fe_j_soft_str(jinja *j, jvalue v);   /* the same, which leaves marked strings marked */
const char *fe_j_repr_shown(jinja *j, jvalue v); /* for messages */

/* Fails where the value cannot be gone through. */
jiter *fe_j_iter(jinja *j, jvalue v);
bool fe_j_next(jinja *j, jiter *it, jvalue *out);
bool fe_j_iterable(jvalue v);
bool fe_j_length(jinja *j, jvalue v, int64_t *out); /* false: it has none */
const jseq *fe_j_to_seq(jinja *j, jvalue v);        /* its elements */
jvalue fe_j_make_iter(jinja *j, jiter it);

/* ---- jinja_compare.c ---- */

bool fe_j_same(jvalue a, jvalue b); /* the same object? */
bool fe_j_equal(jinja *j, jvalue a, jvalue b);
bool fe_j_less(jinja *j, jvalue a, jvalue b, const char *sign); /* a < b; `sign`: what a failure says that was asked */
bool fe_j_compare(jinja *j, jop op, jvalue a, jvalue b);
bool fe_j_contains(jinja *j, jvalue container, jvalue v);
/* Sorts items by keys, both in place; stable. */
void fe_j_sort(jinja *j, jvalue *keys, jvalue *items, size_t count, bool reverse);

/* ---- jinja_ops.c, jinja_access.c ---- */

jvalue fe_j_binary(jinja *j, jop op, jvalue a, jvalue b);
jvalue fe_j_negate(jinja *j, jvalue v, bool negative);
jvalue fe_j_attribute(jinja *j, jvalue v, jname name); /* v.name */
jvalue fe_j_item(jinja *j, jvalue v, jvalue key);      /* v[key] */
jvalue fe_j_slice(jinja *j, jvalue v, jvalue start, jvalue stop, jvalue step);
jvalue fe_j_method(jinja *j, jvalue v, const char *name, size_t len); /* J_ABSENT: there is none */
int64_t fe_j_need_int(jinja *j, jvalue v, const char *what);

/* ---- jinja_string.c ---- */

bool fe_j_is_space(uint32_t c);
bool fe_j_is_printable(uint32_t c); /* as Python's repr asks */
bool fe_j_is_alpha(uint32_t c);
bool fe_j_is_alnum(uint32_t c);
/* Bytes from the start to character number `index`. */
size_t fe_j_offset(const jstr *s, size_t index);
jvalue fe_j_substr(jinja *j, const jstr *s, size_t from, size_t to); /* characters */
const char *fe_j_find(const char *in, size_t len, const char *what, size_t what_len);
jvalue fe_j_strip(jinja *j, const jstr *s, const jstr *chars, bool left, bool right); /* chars NULL: white space */
typedef enum jcase { JC_LOWER, JC_UPPER, JC_CAPITALIZE, JC_TITLE, JC_SWAP, JC_FOLD } jcase;
jvalue fe_j_recase(jinja *j, const jstr *s, jcase to);
jvalue fe_j_replace(jinja *j, const jstr *s, const jstr *old, const jstr *new, int64_t count); /* count < 0: all */
jvalue fe_j_pad(jinja *j, const jstr *s, int64_t width, size_t left_of_two, uint32_t fill);
const jseq *fe_j_lines(jinja *j, const jstr *s, bool keep_ends);
jvalue fe_j_escape(jinja *j, const jstr *s);         /* for HTML; gives marked text */
jvalue fe_j_escaped(jinja *j, jvalue v);             /* the same, unless it is marked already */
bool fe_j_str_test(const jstr *s, const char *name); /* islower, isdigit … */

/* ---- jinja_format.c ---- */

void fe_j_put_float(jinja *j, jbuf *out, double f); /* repr */
void fe_j_put_int(jinja *j, jbuf *out, int64_t i);
jvalue fe_j_percent(jinja *j, const jstr *format, jvalue args);
jvalue fe_j_str_format(jinja *j, jvalue self, const jcall *call);
bool fe_j_parse_int(const char *s, size_t len, int base, int64_t *out, bool *too_large);
bool fe_j_parse_float(const char *s, size_t len, double *out);

/* ---- jinja_json.c ---- */

jvalue fe_j_from_json(jinja *j, const fe_json *v);
jvalue fe_j_tojson(jinja *j, jvalue self, const jvalue *args);

/* ---- Tables. Each ends in a row without a name. ---- */

extern const jbuiltin fe_j_filters_text[], fe_j_filters_seq[], fe_j_tests[], fe_j_globals[], fe_j_str_methods[],
    fe_j_list_methods[], fe_j_tuple_methods[], fe_j_dict_methods[], fe_j_loop_methods[], fe_j_cycler_methods[];
const jbuiltin *fe_j_row(const jbuiltin *table, const char *name, size_t len); /* NULL: not there */
const jbuiltin *fe_j_filter(const char *name, size_t len);
const jbuiltin *fe_j_test(const char *name, size_t len);

#endif

/* Expressions: tokens as a tree, by jinja2's grammar. */
#include "text/jinja_core.h"

#include <stdio.h>
#include <string.h>

enum { NESTING = 100 }; /* of expressions and blocks, which the parser's own depth goes by */

jnode *fe_j_node(jparser *p, jnode_type type, size_t line) {
    jnode *n = fe_j_alloc(p->j, 1, sizeof *n);
    n->type = type;
    n->line = line;
    return n;
}

static bool is_text(const jtoken *t, jtoken_type type, const char *text) {
    return t->type == type && t->len == strlen(text) && memcmp(t->text, text, t->len) == 0;
}

bool fe_j_is_op(const jparser *p, const char *op) { return is_text(p->at, JT_OPERATOR, op); }
bool fe_j_is_name(const jparser *p, const char *name) { return is_text(p->at, JT_NAME, name); }

static bool take(jparser *p, bool there) {
    p->at += there;
    return there;
}

bool fe_j_take_op(jparser *p, const char *op) { return take(p, fe_j_is_op(p, op)); }
bool fe_j_take_name(jparser *p, const char *name) { return take(p, fe_j_is_name(p, name)); }

void fe_j_unexpected(jparser *p, const char *expected) {
    const jtoken *t = p->at;
    p->j->line = t->line;
    switch (t->type) {
    case JT_END: fe_j_fail(p->j, "expected %s, but the template ends", expected);
    case JT_VARIABLE_END:
    case JT_BLOCK_END: fe_j_fail(p->j, "expected %s, got the tag's end", expected);
    case JT_STRING: fe_j_fail(p->j, "expected %s, got a string", expected);
    case JT_DATA: fe_j_fail(p->j, "expected %s, got text", expected);
    case JT_VARIABLE_BEGIN:
    case JT_BLOCK_BEGIN:
    case JT_NAME:
    case JT_NUMBER:
    case JT_OPERATOR: break;
    }
    fe_j_fail(p->j, "expected %s, got '%s'", expected, fe_j_shown(p->j, t->text, t->len));
}

void fe_j_expect_op(jparser *p, const char *op) {
    char quoted[8];
    snprintf(quoted, sizeof quoted, "'%s'", op);
    if (!fe_j_take_op(p, op)) fe_j_unexpected(p, quoted);
}

jname fe_j_expect_any_name(jparser *p, const char *what) {
    if (p->at->type != JT_NAME) fe_j_unexpected(p, what);
    const jtoken *t = p->at++;
    return fe_j_name(t->text, t->len);
}

/* Appends to a list that begins at *first. */
static void append(jnode **first, jnode ***tail, jnode *n) {
    if (!*tail) *tail = first;
    **tail = n;
    *tail = &n->next;
}

static jnode *constant(jparser *p, size_t line, jvalue v) {
    jnode *n = fe_j_node(p, JN_CONST, line);
    n->value = v;
    return n;
}

/* ---- Names and literals ---- */

static void note_name(jparser *p, const jtoken *t) {
    p->loop = p->loop || is_text(t, JT_NAME, "loop");
    p->varargs = p->varargs || is_text(t, JT_NAME, "varargs");
    p->kwargs = p->kwargs || is_text(t, JT_NAME, "kwargs");
    p->caller = p->caller || is_text(t, JT_NAME, "caller");
}

static jnode *parse_name(jparser *p, bool with_namespace) {
    const jtoken *t = p->at++;
    bool truth = is_text(t, JT_NAME, "true") || is_text(t, JT_NAME, "True");
    if (truth || is_text(t, JT_NAME, "false") || is_text(t, JT_NAME, "False"))
        return constant(p, t->line, fe_j_bool(truth));
    if (is_text(t, JT_NAME, "none") || is_text(t, JT_NAME, "None")) return constant(p, t->line, fe_j_none());
    note_name(p, t);
    bool ref = with_namespace && fe_j_take_op(p, ".");
    jnode *n = fe_j_node(p, ref ? JN_NSREF : JN_NAME, t->line);
    n->name = fe_j_name(t->text, t->len);
    if (ref) n->attr = fe_j_expect_any_name(p, "an attribute's name");
    return n;
}

/* Strings side by side are one. */
static jnode *parse_string(jparser *p) {
    const jtoken *first = p->at++;
    if (p->at->type != JT_STRING) return constant(p, first->line, fe_j_str(p->j, first->text, first->len));
    jbuf all = {0};
    fe_j_put(p->j, &all, first->text, first->len);
    for (; p->at->type == JT_STRING; p->at++) fe_j_put(p->j, &all, p->at->text, p->at->len);
    return constant(p, first->line, fe_j_str_of(p->j, &all));
}

/* Elements up to the closing bracket; of a dict, keys and values by turns. */
static jnode *parse_elements(jparser *p, jnode_type type, const char *close) {
    jnode *n = fe_j_node(p, type, p->at++->line), **tail = NULL;
    while (!fe_j_is_op(p, close)) {
        if (n->list) {
            fe_j_expect_op(p, ",");
            if (fe_j_is_op(p, close)) break;
        }
        append(&n->list, &tail, fe_j_expression(p));
        if (type != JN_DICT) continue;
        fe_j_expect_op(p, ":");
        append(&n->list, &tail, fe_j_expression(p));
    }
    fe_j_expect_op(p, close);
    return n;
}

static jnode *parse_tuple(jparser *p, bool simple, bool with_namespace, bool with_condition, const char *end,
                          bool in_brackets);

static jnode *parse_primary(jparser *p, bool with_namespace) {
    const jtoken *t = p->at;
    if (t->type == JT_NAME) return parse_name(p, with_namespace);
    if (t->type == JT_STRING) return parse_string(p);
    if (t->type == JT_NUMBER) {
        p->at++;
        return constant(p, t->line, t->value);
    }
    if (fe_j_is_op(p, "[")) return parse_elements(p, JN_LIST, "]");
    if (fe_j_is_op(p, "{")) return parse_elements(p, JN_DICT, "}");
    if (!fe_j_take_op(p, "(")) fe_j_unexpected(p, "an expression");
    jnode *n = parse_tuple(p, false, false, true, NULL, true);
    fe_j_expect_op(p, ")");
    return n;
}

/* ---- What follows a value: attributes, items, calls, filters, tests ---- */

/* a, a:b, a:b:c, each of a, b and c as it likes. */
static jnode *parse_subscript(jparser *p) {
    size_t line = p->at->line;
    jnode *start = fe_j_is_op(p, ":") ? NULL : fe_j_expression(p);
    if (!fe_j_take_op(p, ":")) return start;
    jnode *n = fe_j_node(p, JN_SLICE, line);
    n->a = start;
    if (!fe_j_is_op(p, ":") && !fe_j_is_op(p, "]") && !fe_j_is_op(p, ",")) n->b = fe_j_expression(p);
    if (fe_j_take_op(p, ":") && !fe_j_is_op(p, "]") && !fe_j_is_op(p, ",")) n->c = fe_j_expression(p);
    return n;
}

static jnode *parse_item(jparser *p, jnode *node) {
    jnode *n = fe_j_node(p, JN_ITEM, p->at++->line), *list = NULL, **tail = NULL;
    size_t count = 0;
    for (; !fe_j_is_op(p, "]"); count++) {
        if (count) fe_j_expect_op(p, ",");
        append(&list, &tail, parse_subscript(p));
        if (list->next && (list->type == JN_SLICE || *tail)) fe_j_unexpected(p, "no slice in a tuple");
    }
    p->at++;
    n->a = node;
    n->b = list;
    if (count == 1) return n;
    n->b = fe_j_node(p, JN_TUPLE, n->line);
    n->b->list = list;
    return n;
}

static jnode *parse_attribute(jparser *p, jnode *node) {
    size_t line = p->at++->line;
    bool number = p->at->type == JT_NUMBER && p->at->value.type == J_INT;
    jnode *n = fe_j_node(p, number ? JN_ITEM : JN_ATTR, line);
    n->a = node;
    if (number) {
        n->b = constant(p, p->at->line, p->at->value);
        p->at++;
    } else {
        n->name = fe_j_expect_any_name(p, "a name or number behind '.'");
    }
    return n;
}

static jnode *parse_argument(jparser *p) {
    size_t line = p->at->line;
    bool star = fe_j_take_op(p, "*"), stars = !star && fe_j_take_op(p, "**");
    if (star || stars) {
        jnode *n = fe_j_node(p, star ? JN_STAR : JN_STAR_STAR, line);
        n->a = fe_j_expression(p);
        return n;
    }
    if (p->at->type != JT_NAME || !is_text(p->at + 1, JT_OPERATOR, "=")) return fe_j_expression(p);
    jnode *n = fe_j_node(p, JN_KEYWORD, line);
    n->name = fe_j_expect_any_name(p, "a name");
    p->at++;
    n->a = fe_j_expression(p);
    return n;
}

/* At the opening bracket: the arguments up to the closing one, in the order that Python asks for. */
static jnode *parse_arguments(jparser *p) {
    size_t line = p->at->line;
    jnode *list = NULL, **tail = NULL;
    int reached = 0; /* 1: a keyword, 2: *, 3: ** */
    fe_j_expect_op(p, "(");
    while (!fe_j_is_op(p, ")")) {
        if (list) {
            fe_j_expect_op(p, ",");
            if (fe_j_is_op(p, ")")) break;
        }
        jnode *n = parse_argument(p);
        int kind = n->type == JN_KEYWORD ? 1 : n->type == JN_STAR ? 2 : n->type == JN_STAR_STAR ? 3 : 0;
        bool fits = kind == 0 ? reached == 0 : kind == 1 ? reached < 3 : reached < kind;
        p->j->line = line;
        if (!fits) fe_j_fail(p->j, "the arguments of a call are out of order");
        reached = kind > reached ? kind : reached;
        append(&list, &tail, n);
    }
    p->at++;
    return list;
}

static jnode *parse_postfix(jparser *p, jnode *n) {
    for (;;) {
        if (fe_j_is_op(p, ".")) {
            n = parse_attribute(p, n);
        } else if (fe_j_is_op(p, "[")) {
            n = parse_item(p, n);
        } else if (fe_j_is_op(p, "(")) {
            jnode *call = fe_j_node(p, JN_CALL, p->at->line);
            call->a = n;
            call->list = parse_arguments(p);
            n = call;
        } else {
            return n;
        }
    }
}

/* The name of a filter or test, and its row; one that is not known must be, unless it may never be run. */
static void parse_row(jparser *p, jnode *n, const char *kind, const jbuiltin *(*find)(const char *name, size_t len)) {
    n->name = fe_j_expect_any_name(p, "a name");
    bool dotted = false;
    while (fe_j_take_op(p, ".")) {
        fe_j_expect_any_name(p, "a name");
        dotted = true;
    }
    n->row = dotted ? NULL : find(n->name.data, n->name.len);
    const char *name = fe_j_shown(p->j, n->name.data, n->name.len);
    p->j->line = n->line;
    if (n->row && !n->row->bound && !n->row->raw) fe_j_fail(p->j, "the %s '%s' is not supported", kind, name);
    if (n->row || p->soft || p->unknown.name) return;
    p->unknown.kind = kind;
    p->unknown.name = name;
    p->unknown.line = n->line;
}

jnode *fe_j_filters(jparser *p, jnode *node, bool inline_start) {
    while (inline_start || fe_j_take_op(p, "|")) {
        jnode *n = fe_j_node(p, JN_FILTER, p->at->line);
        inline_start = false;
        n->a = node;
        parse_row(p, n, "filter", fe_j_filter);
        if (fe_j_is_op(p, "(")) n->list = parse_arguments(p);
        node = n;
    }
    return node;
}

static jnode *parse_test(jparser *p, jnode *node) {
    jnode *n = fe_j_node(p, JN_TEST, p->at++->line);
    bool negated = fe_j_take_name(p, "not");
    n->a = node;
    parse_row(p, n, "test", fe_j_test);
    const jtoken *t = p->at;
    bool value = t->type == JT_STRING || t->type == JT_NUMBER || fe_j_is_op(p, "[") || fe_j_is_op(p, "{") ||
                 (t->type == JT_NAME && !fe_j_is_name(p, "else") && !fe_j_is_name(p, "or") && !fe_j_is_name(p, "and"));
    if (fe_j_is_op(p, "(")) {
        n->list = parse_arguments(p);
    } else if (value) {
        if (fe_j_is_name(p, "is")) fe_j_unexpected(p, "no second test behind 'is'");
        n->list = parse_postfix(p, parse_primary(p, false));
    }
    if (!negated) return n;
    jnode *not = fe_j_node(p, JN_NOT, n->line);
    not ->a = n;
    return not ;
}

static jnode *parse_filters_and_tests(jparser *p, jnode *n) {
    for (;;) {
        if (fe_j_is_op(p, "|")) {
            n = fe_j_filters(p, n, false);
        } else if (fe_j_is_name(p, "is")) {
            n = parse_test(p, n);
        } else if (fe_j_is_op(p, "(")) {
            n = parse_postfix(p, n);
        } else {
            return n;
        }
    }
}

/* ---- Operators, the tightest first ---- */

void fe_j_deeper(jparser *p) {
    p->j->line = p->at->line;
    if (p->j->depth >= NESTING) fe_j_fail_limit(p->j, "expressions or blocks are nested more than %d deep", NESTING);
    p->j->depth++;
}

static jnode *parse_unary(jparser *p, bool with_filter) {
    jnode *n;
    if (fe_j_is_op(p, "-") || fe_j_is_op(p, "+")) {
        fe_j_deeper(p);
        n = fe_j_node(p, fe_j_is_op(p, "-") ? JN_NEG : JN_POS, p->at->line);
        p->at++;
        n->a = parse_unary(p, false);
        fe_j_leave(p->j);
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    return with_filter ? parse_filters_and_tests(p, n) : n;
}

static jnode *with_filters(jparser *p) { return parse_unary(p, true); }

typedef struct binary_op {
    const char *sign;
    jop op;
} binary_op;

/* Operands that one of the operators stands between, from the left. */
static jnode *parse_binary(jparser *p, const binary_op *ops, size_t count, jnode *(*operand)(jparser *p)) {
    jnode *left = operand(p);
    for (size_t i = 0; i < count;) {
        size_t line = p->at->line;
        if (!fe_j_take_op(p, ops[i].sign)) {
            i++;
            continue;
        }
        jnode *n = fe_j_node(p, JN_BINARY, line);
        n->op = ops[i].op;
        n->a = left;
        n->b = operand(p);
        left = n;
        i = 0;
    }
    return left;
}

static jnode *parse_pow(jparser *p) {
    static const binary_op ops[] = {{"**", JOP_POW}};
    return parse_binary(p, ops, 1, with_filters);
}

static jnode *parse_product(jparser *p) {
    static const binary_op ops[] = {{"*", JOP_MUL}, {"/", JOP_DIV}, {"//", JOP_FLOORDIV}, {"%", JOP_MOD}};
    return parse_binary(p, ops, 4, parse_pow);
}

static jnode *parse_concat(jparser *p) {
    size_t line = p->at->line;
    jnode *first = parse_product(p), **tail = NULL;
    if (!fe_j_is_op(p, "~")) return first;
    jnode *n = fe_j_node(p, JN_CONCAT, line);
    append(&n->list, &tail, first);
    while (fe_j_take_op(p, "~")) append(&n->list, &tail, parse_product(p));
    return n;
}

static jnode *parse_sum(jparser *p) {
    static const binary_op ops[] = {{"+", JOP_ADD}, {"-", JOP_SUB}};
    return parse_binary(p, ops, 2, parse_concat);
}

static bool take_comparison(jparser *p, jop *op) {
    static const binary_op ops[] = {{"==", JOP_EQ}, {"!=", JOP_NE}, {">", JOP_GT},
                                    {">=", JOP_GE}, {"<", JOP_LT},  {"<=", JOP_LE}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!fe_j_take_op(p, ops[i].sign)) continue;
        *op = ops[i].op;
        return true;
    }
    *op = JOP_IN;
    if (fe_j_take_name(p, "in")) return true;
    if (!fe_j_is_name(p, "not") || !is_text(p->at + 1, JT_NAME, "in")) return false;
    *op = JOP_NOT_IN;
    p->at += 2;
    return true;
}

static jnode *parse_comparison(jparser *p) {
    jnode *first = parse_sum(p), *n = NULL, **tail = NULL;
    jop op;
    for (size_t line; line = p->at->line, take_comparison(p, &op);) {
        if (!n) n = fe_j_node(p, JN_COMPARE, line);
        jnode *operand = fe_j_node(p, JN_OPERAND, line);
        operand->op = op;
        operand->a = parse_sum(p);
        append(&n->list, &tail, operand);
    }
    if (!n) return first;
    n->a = first;
    return n;
}

static jnode *parse_not(jparser *p) {
    if (!fe_j_is_name(p, "not")) return parse_comparison(p);
    fe_j_deeper(p);
    jnode *n = fe_j_node(p, JN_NOT, p->at++->line);
    n->a = parse_not(p);
    fe_j_leave(p->j);
    return n;
}

static jnode *parse_logic(jparser *p, const char *word, jnode_type type, jnode *(*operand)(jparser *p)) {
    jnode *left = operand(p);
    while (fe_j_is_name(p, word)) {
        jnode *n = fe_j_node(p, type, p->at++->line);
        n->a = left;
        n->b = operand(p);
        left = n;
    }
    return left;
}

static jnode *parse_and(jparser *p) { return parse_logic(p, "and", JN_AND, parse_not); }
static jnode *parse_or(jparser *p) { return parse_logic(p, "or", JN_OR, parse_and); }

/* a if b else c. What its parts do not know, they need not: only what is run fails. */
static jnode *parse_condition(jparser *p) {
    const char *unknown = p->unknown.name;
    bool soft = p->soft;
    jnode *left = parse_or(p);
    while (fe_j_is_name(p, "if")) {
        jnode *n = fe_j_node(p, JN_COND, p->at++->line);
        p->unknown.name = unknown;
        p->soft = true;
        n->a = left;
        n->b = parse_or(p);
        if (fe_j_take_name(p, "else")) n->c = parse_condition(p);
        p->soft = soft;
        left = n;
    }
    return left;
}

static jnode *parse_expression(jparser *p, bool with_condition) {
    fe_j_deeper(p);
    jnode *n = with_condition ? parse_condition(p) : parse_or(p);
    fe_j_leave(p->j);
    return n;
}

jnode *fe_j_expression(jparser *p) { return parse_expression(p, true); }

static bool tuple_ends(const jparser *p, const char *end) {
    return p->at->type == JT_VARIABLE_END || p->at->type == JT_BLOCK_END || fe_j_is_op(p, ")") ||
           (end && fe_j_is_name(p, end));
}

static jnode *parse_tuple(jparser *p, bool simple, bool with_namespace, bool with_condition, const char *end,
                          bool in_brackets) {
    size_t line = p->at->line;
    jnode *list = NULL, **tail = NULL;
    bool is_tuple = false;
    for (;;) {
        if (list) fe_j_expect_op(p, ",");
        if (tuple_ends(p, end)) break;
        append(&list, &tail, simple ? parse_primary(p, with_namespace) : parse_expression(p, with_condition));
        if (!fe_j_is_op(p, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && list) return list;
    if (!is_tuple && !in_brackets) fe_j_unexpected(p, "an expression");
    jnode *n = fe_j_node(p, JN_TUPLE, line);
    n->list = list;
    return n;
}

jnode *fe_j_tuple(jparser *p, bool with_condition, const char *end) {
    return parse_tuple(p, false, false, with_condition, end, false);
}

static void check_target(jparser *p, const jnode *n) {
    p->j->line = n->line;
    if (n->type == JN_TUPLE) {
        for (const jnode *e = n->list; e; e = e->next) check_target(p, e);
    } else if (n->type != JN_NAME && n->type != JN_NSREF) {
        fe_j_fail(p->j, "that cannot be assigned to: a variable's name is needed");
    }
}

jnode *fe_j_target(jparser *p, bool with_namespace, const char *end) {
    jnode *n = parse_tuple(p, true, with_namespace, false, end, false);
    check_target(p, n);
    return n;
}

/* Expressions, run; and calls. */
#include "text/jinja_core.h"

#include <string.h>

const jbuiltin *fe_j_row(const jbuiltin *table, const char *name, size_t len) {
    for (; table->name; table++)
        if (strlen(table->name) == len && memcmp(table->name, name, len) == 0) return table;
    return NULL;
}

const jbuiltin *fe_j_filter(const char *name, size_t len) {
    const jbuiltin *row = fe_j_row(fe_j_filters_text, name, len);
    return row ? row : fe_j_row(fe_j_filters_seq, name, len);
}

const jbuiltin *fe_j_test(const char *name, size_t len) { return fe_j_row(fe_j_tests, name, len); }

/* ---- Calls ---- */

/* Where the parameter at `at` ends; *len: of its name; *optional: it has a '?'. */
static const char *parameter(const char *at, size_t *len, bool *optional) {
    const char *end = strchrnul(at, ' ');
    *optional = end > at && end[-1] == '?';
    *len = (size_t)(end - at) - *optional;
    return *end ? end + 1 : end;
}

static bool take_keyword(const jcall *call, const char *name, size_t len, jvalue *out) {
    for (size_t i = 0; i < call->keyword_count; i++) {
        const jstr *key = call->keywords[i].name;
        if (key->len != len || memcmp(key->data, name, len) != 0) continue;
        *out = call->keywords[i].value;
        return true;
    }
    return false;
}

void fe_j_bind(jinja *j, const jbuiltin *row, const jcall *call, jvalue out[static JCALL_PARAMS]) {
    const char *at = row->params;
    bool by_place = *at == '/', optional;
    size_t i = 0, used = 0;
    for (at += by_place; *at; i++) {
        const char *name = at;
        size_t len;
        at = parameter(at, &len, &optional);
        bool keyword = !by_place && take_keyword(call, name, len, &out[i]);
        if (keyword && i < call->count) fe_j_fail(j, "%s() got '%.*s' twice", row->name, (int)len, name);
        used += keyword;
        if (keyword) continue;
        out[i] = i < call->count ? call->args[i] : (jvalue){.type = J_ABSENT};
        if (i >= call->count && !optional) fe_j_fail(j, "%s() needs its argument '%.*s'", row->name, (int)len, name);
    }
    if (call->count > i) fe_j_fail(j, "%s() takes %zu arguments at most, got %zu", row->name, i, call->count);
    if (used < call->keyword_count) {
        const jstr *key = call->keywords[0].name;
        fe_j_fail(j, "%s() got a keyword that it does not take, such as '%s'", row->name,
                  fe_j_shown(j, key->data, key->len));
    }
}

jvalue fe_j_call_row(jinja *j, const jbuiltin *row, jvalue self, const jcall *call) {
    jvalue args[JCALL_PARAMS], result;
    if (!row->raw && !row->bound) fe_j_fail(j, "'%s' is not supported", row->name);
    fe_j_enter(j);
    if (row->raw) {
        result = row->raw(j, self, call);
    } else {
        fe_j_bind(j, row, call, args);
        result = row->bound(j, self, args);
    }
    fe_j_leave(j);
    return result;
}

static jvalue call_joiner(jinja *j, struct jcycle *c) { return c->at++ ? c->items[0] : fe_j_text(j, ""); }

jvalue fe_j_call(jinja *j, jvalue callee, const jcall *call) {
    switch (callee.type) {
    case J_UNDEFINED: fe_j_fail(j, "%s", callee.hint);
    case J_BUILTIN: return fe_j_call_row(j, callee.bound->row, callee.bound->self, call);
    case J_MACRO: return fe_j_call_macro(j, callee.macro, call);
    case J_LOOP:
        if (call->count != 1 || call->keyword_count) fe_j_fail(j, "loop() takes one argument");
        return fe_j_call_loop(j, callee.loop, call->args[0]);
    case J_JOINER: return call_joiner(j, callee.cycle);
    default: fe_j_fail(j, "'%s' object is not callable", fe_j_type(callee));
    }
}

/* ---- Arguments ---- */

typedef struct arguments {
    jvalue *args;
    jkeyword *keywords;
    size_t count, keyword_count, capacity, keyword_capacity;
} arguments;

static void add_argument(jinja *j, arguments *a, jvalue v) {
    if (a->count == a->capacity) {
        a->capacity = 2 * a->capacity + 4;
        jvalue *grown = fe_j_alloc(j, a->capacity, sizeof *grown);
        if (a->count) memcpy(grown, a->args, a->count * sizeof *grown);
        a->args = grown;
    }
    a->args[a->count++] = v;
}

static void add_keyword(jinja *j, arguments *a, jvalue name, jvalue v) {
    if (name.type != J_STR) fe_j_fail(j, "keywords must be strings, not '%s'", fe_j_type(name));
    for (size_t i = 0; i < a->keyword_count; i++)
        if (fe_j_equal(j, J_VALUE(J_STR, .str = a->keywords[i].name), name))
            fe_j_fail(j, "the call has the keyword '%s' twice", fe_j_shown(j, name.str->data, name.str->len));
    if (a->keyword_count == a->keyword_capacity) {
        a->keyword_capacity = 2 * a->keyword_capacity + 4;
        jkeyword *grown = fe_j_alloc(j, a->keyword_capacity, sizeof *grown);
        if (a->keyword_count) memcpy(grown, a->keywords, a->keyword_count * sizeof *grown);
        a->keywords = grown;
    }
    a->keywords[a->keyword_count++] = (jkeyword){name.str, v};
}

static void add_stars(jinja *j, arguments *a, jnode_type type, jvalue v) {
    if (type == JN_STAR) {
        const jseq *s = fe_j_to_seq(j, v);
        for (size_t i = 0; i < s->count; i++) add_argument(j, a, s->items[i]);
        return;
    }
    if (v.type != J_DICT) fe_j_fail(j, "what follows ** must be a mapping, not '%s'", fe_j_type(v));
    for (size_t i = 0; i < v.dict->count; i++) add_keyword(j, a, v.dict->keys[i], v.dict->values[i]);
}

jcall fe_j_eval_args(jinja *j, const jnode *list, jscope *scope) {
    arguments a = {0};
    for (const jnode *n = list; n; n = n->next) {
        bool plain = n->type != JN_KEYWORD && n->type != JN_STAR && n->type != JN_STAR_STAR;
        jvalue v = fe_j_eval(j, plain ? n : n->a, scope);
        if (plain)
            add_argument(j, &a, v);
        else if (n->type == JN_KEYWORD)
            add_keyword(j, &a, fe_j_str(j, n->name.data, n->name.len), v);
        else
            add_stars(j, &a, n->type, v);
    }
    return (jcall){a.args, a.count, a.keywords, a.keyword_count};
}

/* ---- Names ---- */

jvalue fe_j_lookup(jinja *j, jscope *scope, jname name) {
    for (; scope; scope = scope->parent) {
        for (const jvariable *v = scope->first; v; v = v->next) {
            fe_j_steps(j, 1);
            if (fe_j_same_name(v->name, name)) return v->value;
        }
    }
    const jbuiltin *row = fe_j_row(fe_j_globals, name.data, name.len);
    bool no_clock = !j->now && name.len == 12 && memcmp(name.data, "strftime_now", 12) == 0;
    if (!row || no_clock) return fe_j_undefined(j, "'%s' is undefined", fe_j_shown(j, name.data, name.len));
    jbound *bound = fe_j_alloc(j, 1, sizeof *bound);
    *bound = (jbound){.row = row};
    return J_VALUE(J_BUILTIN, .bound = bound);
}

/* ---- Expressions ---- */

static jvalue eval_list(jinja *j, const jnode *n, jscope *scope) {
    size_t count = 0, i = 0;
    for (const jnode *e = n->list; e; e = e->next) count++;
    jvalue *items = fe_j_alloc(j, count, sizeof *items);
    for (const jnode *e = n->list; e; e = e->next) items[i++] = fe_j_eval(j, e, scope);
    return fe_j_seq(j, n->type == JN_LIST ? J_LIST : J_TUPLE, items, count);
}

static jvalue eval_dict(jinja *j, const jnode *n, jscope *scope) {
    jdict *d = fe_j_dict(j, 4);
    for (const jnode *key = n->list; key; key = key->next->next) {
        jvalue k = fe_j_eval(j, key, scope);
        fe_j_dict_put(j, d, k, fe_j_eval(j, key->next, scope));
    }
    return J_VALUE(J_DICT, .dict = d);
}

static jvalue eval_comparison(jinja *j, const jnode *n, jscope *scope) {
    jvalue left = fe_j_eval(j, n->a, scope);
    for (const jnode *operand = n->list; operand; operand = operand->next) {
        jvalue right = fe_j_eval(j, operand->a, scope);
        j->line = n->line;
        if (!fe_j_compare(j, operand->op, left, right)) return fe_j_bool(false);
        left = right;
    }
    return fe_j_bool(true);
}

static jvalue eval_concat(jinja *j, const jnode *n, jscope *scope) {
    jbuf out = {0};
    for (const jnode *e = n->list; e; e = e->next) fe_j_print(j, &out, fe_j_eval(j, e, scope));
    return fe_j_str_of(j, &out);
}

static jvalue eval_item(jinja *j, const jnode *n, jscope *scope) {
    jvalue v = fe_j_eval(j, n->a, scope), ends[3];
    if (n->b->type != JN_SLICE) {
        jvalue key = fe_j_eval(j, n->b, scope);
        j->line = n->line;
        return fe_j_item(j, v, key);
    }
    const jnode *const parts[3] = {n->b->a, n->b->b, n->b->c};
    for (int i = 0; i < 3; i++) ends[i] = parts[i] ? fe_j_eval(j, parts[i], scope) : fe_j_none();
    j->line = n->line;
    return fe_j_slice(j, v, ends[0], ends[1], ends[2]);
}

static jvalue eval_row(jinja *j, const jnode *n, jvalue self, jscope *scope) {
    if (!n->row) {
        j->line = n->line;
        fe_j_fail(j, "there is no %s '%s'", n->type == JN_FILTER ? "filter" : "test",
                  fe_j_shown(j, n->name.data, n->name.len));
    }
    jcall call = fe_j_eval_args(j, n->list, scope);
    j->line = n->line;
    return fe_j_call_row(j, n->row, self, &call);
}

jvalue fe_j_eval_filters(jinja *j, const jnode *n, jvalue text, jscope *scope) {
    fe_j_enter(j);
    jvalue self = n->a ? fe_j_eval_filters(j, n->a, text, scope) : text;
    jvalue result = eval_row(j, n, self, scope);
    fe_j_leave(j);
    return result;
}

static jvalue eval_call(jinja *j, const jnode *n, jscope *scope) {
    jvalue callee = fe_j_eval(j, n->a, scope);
    jcall call = fe_j_eval_args(j, n->list, scope);
    j->line = n->line;
    return fe_j_call(j, callee, &call);
}

static jvalue eval_condition(jinja *j, const jnode *n, jscope *scope) {
    if (fe_j_truth(j, fe_j_eval(j, n->b, scope))) return fe_j_eval(j, n->a, scope);
    if (n->c) return fe_j_eval(j, n->c, scope);
    return fe_j_undefined(j, "the inline if on line %zu was false and has no else", n->line);
}

static jvalue eval_binary(jinja *j, const jnode *n, jscope *scope) {
    jvalue a = fe_j_eval(j, n->a, scope), b = fe_j_eval(j, n->b, scope);
    j->line = n->line;
    return fe_j_binary(j, n->op, a, b);
}

static jvalue eval_attribute(jinja *j, const jnode *n, jscope *scope) {
    jvalue v = fe_j_eval(j, n->a, scope);
    j->line = n->line;
    return fe_j_attribute(j, v, n->name);
}

static jvalue eval(jinja *j, const jnode *n, jscope *scope) {
    jvalue a;
    switch (n->type) {
    case JN_CONST: return n->value;
    case JN_NAME: return fe_j_lookup(j, scope, n->name);
    case JN_TUPLE:
    case JN_LIST: return eval_list(j, n, scope);
    case JN_DICT: return eval_dict(j, n, scope);
    case JN_COND: return eval_condition(j, n, scope);
    case JN_OR: return a = fe_j_eval(j, n->a, scope), fe_j_truth(j, a) ? a : fe_j_eval(j, n->b, scope);
    case JN_AND: return a = fe_j_eval(j, n->a, scope), fe_j_truth(j, a) ? fe_j_eval(j, n->b, scope) : a;
    case JN_NOT: return fe_j_bool(!fe_j_truth(j, fe_j_eval(j, n->a, scope)));
    case JN_COMPARE: return eval_comparison(j, n, scope);
    case JN_BINARY: return eval_binary(j, n, scope);
    case JN_CONCAT: return eval_concat(j, n, scope);
    case JN_NEG:
    case JN_POS: return fe_j_negate(j, fe_j_eval(j, n->a, scope), n->type == JN_NEG);
    case JN_ATTR: return eval_attribute(j, n, scope);
    case JN_ITEM: return eval_item(j, n, scope);
    case JN_CALL: return eval_call(j, n, scope);
    case JN_FILTER: return eval_row(j, n, fe_j_eval(j, n->a, scope), scope);
    case JN_TEST: return eval_row(j, n, fe_j_eval(j, n->a, scope), scope);
    default: fe_j_fail(j, "a slice stands where it cannot");
    }
}

jvalue fe_j_eval(jinja *j, const jnode *n, jscope *scope) {
    fe_j_enter(j);
    j->line = n->line;
    jvalue v = eval(j, n, scope);
    fe_j_leave(j);
    return v;
}

/* Statements, run: output, scopes, loops, macros. */
#include "text/jinja_core.h"

#include <string.h>

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow run(jinja *j, const jnode *body, jscope *scope);

static jscope *inner(jinja *j, jscope *parent) {
    jscope *s = fe_j_alloc(j, 1, sizeof *s);
    s->parent = parent;
    return s;
}

void fe_j_set(jinja *j, jscope *scope, jname name, jvalue v) {
    for (jvariable *x = scope->first; x; x = x->next) {
        fe_j_steps(j, 1);
        if (!fe_j_same_name(x->name, name)) continue;
        x->value = v;
        return;
    }
    jvariable *x = fe_j_alloc(j, 1, sizeof *x);
    *x = (jvariable){name, v, scope->first};
    scope->first = x;
}

static void assign_tuple(jinja *j, const jnode *target, jvalue v, jscope *scope) {
    const jseq *s = fe_j_to_seq(j, v);
    size_t count = 0, i = 0;
    for (const jnode *e = target->list; e; e = e->next) count++;
    if (s->count != count) fe_j_fail(j, "%zu values cannot be assigned to %zu names", s->count, count);
    for (const jnode *e = target->list; e; e = e->next) fe_j_assign(j, e, s->items[i++], scope);
}

void fe_j_assign(jinja *j, const jnode *target, jvalue v, jscope *scope) {
    if (target->type == JN_NAME) {
        fe_j_set(j, scope, target->name, v);
    } else if (target->type == JN_TUPLE) {
        assign_tuple(j, target, v, scope);
    } else {
        jvalue ns = fe_j_lookup(j, scope, target->name);
        if (ns.type != J_NAMESPACE)
            fe_j_fail(j, "only a namespace's attributes can be assigned to, and '%s' is none",
                      fe_j_shown(j, target->name.data, target->name.len));
        fe_j_dict_put(j, ns.dict, fe_j_str(j, target->attr.data, target->attr.len), v);
    }
}

/* jinja2 joins what blocks give as it is: other values than texts are an error there. */
static void put_text(jinja *j, jvalue v, const char *block) {
    if (v.type != J_STR) fe_j_fail(j, "a %s block must give a string, not '%s'", block, fe_j_type(v));
    fe_j_print(j, j->out, v);
}

/* What the body writes, as a text; *went: how it was left. */
static jvalue captured(jinja *j, const jnode *body, jscope *scope, flow *went) {
    jbuf text = {0}, *outer = j->out;
    j->out = &text;
    *went = run(j, body, scope);
    j->out = outer;
    return fe_j_str_of(j, &text);
}

/* ---- Loops ---- */

typedef struct filtered {
    const jnode *loop;
    jscope *scope;
} filtered;

/* jinja2 hands on what the loop's names were given, tuples where the target has them. */
static jvalue target_value(jinja *j, const jnode *target, jscope *scope) {
    if (target->type != JN_TUPLE) return fe_j_lookup(j, scope, target->name);
    size_t count = 0, i = 0;
    for (const jnode *e = target->list; e; e = e->next) count++;
    jvalue *items = fe_j_alloc(j, count, sizeof *items);
    for (const jnode *e = target->list; e; e = e->next) items[i++] = target_value(j, e, scope);
    return fe_j_seq(j, J_TUPLE, items, count);
}

/* The next value that the loop's own `if` lets through; asked for only when it is needed. */
static bool next_filtered(jinja *j, jiter *it, jvalue *out) {
    const filtered *f = it->data;
    while (fe_j_next(j, it->inner, out)) {
        jscope *scope = inner(j, f->scope);
        fe_j_assign(j, f->loop->a, *out, scope);
        if (!fe_j_truth(j, fe_j_eval(j, f->loop->c, scope))) continue;
        *out = target_value(j, f->loop->a, scope);
        return true;
    }
    return false;
}

static jiter *loop_iter(jinja *j, const jnode *n, jvalue over, jscope *scope) {
    jiter *it = fe_j_iter(j, over);
    if (!n->c) return it;
    filtered *f = fe_j_alloc(j, 1, sizeof *f);
    *f = (filtered){n, scope};
    return fe_j_make_iter(j, (jiter){.next = next_filtered, .inner = it, .data = f}).iter;
}

bool fe_j_loop_next(jinja *j, jloop *loop) {
    jvalue item = loop->after;
    if (item.type == J_ABSENT && !fe_j_next(j, loop->iter, &item)) return false;
    loop->after = (jvalue){.type = J_ABSENT};
    loop->index++;
    loop->before = loop->current;
    loop->current = item;
    return true;
}

static bool peek(jinja *j, jloop *loop) {
    jvalue next;
    if (loop->after.type == J_ABSENT && fe_j_next(j, loop->iter, &next)) loop->after = next;
    return loop->after.type != J_ABSENT;
}

/* What is left of a loop over something without a length is gone through to count it. */
static int64_t loop_length(jinja *j, jloop *loop) {
    if (loop->length >= 0) return loop->length;
    const jseq *rest = fe_j_to_seq(j, J_VALUE(J_ITER, .iter = loop->iter));
    loop->iter = fe_j_iter(j, J_VALUE(J_LIST, .seq = rest));
    loop->length = (int64_t)rest->count + loop->index + 1 + (loop->after.type != J_ABSENT);
    return loop->length;
}

jvalue fe_j_loop_attribute(jinja *j, jloop *loop, jname name) {
    static const char *const names[] = {"index", "index0",    "first",    "last",     "length", "revindex",
                                        "depth", "revindex0", "previtem", "nextitem", "depth0"};
    size_t i = 0, n = sizeof names / sizeof *names;
    while (i < n && (strlen(names[i]) != name.len || memcmp(names[i], name.data, name.len) != 0)) i++;
    switch (i) {
    case 0: return fe_j_int(loop->index + 1);
    case 1: return fe_j_int(loop->index);
    case 2: return fe_j_bool(loop->index == 0);
    case 3: return fe_j_bool(!peek(j, loop));
    case 4: return fe_j_int(loop_length(j, loop));
    case 5: return fe_j_int(loop_length(j, loop) - loop->index);
    case 6: return fe_j_int(loop->depth + 1);
    case 7: return fe_j_int(loop_length(j, loop) - loop->index - 1);
    case 8: return loop->index == 0 ? fe_j_undefined(j, "there is no previous item") : loop->before;
    case 9: return peek(j, loop) ? loop->after : fe_j_undefined(j, "there is no next item");
    case 10: return fe_j_int(loop->depth);
    default: return (jvalue){.type = J_ABSENT};
    }
}

static flow run_loop(jinja *j, const jnode *n, jvalue over, jscope *scope, int64_t depth) {
    bool finished = false; /* a body came to its end: else is for loops where none did */
    jloop *loop = fe_j_alloc(j, 1, sizeof *loop);
    *loop = (jloop){.iter = loop_iter(j, n, over, scope), .node = n, .scope = scope, .index = -1, .depth = depth};
    loop->length = -1;
    if (!n->c && over.type != J_LOOP) fe_j_length(j, over, &loop->length);
    while (fe_j_loop_next(j, loop)) {
        jscope *each = inner(j, scope);
        fe_j_assign(j, n->a, loop->current, each);
        if (n->uses_loop) fe_j_set(j, each, fe_j_name("loop", 4), J_VALUE(J_LOOP, .loop = loop));
        flow went = run(j, n->body, each);
        if (went == FLOW_BREAK) break;
        finished = finished || went == FLOW_ON;
    }
    return finished || !n->otherwise ? FLOW_ON : run(j, n->otherwise, inner(j, scope));
}

jvalue fe_j_call_loop(jinja *j, const jloop *loop, jvalue iterable) {
    if (!loop->node->recursive) fe_j_fail(j, "only a loop that is marked 'recursive' can be called");
    jbuf text = {0}, *outer = j->out;
    fe_j_enter(j);
    j->out = &text;
    run_loop(j, loop->node, iterable, loop->scope, loop->depth + 1);
    j->out = outer;
    fe_j_leave(j);
    return fe_j_str_of(j, &text);
}

static flow run_for(jinja *j, const jnode *n, jscope *scope) {
    jvalue over = fe_j_eval(j, n->b, scope);
    j->line = n->line;
    return run_loop(j, n, over, scope, 0);
}

/* ---- Macros ---- */

static const jvalue *find_keyword(const jcall *call, jname name, size_t *index) {
    for (size_t i = 0; i < call->keyword_count; i++) {
        const jstr *key = call->keywords[i].name;
        *index = i;
        if (key->len == name.len && memcmp(key->data, name.data, name.len) == 0) return &call->keywords[i].value;
    }
    return NULL;
}

/* What no parameter took: varargs, kwargs, caller, each where the body names it. */
static void bind_rest(jinja *j, const jmacro *m, const jcall *call, const bool *used, size_t params, bool has_caller,
                      jscope *scope) {
    const jnode *n = m->node;
    const char *name = n->named ? fe_j_shown(j, n->name.data, n->name.len) : "caller";
    jvalue caller = fe_j_undefined(j, "No caller defined");
    jdict *rest = fe_j_dict(j, call->keyword_count);
    for (size_t i = 0; i < call->keyword_count; i++) {
        const jstr *key = call->keywords[i].name;
        if (used[i]) continue;
        if (n->caller && !has_caller && key->len == 6 && memcmp(key->data, "caller", 6) == 0) {
            caller = call->keywords[i].value;
            continue;
        }
        if (!n->kwargs)
            fe_j_fail(j, "macro '%s' takes no keyword argument '%s'", name, fe_j_shown(j, key->data, key->len));
        fe_j_dict_put(j, rest, J_VALUE(J_STR, .str = key), call->keywords[i].value);
    }
    if (n->caller && !has_caller) fe_j_set(j, scope, fe_j_name("caller", 6), caller);
    if (n->kwargs) fe_j_set(j, scope, fe_j_name("kwargs", 6), J_VALUE(J_DICT, .dict = rest));
    size_t taken = fe_min(params, call->count);
    if (n->varargs)
        fe_j_set(j, scope, fe_j_name("varargs", 7),
                 fe_j_seq(j, J_TUPLE, taken < call->count ? call->args + taken : NULL, call->count - taken));
    else if (call->count > params)
        fe_j_fail(j, "macro '%s' takes not more than %zu arguments, got %zu", name, params, call->count);
}

static void bind_parameters(jinja *j, const jmacro *m, const jcall *call, jscope *scope) {
    bool *used = fe_j_alloc(j, call->keyword_count, sizeof *used), has_caller = false;
    size_t at = 0, index;
    for (const jnode *p = m->node->list; p; p = p->next, at++) {
        const jvalue *given = at < call->count ? &call->args[at] : find_keyword(call, p->name, &index);
        if (at >= call->count && given) used[index] = true;
        has_caller = has_caller || (p->name.len == 6 && memcmp(p->name.data, "caller", 6) == 0);
        fe_j_set(j, scope, p->name, given ? *given : (jvalue){.type = J_ABSENT});
    }
    bind_rest(j, m, call, used, at, has_caller, scope);
    /* Defaults may name other parameters, those before them with their values. */
    for (const jnode *p = m->node->list; p; p = p->next) {
        if (fe_j_lookup(j, scope, p->name).type != J_ABSENT) continue;
        const char *name = fe_j_shown(j, p->name.data, p->name.len);
        fe_j_set(j, scope, p->name,
                 p->a ? fe_j_eval(j, p->a, scope) : fe_j_undefined(j, "parameter '%s' was not provided", name));
    }
}

jvalue fe_j_call_macro(jinja *j, const jmacro *m, const jcall *call) {
    jscope *scope = inner(j, m->scope);
    flow went;
    bind_parameters(j, m, call, scope);
    return captured(j, m->node->body, scope, &went);
}

static jvalue make_macro(jinja *j, const jnode *n, jscope *scope) {
    jmacro *m = fe_j_alloc(j, 1, sizeof *m);
    *m = (jmacro){n, scope};
    return J_VALUE(J_MACRO, .macro = m);
}

/* The call, with the block as its keyword argument `caller`. */
static void run_call_block(jinja *j, const jnode *n, jscope *scope) {
    jvalue callee = fe_j_eval(j, n->a->a, scope);
    jcall call = fe_j_eval_args(j, n->a->list, scope);
    jkeyword *keywords = fe_j_alloc(j, call.keyword_count + 1, sizeof *keywords);
    if (call.keyword_count) memcpy(keywords, call.keywords, call.keyword_count * sizeof *keywords);
    keywords[call.keyword_count++] = (jkeyword){fe_j_text(j, "caller").str, make_macro(j, n->b, scope)};
    call.keywords = keywords;
    j->line = n->line;
    put_text(j, fe_j_call(j, callee, &call), "call");
}

/* ---- Statements ---- */

static flow run_if(jinja *j, const jnode *n, jscope *scope) {
    for (const jnode *branch = n->list; branch; branch = branch->next)
        if (!branch->a || fe_j_truth(j, fe_j_eval(j, branch->a, scope))) return run(j, branch->body, scope);
    return FLOW_ON;
}

static flow run_set_block(jinja *j, const jnode *n, jscope *scope) {
    flow went;
    jvalue text = captured(j, n->body, inner(j, scope), &went);
    if (went != FLOW_ON) return went;
    fe_j_assign(j, n->a, n->b ? fe_j_eval_filters(j, n->b, text, scope) : text, scope);
    return went;
}

static flow run_filter_block(jinja *j, const jnode *n, jscope *scope) {
    flow went;
    jscope *own = inner(j, scope);
    jvalue text = captured(j, n->body, own, &went);
    if (went == FLOW_ON) put_text(j, fe_j_eval_filters(j, n->a, text, own), "filter");
    return went;
}

static flow run_with(jinja *j, const jnode *n, jscope *scope) {
    jscope *own = inner(j, scope);
    for (const jnode *target = n->list; target; target = target->next->next)
        fe_j_assign(j, target, fe_j_eval(j, target->next, scope), own);
    return run(j, n->body, own);
}

static flow run_statement(jinja *j, const jnode *n, jscope *scope) {
    switch (n->type) {
    case JN_DATA: fe_j_put(j, j->out, n->value.str->data, n->value.str->len); break;
    case JN_OUTPUT:
        for (const jnode *e = n->list; e; e = e->next) fe_j_print(j, j->out, fe_j_eval(j, e, scope));
        break;
    case JN_IF: return run_if(j, n, scope);
    case JN_FOR: return run_for(j, n, scope);
    case JN_SET: fe_j_assign(j, n->a, fe_j_eval(j, n->b, scope), scope); break;
    case JN_SET_BLOCK: return run_set_block(j, n, scope);
    case JN_MACRO: fe_j_set(j, scope, n->name, make_macro(j, n, scope)); break;
    case JN_CALL_BLOCK: run_call_block(j, n, scope); break;
    case JN_FILTER_BLOCK: return run_filter_block(j, n, scope);
    case JN_WITH: return run_with(j, n, scope);
    case JN_BREAK: return FLOW_BREAK;
    case JN_CONTINUE: return FLOW_CONTINUE;
    default: return run(j, n->body, inner(j, scope)); /* JN_SCOPE */
    }
    return FLOW_ON;
}

static flow run(jinja *j, const jnode *body, jscope *scope) {
    flow went = FLOW_ON;
    fe_j_enter(j);
    for (const jnode *n = body; n && went == FLOW_ON; n = n->next) {
        fe_j_steps(j, 1);
        j->line = n->line;
        went = run_statement(j, n, scope);
    }
    fe_j_leave(j);
    return went;
}

void fe_j_run(jinja *j, const jnode *body, jscope *scope) { run(j, body, scope); }
